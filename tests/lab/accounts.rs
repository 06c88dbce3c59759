//! Users, groups, names, lines, parameters and mounts of a host with a real systemd: made, found right, and repaired when
//! somebody else changes them.

use std::fmt::Write as _;
use std::time::Instant;

use super::booted::{BOOTED, Booted};
use super::machine::say;
use super::wait::until;

const GRAPH: &str = "\
graph: parts
resources:
  user:
  - {name: bob, uid: 4001, group: web, groups: [logs], homedir: /srv/bob, shell: /bin/sh}
  - {name: carol}
  group:
  - {name: web, gid: 4100}
  - {name: logs}
  file:
  - {name: f, path: /srv/f, content: hi, owner: bob, group: web, state: exists}
  - {name: data, path: /srv/data/, state: exists}
  hostname:
  - {name: names, hostname: web1.example.com, pretty_hostname: 'Web \"1\"'}
  line:
  - {name: root, path: /etc/conf, starts: 'Root ', line: Root no}
  - {name: hosts, path: /etc/hosts, block: \"192.0.2.1 one\\n192.0.2.2 two\\n\"}
  sysctl:
  - {name: net.ipv4.ip_forward, value: 1}
  mount:
  - {name: /srv/data, device: tmpfs, fstype: tmpfs, options: ['size=1m', nosuid]}
";

fn applied(host: &Booted, graph: &str) -> String {
    host.write("/etc/mgmt/apply.yaml", graph);
    let ended = host.ended(&["mgmt", "apply", "/etc/mgmt/apply.yaml"]);
    ended.out + &ended.err
}

/// Breaks something from outside, and says how long it took until it was right again.
fn repaired(host: &Booted, what: &str, line: &str, right: impl Fn() -> bool) {
    let said = host.shell(line);
    let start = Instant::now();
    until(what, right);
    say(&format!("repaired {:?} after: {line} {said}", start.elapsed()));
}

#[test]
fn parts_of_the_machine_are_made_kept_and_found_right() {
    needs!(BOOTED);
    let host = Booted::up();
    host.write("/etc/conf", "# kept\nRoot yes\nOther x\n");
    let plan = |graph: &str| {
        host.write("/etc/mgmt/apply.yaml", graph);
        host.ended(&["mgmt", "plan", "/etc/mgmt/apply.yaml"]).out
    };
    let planned = plan(GRAPH);
    assert!(planned.contains("group[web]: would change: missing"), "{planned}");
    assert!(!planned.contains("would fail"), "{planned}");
    assert_eq!(host.shell("getent passwd bob"), "", "a plan touches nothing");

    let agent = host.agent(GRAPH);
    let shell = |line: &str| host.shell(line);
    let mounted = || {
        let line = shell("grep ' /srv/data ' /proc/self/mountinfo");
        line.contains("size=1024k") && line.contains("nosuid")
    };
    until("all is there", || host.read("/srv/f").is_some() && mounted());
    until("names are set", || shell("hostname") == "web1.example.com\n");
    assert_eq!(shell("id -nG bob"), "web logs\n");
    assert_eq!(shell("stat -c %U:%G /srv/f /srv/bob"), "bob:web\nbob:web\n");
    until("a line is there", || host.read("/etc/conf").as_deref() == Some("# kept\nRoot no\nOther x\n"));
    let hosts = "# BEGIN mgmt hosts\n192.0.2.1 one\n192.0.2.2 two\n# END mgmt hosts\n";
    until("a block is there", || host.read("/etc/hosts").is_some_and(|text| text.ends_with(hosts)));
    assert!(host.read("/etc/machine-info").unwrap().contains("Web"));
    assert_eq!(shell("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    let persisted = host.read("/etc/sysctl.d/60-mgmt-net.ipv4.ip_forward.conf").unwrap();
    assert!(persisted.ends_with("net.ipv4.ip_forward = 1\n"), "{persisted}");
    assert!(host.read("/etc/fstab").unwrap().ends_with("tmpfs /srv/data tmpfs size=1m,nosuid 0 0\n"));

    repaired(&host, "a shell is back", "usermod -s /bin/false -G '' bob", || {
        shell("getent passwd bob").ends_with(":/bin/sh\n") && shell("id -nG bob") == "web logs\n"
    });
    repaired(&host, "a group is back", "gpasswd -d bob logs; groupdel logs", || shell("id -nG bob") == "web logs\n");
    repaired(&host, "a number is back", "groupmod -g 4200 web", || shell("id -g bob") == "4100\n");
    repaired(&host, "a user is back", "userdel carol", || shell("id -nu carol") == "carol\n");
    repaired(&host, "a name is back", "hostnamectl set-hostname other", || {
        shell("cat /etc/hostname; hostname") == "web1.example.com\nweb1.example.com\n"
    });
    repaired(&host, "the kernel's name is back", "hostname other", || shell("hostname") == "web1.example.com\n");
    repaired(&host, "a line is back", "echo 'Root maybe' >>/etc/conf; sed -i '/^Root no/d' /etc/conf", || {
        host.read("/etc/conf").as_deref() == Some("# kept\nOther x\nRoot no\n")
    });
    repaired(&host, "a block is back", "sed -i '/192.0.2.1/d' /etc/hosts", || {
        host.read("/etc/hosts").unwrap().ends_with(hosts)
    });
    repaired(&host, "a mount is back", "umount /srv/data", mounted);
    repaired(&host, "its options are back", "mount -o remount,size=2m,suid /srv/data", mounted);
    repaired(&host, "a line of fstab is back", "sed -i '/srv.data/d' /etc/fstab", || {
        host.read("/etc/fstab").unwrap().contains("/srv/data")
    });
    repaired(&host, "a file of sysctl is back", "rm /etc/sysctl.d/60-mgmt-*", || {
        host.read("/etc/sysctl.d/60-mgmt-net.ipv4.ip_forward.conf").is_some()
    });
    assert_eq!(agent.end(), Some(0));
    let again = applied(&host, GRAPH);
    assert!(again.contains(" as wanted") && !again.contains("changed"), "{again}");
}

#[test]
fn who_is_logged_in_is_not_removed_and_goes_later() {
    needs!(BOOTED);
    let host = Booted::up();
    let gone = "graph: gone\nresources:\n  group:\n  - {name: web, state: absent}\n  user:\n  - {name: bob, group: web, state: absent}\n";
    host.run(&["sh", "-c", "groupadd web && useradd -m -d /srv/bob -g web bob"]);
    host.run(&["sh", "-c", "setsid su bob -c 'exec sleep 1000' >/dev/null 2>&1 </dev/null & echo"]);
    until("bob runs something", || !host.shell("pgrep -u bob sleep").is_empty());
    let said = applied(&host, gone);
    assert!(said.contains("user bob is currently used by process"), "{said}");
    assert!(said.contains("end what it runs"), "{said}");
    assert_eq!(host.shell("id -ng bob"), "web\n", "nothing is half removed");
    host.shell("pkill -u bob");
    until("bob runs nothing", || host.shell("pgrep -u bob").is_empty());
    let said = applied(&host, gone);
    assert!(said.contains("2 changed"), "{said}");
    assert_eq!(host.shell("getent passwd bob; getent group web"), "");
    assert_eq!(host.shell("test -d /srv/bob && echo there"), "there\n", "a home is left");
}

#[test]
fn a_lock_of_the_accounts_is_awaited() {
    needs!(BOOTED);
    let host = Booted::up();
    host.write("/etc/mgmt/apply.yaml", "graph: g\nresources:\n  user:\n  - {name: bob}\n");
    // As `vipw` holds it: for two seconds, then it is gone.
    let line = "sleep 2 & p=$!; echo $p >/etc/passwd.lock; mgmt apply /etc/mgmt/apply.yaml & wait $p; rm -f /etc/passwd.lock; wait";
    let said = host.shell(line);
    assert!(said.contains("1 changed"), "{said}");
    assert_eq!(host.shell("id -nu bob"), "bob\n");
}

#[test]
fn a_mount_in_use_is_told_and_goes_later() {
    needs!(BOOTED);
    let host = Booted::up();
    host.run(&["sh", "-c", "mkdir /srv/m && mount -t tmpfs tmpfs /srv/m"]);
    host.run(&["sh", "-c", "cd /srv/m && setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo"]);
    until("somebody is in it", || !host.shell("fuser -m /srv/m 2>/dev/null").is_empty());
    let gone = "graph: g\nresources:\n  mount:\n  - {name: /srv/m, state: unmounted}\n";
    let said = applied(&host, gone);
    assert!(said.contains("/srv/m is busy (process ") && said.contains(" sleep)"), "{said}");
    host.shell("pkill sleep");
    until("nobody is in it", || host.shell("pgrep sleep").is_empty());
    assert!(applied(&host, gone).contains("1 changed"));
    let mut other = String::from("graph: g\nresources:\n  mount:\n");
    writeln!(other, "  - {{name: /srv/m, device: /dev/none, fstype: ext4, persist: false}}").unwrap();
    host.run(&["mount", "-t", "tmpfs", "tmpfs", "/srv/m"]);
    let said = applied(&host, &other);
    assert!(said.contains("tmpfs (tmpfs) is mounted there, and is not taken away"), "{said}");
    host.shell("umount /srv/m");
}
