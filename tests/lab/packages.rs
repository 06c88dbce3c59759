//! Packages on hosts with a real apt, a real PackageKit, and a repository of their own.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::booted::{BOOTED, Booted, REPOSITORY};
use super::machine::{Need, say};
use super::wait::{until, until_steady, until_within};

const PYTHON: &[Need] = &[Need::Program("python3")];
/// The daemon and its back end start slowly.
const LONG: Duration = Duration::from_secs(90);

/// A graph of packages in these states.
fn graph(packages: &[(&str, &str)]) -> String {
    by(packages, "auto")
}

fn by(packages: &[(&str, &str)], provider: &str) -> String {
    let mut text = "graph: packages\nresources:\n  pkg:\n".to_owned();
    for (name, state) in packages {
        writeln!(text, "  - {{name: {name}, state: '{state}', provider: {provider}}}").unwrap();
    }
    text
}

/// A host with these packages in its repository.
fn host(packages: &[(&str, &str, &[&str])]) -> Booted {
    let mut host = Booted::up();
    for (name, version, options) in packages {
        host.package(name, version, options);
    }
    host.attach();
    host
}

impl Booted {
    /// What stands of a package: its version, or how it stands if not well; empty if it does not.
    fn stands(&self, name: &str) -> String {
        let said = self.shell(&format!("dpkg-query -W -f='${{db:Status-Status}} ${{Version}}' {name} 2>/dev/null"));
        match said.split_once(' ') {
            Some(("installed", version)) => version.to_owned(),
            None | Some(("config-files" | "not-installed", _)) => String::new(),
            Some((how, _)) => how.to_owned(),
        }
    }

    /// Transactions of apt since the host was made.
    fn transactions(&self) -> usize {
        self.read("/var/log/apt/history.log").unwrap_or_default().matches("Start-Date").count()
    }

    /// Applies a graph once; its exit status, and all it said.
    fn apply(&self, graph: &str) -> (Option<i32>, String) {
        self.write("/etc/mgmt/once.yaml", graph);
        let ended =
            self.ended(&["mgmt", "apply", "--hostname", "once", "--prefix", "/var/lib/once", "/etc/mgmt/once.yaml"]);
        (ended.code, ended.out + &ended.err)
    }

