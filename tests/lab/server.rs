//! A server from its package to its running service, by one graph whose order nobody wrote; then each part of it undone
//! from outside, and repaired.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::booted::{BOOTED, Booted, REPOSITORY};
use super::machine::say;
use super::wait::{until, until_within};

/// Installing a package on a loaded machine.
const PATIENT: Duration = Duration::from_secs(120);

const DAEMON: &str = "/usr/sbin/labd=#!/bin/sh
mkdir -p /run/labd
echo $$ >/run/labd/pid
trap 'cat /etc/labd/labd.conf >>/run/labd/reloads' HUP
trap 'rm -f /run/labd/pid; exit 0' TERM
while :; do sleep 1000 & wait $!; done";

const UNIT: &str = "/lib/systemd/system/labd.service=[Unit]
Description=a daemon of the lab
[Service]
ExecStart=/bin/sh /usr/sbin/labd
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
[Install]
WantedBy=multi-user.target";

/// One edge is written: a change of the file refreshes the service.
const GRAPH: &str = "graph: server
resources:
  svc:
  - name: labd
    state: running
    startup: enabled
  file:
  - name: configuration
    path: /etc/labd/labd.conf
    state: exists
    content: |
      greeting = hello
    notify: [\"svc[labd]\"]
  pkg:
  - name: labd
    state: installed
";

/// The server, as seen from outside of its host.
struct Server {
    host: Booted,
    pid: PathBuf,
    wanted: PathBuf,
    database: PathBuf,
    reloads: PathBuf,
    configuration: PathBuf,
    unit: PathBuf,
}

impl Server {
    fn up() -> Self {
        let mut host = Booted::up();
        host.package("labd", "1.0", &["--file", DAEMON, "--file", UNIT, "--file", "/etc/labd/README=mine"]);
        host.attach();
        Self {
            pid: host.path("/run/labd/pid"),
            wanted: host.path("/etc/systemd/system/multi-user.target.wants/labd.service"),
            database: host.path("/var/lib/dpkg/status"),
            reloads: host.path("/run/labd/reloads"),
            configuration: host.path("/etc/labd/labd.conf"),
            unit: host.path("/usr/lib/systemd/system/labd.service"),
            host,
        }
    }

    fn is_installed(&self) -> bool {
        let status = fs::read_to_string(&self.database).unwrap_or_default();
        status.split("\n\n").any(|part| {
            part.lines().any(|line| line == "Package: labd") && part.contains("\nStatus: install ok installed\n")
        })
    }

    fn runs(&self) -> bool {
        self.pid.exists()
    }

    fn is_enabled(&self) -> bool {
        self.wanted.is_symlink()
    }

    fn is_configured(&self) -> bool {
        fs::read_to_string(&self.configuration).is_ok_and(|text| text == "greeting = hello\n")
    }

    fn plan(&self) -> String {
        self.host.shell("mgmt plan --hostname lab --prefix /var/lib/mgmt /etc/mgmt/graph.yaml")
    }

    /// How often the daemon has read its configuration again.
    fn reloads(&self) -> usize {
        fs::read_to_string(&self.reloads).map_or(0, |text| text.lines().count())
    }

    fn is_right(&self) -> bool {
        self.is_installed() && self.is_configured() && self.is_enabled() && self.unit.exists() && self.runs()
    }

    /// Undoes something, and says how long it stayed so: from the moment the command had ended, or from the moment it was
    /// first seen, until `repaired`.
    fn after(&self, what: &str, command: &[&str], repaired: impl Fn() -> bool) {
        let mut command = self.host.command(command);
        let mut child = command.spawn().unwrap();
        let (mut undone, mut seen) = (None, false);
        until_within(PATIENT, &format!("it is seen that somebody does: {what}"), || {
            seen |= !repaired();
            if seen && undone.is_none() {
                undone = Some(Instant::now());
            }
            seen || child.try_wait().unwrap().is_some()
        });
        let undone = undone.unwrap_or_else(Instant::now);
        until_within(PATIENT, &format!("it is repaired that somebody did: {what}"), &repaired);
        say(&format!("server: {what}: repaired {:.1} ms after it was seen", undone.elapsed().as_secs_f64() * 1e3));
        assert!(child.wait().unwrap().success(), "{what}");
        until_within(PATIENT, &format!("all is right after: {what}"), || self.is_right());
    }
}

#[test]
fn the_story_of_a_server() {
    needs!(BOOTED, REPOSITORY);
    let server = Server::up();
    let start = Instant::now();
    let agent = server.host.agent(GRAPH);
    until_within(PATIENT, "the server is installed, configured, enabled and running", || server.is_right());
    say(&format!("server: from nothing to running: {:.2} s", start.elapsed().as_secs_f64()));
    let log = server.host.log();
    assert!(!log.contains("failed"), "the order was right at the first try:\n{log}");
    until("it says so", || server.host.log().contains("converged"));
    assert_eq!(server.reloads(), 0, "a start spends the refresh");

    server.after("stop the service", &["systemctl", "stop", "labd"], || server.runs());
    server.after("disable it", &["systemctl", "disable", "labd"], || server.is_enabled());
    server.after("kill -9 its process", &["systemctl", "kill", "-s", "KILL", "labd"], || {
        server.host.read("/run/labd/pid").is_some_and(|pid| server.host.path(&format!("/proc/{}", pid.trim())).exists())
    });
    let before = server.reloads();
    server
        .after("change the configuration", &["sh", "-c", "echo oops >/etc/labd/labd.conf"], || server.is_configured());
    until("the daemon has read it again", || server.reloads() > before);
    server.after("delete the unit file", &["rm", "/usr/lib/systemd/system/labd.service"], || server.unit.exists());
    // Until then apt holds the lock that the next command needs.
    until("the transaction has ended", || server.host.log().contains("which it brought: repaired"));
    server.after("remove the package", &["dpkg", "-r", "labd"], || server.is_installed());
    // The daemon outlived its package: only the agent knows when it has looked at all of it.
    until_within(PATIENT, "a plan finds nothing to do", || server.is_right() && server.plan().contains("plan: 3 ok"));
    assert_eq!(agent.end(), Some(0), "{}", server.host.log());
    assert!(server.plan().contains("plan: 3 ok"), "it is still so");
}

#[test]
fn two_hundred_services_and_five_hundred_packages_in_one_graph() {
    needs!(BOOTED, REPOSITORY);
    let mut host = Booted::up();
    host.packages("many", 500);
    host.attach();
    let mut graph = "graph: large\nresources:\n  svc:\n".to_owned();
    for number in 1..=200 {
        let unit = format!("/etc/systemd/system/s{number}.service");
        host.write(&unit, "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n");
        graph += &format!("  - {{name: s{number}, state: running, startup: enabled}}\n");
    }
    graph += "  pkg:\n";
    for number in 1..=500 {
        graph += &format!("  - {{name: many{number}, state: installed}}\n");
    }
    host.write("/etc/mgmt/large.yaml", &graph);
    let apply = |what: &str| {
        let start = Instant::now();
        let ended = host.ended(&["mgmt", "apply", "--prefix", "/var/lib/large", "/etc/mgmt/large.yaml"]).expect(0);
        let all = ended.out + &ended.err;
        let last = all.lines().last().unwrap_or_default();
        say(&format!("200 services and 500 packages, {what}: {:.2} s: {last}", start.elapsed().as_secs_f64()));
        last.to_owned()
    };
    let first = apply("converge");
    assert!(first.contains("700 changed"), "{first}");
    let second = apply("re-check");
    assert!(second.contains("700 as wanted"), "{second}");
    let agent = host.agent(&graph);
    until_within(PATIENT, "the agent is converged", || host.log().contains("converged"));
    let memory = host.shell("grep -E 'VmRSS|VmHWM' /proc/$(cat /run/agent.pid)/status | tr -s '\\t\\n' ' '");
    say(&format!("200 services and 500 packages, an agent: {memory}"));
    assert_eq!(agent.end(), Some(0), "{}", host.log());
}