    #[track_caller]
    fn applies(&self, graph: &str) -> String {
        let (code, said) = self.apply(graph);
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

/// Waits until a package stands so; how long that took.
fn until_stands(host: &Booted, name: &str, version: &str) -> Duration {
    let start = Instant::now();
    until_within(LONG, &format!("{name} stands as '{version}'"), || host.stands(name) == version);
    start.elapsed()
}

/// All states, and departures from each.
fn states(host: &mut Booted, provider: &str) {
    let wanted =
        |third: &str| by(&[("pa", "installed"), ("pb", "newest"), ("pc", third), ("pd", "uninstalled")], provider);
    host.run(&["apt-get", "install", "-qqy", "pb=1.0", "pd"]);
    let agent = host.agent(&wanted("1.0"));
    for (name, version) in [("pa", "1.0"), ("pb", "2.0"), ("pc", "1.0"), ("pd", "")] {
        until_stands(host, name, version);
    }

    host.run(&["dpkg", "-r", "pa"]);
    let took = until_stands(host, "pa", "1.0");
    say(&format!("{provider}: a package removed by dpkg -r stands again after {took:.2?}"));
    host.run(&["sh", "-c", "dpkg -i /srv/lab-repo/pd_1.0_all.deb"]);
    let took = until_stands(host, "pd", "");
    say(&format!("{provider}: a package installed by dpkg -i is gone after {took:.2?}"));

    host.write("/etc/mgmt/graph.yaml", &wanted("2.0"));
    until_stands(host, "pc", "2.0");
    host.write("/etc/mgmt/graph.yaml", &wanted("1.0"));
    until_stands(host, "pc", "1.0");

    host.package("pb", "3.0", &[]);
    host.attach();
    let took = until_stands(host, "pb", "3.0");
    say(&format!("{provider}: a new version stands {took:.2?} after apt-get update"));
    assert_eq!(agent.end(), Some(0), "{}", host.log());

    let again = host.applies(&wanted("1.0"));
    assert!(!again.contains("installed 1.0") && !again.contains("changed from"), "{again}");
    host.run(&["dpkg", "-r", "pa"]);
    host.write("/etc/mgmt/once.yaml", &wanted("2.0"));
    let plan = host.shell("mgmt plan --hostname once --prefix /var/lib/once /etc/mgmt/once.yaml");
    assert!(plan.contains("is not installed") && plan.contains("is 1.0, wanted 2.0"), "{plan}");
    assert_eq!(host.stands("pa"), "");
}

fn four() -> Booted {
    host(&[
        ("pa", "1.0", &[]),
        ("pb", "1.0", &[]),
        ("pb", "2.0", &[]),
        ("pc", "1.0", &[]),
        ("pc", "2.0", &[]),
        ("pd", "1.0", &[]),
    ])
}

#[test]
fn packages_are_installed_updated_and_removed_and_stay_so() {
    needs!(BOOTED, REPOSITORY);
    states(&mut four(), "auto");
}

#[test]
fn packagekit_installs_updates_and_removes() {
    needs!(BOOTED, REPOSITORY);
    states(&mut four(), "packagekit");
}

/// What dnf and a repository of its own need. Debian has them, and no machine has them by itself.
const DNF: &[&str] = &["dnf", "rpm", "createrepo-c"];

/// A host with dnf, from this machine or from the network if that may be asked (`MGMT_LAB_DOWNLOAD`).
fn with_dnf() -> Option<Booted> {
    let host = Booted::up();
    let missing = ["dnf", "rpmbuild", "createrepo_c"].map(|program| host.ended(&["which", program]).code != Some(0));
    if !missing.contains(&true) {
        return Some(host);
    }
    if std::env::var_os("MGMT_LAB_DOWNLOAD").is_none() {
        say("skipped: dnf is not here, and may not be fetched (MGMT_LAB_DOWNLOAD=1 fetches 17 MB from Debian)");
        return None;
    }
    let archives = tempfile::tempdir().unwrap();
    let cache = format!("Dir::Cache::archives={}", archives.path().display());
    let mut fetch = Command::new("apt-get");
    fetch.args(["install", "-qqy", "--no-install-recommends", "--download-only", "-o", &cache]).args(DNF);
    if !fetch.stdout(Stdio::null()).status().unwrap().success() {
        say("skipped: dnf could not be fetched");
        return None;
    }
    for entry in fs::read_dir(archives.path()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), host.path("/srv").join(entry.file_name())).unwrap();
    }
    host.run(&["sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg -i /srv/*.deb"]);
    Some(host)
}

/// Makes a package of rpm, and a repository of all there are.
fn rpm(host: &Booted, name: &str, version: &str, more: &str) {
    let spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n{more}\n%description\nx\n\
         %files\n"
    );
    host.write("/srv/spec", &spec);
    host.write("/etc/yum.repos.d/lab.repo", "[lab]\nname=lab\nbaseurl=file:///srv/rpm\ngpgcheck=0\nenabled=1\n");
    let make = "rpmbuild -bb --quiet --define '_rpmdir /srv/rpm' /srv/spec && createrepo_c -q /srv/rpm";
    host.run(&["sh", "-c", make]);
}

#[test]
fn dnf_installs_updates_and_removes() {
    needs!(BOOTED);
    let Some(host) = with_dnf() else { return };
    for (name, version) in [("pa", "1.0"), ("pb", "1.0"), ("pc", "1.0"), ("pc", "2.0"), ("pd", "1.0")] {
        rpm(&host, name, version, "");
    }
    rpm(&host, "torn", "1.0", "Requires: nowhere");
    host.run(&["dnf", "-qy", "install", "pb", "pd"]);
    rpm(&host, "pb", "2.0", "");
    host.run(&["dnf", "-q", "--refresh", "makecache"]);
    let wanted =
        |third: &str| by(&[("pa", "installed"), ("pb", "newest"), ("pc", third), ("pd", "uninstalled")], "dnf");
    let stand = || {
        host.run(&[
            "sh",
            "-c",
            "rpm -qa --qf '%{NAME}-%{VERSION} ' pa pb pc pd torn | tr ' ' '\n' | sort | tr '\n' ' '",
        ])
    };
    let agent = host.agent(&wanted("1.0-1"));
    let soon = |what: &str| until_within(LONG, what, || stand().trim() == what);
    soon("pa-1.0 pb-2.0 pc-1.0");
    host.write("/etc/mgmt/graph.yaml", &wanted("2.0-1"));
    soon("pa-1.0 pb-2.0 pc-2.0");
    host.write("/etc/mgmt/graph.yaml", &wanted("1.0-1"));
    soon("pa-1.0 pb-2.0 pc-1.0");
    let start = Instant::now();
    host.run(&["rpm", "-e", "pa"]);
    soon("pa-1.0 pb-2.0 pc-1.0");
    say(&format!("dnf: a package removed by rpm -e stands again after {:.2?}", start.elapsed()));
    rpm(&host, "pb", "3.0", "");
    host.run(&["dnf", "-q", "--refresh", "makecache"]);
    soon("pa-1.0 pb-3.0 pc-1.0");
    assert_eq!(agent.end(), Some(0), "{}", host.log());
    host.run(&["rpm", "-e", "pa"]);
    let bad = [("torn", "installed"), ("pa", "installed"), ("nosuch", "installed"), ("pc", "9-9")];
    let (code, said) = host.apply(&by(&bad, "dnf"));
    assert_eq!((code, stand().trim()), (Some(1), "pa-1.0 pb-3.0 pc-1.0"), "{said}");
    for words in ["nothing provides nowhere", "know none of this name", "No match for argument: pc-9-9"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn packagekit_says_what_is_wrong_and_survives_its_death() {
    needs!(BOOTED, REPOSITORY);
    let host = host(&[
        ("pa", "1.0", &[]),
        ("bad", "1.0", &["--script", "postinst=exit 1"]),
        ("torn", "1.0", &["--depends", "nowhere"]),
        ("slow", "1.0", SLOW),
    ]);
    let wanted = [("pa", "installed"), ("nosuch", "installed"), ("bad", "installed"), ("torn", "installed")];
    let (code, said) = host.apply(&by(&wanted, "packagekit"));
    assert_eq!((code, host.stands("pa").as_str()), (Some(1), "1.0"), "{said}");
    for words in ["know none of this name", "installed bad package post-installation script", "nowhere"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    host.applies(&by(&[("bad", "uninstalled"), ("pa", "uninstalled")], "packagekit"));

    let agent = host.agent(&by(&[("slow", "installed")], "packagekit"));
    until("the installation has begun", || host.read("/run/began").is_some());
    host.shell("kill -9 $(pidof packagekitd) $(pidof dpkg)");
    host.write("/run/go", "");
    until_stands(&host, "slow", "1.0");
    assert_eq!(host.shell("dpkg --audit"), "");
    // The bus comes back, and so do its signals.
    host.run(&["systemctl", "restart", "dbus"]);
    host.run(&["dpkg", "-r", "slow"]);
    until_stands(&host, "slow", "1.0");
    assert_eq!(agent.end(), Some(0), "{}", host.log());
}

#[test]
fn a_machine_without_a_tool_says_so_in_a_line() {
    needs!(BOOTED, REPOSITORY);
    let host = host(&[("pa", "1.0", &[])]);
    host.run(&["rm", "/usr/bin/apt-get"]);
    host.run(&["systemctl", "mask", "--now", "packagekit"]);
    for (provider, words) in [
        ("apt", "this machine has no apt-get, so provider apt cannot be used"),
        ("dnf", "this machine has no dnf, so provider dnf cannot be used"),
        ("auto", "PackageKit cannot be asked"),
    ] {
        let (code, said) = host.apply(&by(&[("pa", "installed")], provider));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn many_packages_are_one_transaction_and_bad_ones_are_told_apart() {
    needs!(BOOTED, REPOSITORY);
    let mut host = host(&[("held", "1.0", &[]), ("bad", "1.0", &["--script", "postinst=exit 1"])]);
    host.packages("many", 50);
    host.package("held", "2.0", &[]);
    host.package("torn", "1.0", &["--depends", "nowhere"]);
    host.attach();
    host.run(&["apt-get", "install", "-qqy", "held=1.0"]);
    host.run(&["apt-mark", "hold", "held"]);
    let before = host.transactions();

    let names: Vec<_> = (1..=50).map(|number| format!("many{number}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| (name.as_str(), "installed")).collect();
    all.extend([("held", "newest"), ("bad", "installed"), ("nosuch", "installed")]);
    let (code, said) = host.apply(&graph(&all));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(host.transactions() - before, 1, "{said}");
    assert!(names.iter().all(|name| said.contains(&format!("pkg[{name}]"))), "each is reported: {said}");
    for words in [
        "is held at 1.0 (apt-mark unhold held)",
        "installed bad package post-installation script subprocess returned error exit status 1",
        "the sources of packages know none of this name",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(host.run(&["sh", "-c", "ls /usr/share/lab/many* | wc -l"]), "50\n");

    // Whoever cannot be installed makes apt refuse all: the others do without it, though bad still fails beside them.
    host.run(&["apt-get", "purge", "-qqy", "bad"]);
    let all = [("many1", "uninstalled"), ("many2", "uninstalled")];
    host.applies(&graph(&all));
    let (code, said) = host.apply(&graph(&[("many1", "installed"), ("torn", "installed"), ("many2", "installed")]));
    assert_eq!((code, host.stands("many1"), host.stands("many2")), (Some(1), "1.0".into(), "1.0".into()), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_repository_that_is_gone_a_full_disk_and_changed_settings_hinder_nothing_for_long() {
    needs!(BOOTED, REPOSITORY);
    let host = host(&[
        ("pa", "1.0", &[]),
        ("big", "1.0", &["--size", "2048"]),
        ("set", "1.0", &["--conf", "/etc/lab.conf=one"]),
        ("set", "2.0", &["--conf", "/etc/lab.conf=two"]),
    ]);
    host.run(&["mv", "/srv/lab-repo", "/srv/gone"]);
    let (code, said) = host.apply(&graph(&[("pa", "installed"), ("nosuch", "installed")]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Failed to fetch") && said.contains("their lists could not be renewed"), "{said}");
    host.run(&["mv", "/srv/gone", "/srv/lab-repo"]);
    host.applies(&graph(&[("pa", "installed")]));

    host.run(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/usr/share/lab"]);
    let (code, said) = host.apply(&graph(&[("big", "installed")]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the disk is full"), "{said}");
    host.run(&["umount", "/usr/share/lab"]);
    host.applies(&graph(&[("big", "installed")]));
    assert_eq!(host.stands("big"), "1.0");

    // Nor does a question hang: what the administrator has written stays.
    host.applies(&graph(&[("set", "1.0")]));
    host.write("/etc/lab.conf", "mine");
    host.applies(&graph(&[("set", "newest")]));
    assert_eq!((host.stands("set").as_str(), host.read("/etc/lab.conf").as_deref()), ("2.0", Some("mine")));
}

#[test]
fn the_lock_of_another_is_waited_for() {
    needs!(BOOTED, REPOSITORY, PYTHON);
    let host = host(&[("pa", "1.0", &[])]);
    let hold = "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); \
                open('/run/held', 'w'); time.sleep(20)";
    let mut holder = host.command(&["python3", "-c", hold]).stdout(Stdio::null()).spawn().unwrap();
    until("the lock is held", || host.read("/run/held").is_some());
    let start = Instant::now();
    let said = host.applies(&graph(&[("pa", "installed")]));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(15), "{took:?}: {said}");
    assert!(said.contains("waits for python3 (process"), "{said}");
    say(&format!("a lock held for 20 s by another: done {took:.1?} after"));
    holder.wait().unwrap();
}

/// A package whose installation waits for a file.
const SLOW: &[&str] = &["--script", "postinst=touch /run/began; until [ -e /run/go ]; do sleep 0.1; done"];

#[test]
fn a_tool_that_is_killed_in_the_middle_is_repaired() {
    needs!(BOOTED, REPOSITORY);
    let host = host(&[("slow", "1.0", SLOW), ("pa", "1.0", &[])]);
    let agent = host.agent(&graph(&[("slow", "installed"), ("pa", "installed")]));
    until("the installation has begun", || host.read("/run/began").is_some());
    host.shell("kill -9 $(pidof apt-get) $(pidof dpkg)");
    host.write("/run/go", "");
    until_stands(&host, "slow", "1.0");
    until_stands(&host, "pa", "1.0");
    assert!(host.log().contains("killed"), "{}", host.log());
    assert_eq!(agent.end(), Some(0), "{}", host.log());
    assert_eq!(host.shell("dpkg --audit"), "");
}

#[test]
fn a_transaction_outlives_the_agent_and_its_service() {
    needs!(BOOTED, REPOSITORY);
    let host = host(&[("slow", "1.0", SLOW)]);
    host.write("/etc/mgmt/graph.yaml", &graph(&[("slow", "installed")]));
    let run = ["mgmt", "run", "--hostname", "lab", "--prefix", "/var/lib/mgmt", "/etc/mgmt/graph.yaml"];
    host.run(&[&["systemd-run", "--unit=agent", "--quiet"], &run[..]].concat());
    until("the installation has begun", || host.read("/run/began").is_some());
    host.run(&["systemctl", "kill", "--signal=KILL", "agent"]);
    until("the agent is gone", || host.shell("systemctl is-active agent") != "active\n");
    assert_ne!(host.shell("pidof apt-get"), "", "apt-get goes on");
    host.write("/run/go", "");
    until_stands(&host, "slow", "1.0");
}

#[test]
fn five_hundred_packages() {
    needs!(BOOTED, REPOSITORY);
    let mut host = Booted::up();
    host.packages("many", 500);
    host.attach();
    let names: Vec<_> = (1..=500).map(|number| format!("many{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "installed")).collect();
    let before = host.transactions();
    let start = Instant::now();
    let agent = host.agent(&graph(&all));
    until_within(LONG * 4, "all are reported", || host.log().matches("installed 1.0").count() == 500);
    let took = start.elapsed();
    let transactions = host.transactions() - before;
    assert!(transactions <= 2, "{transactions} transactions");
    let memory = || host.shell("grep VmRSS /proc/$(cat /run/agent.pid)/status");
    let cpu = || host.shell("cut -d' ' -f14,15 /proc/$(cat /run/agent.pid)/stat");
    say(&format!("500 packages: {transactions} transactions, converged in {took:.1?}, {}", memory().trim()));

    let before = until_steady(Duration::from_secs(1), LONG, "the agent is quiet", cpu);
    host.run(&["dpkg", "-r", "many250"]);
    let start = Instant::now();
    until_within(LONG, "it stands again", || host.log().matches("installed 1.0").count() == 501);
    say(&format!("500 packages: one that was removed stands again after {:.2?}", start.elapsed()));
    let after = until_steady(Duration::from_secs(1), LONG, "the agent is quiet", cpu);
    say(&format!("500 packages: processor time of the agent for it, in ticks: {} to {}", before.trim(), after.trim()));
    assert_eq!(agent.end(), Some(0));
    let start = Instant::now();
    host.applies(&graph(&all));
    say(&format!("500 packages: applied again with nothing to do in {:.2?}", start.elapsed()));
}
