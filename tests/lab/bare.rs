//! A root with nothing in it but the program: no systemd, no bus, no package tool, no tool at all. Each kind says in one
//! line what is missing, and whatever can be done without it is done.

use std::fs;
use std::process::Command;

use super::machine::Need;
use super::scratch::{Ended, HOST, MGMT, Scratch};

/// One resource of each kind that works through something of the machine, and what it has to say here.
const KINDS: &[(&str, &str, &str)] = &[
    ("svc", "state: running", "this needs systemd, and here"),
    ("cron", "schedule: daily, cmd: /mgmt --version", "needs systemd"),
    ("pkg", "state: installed", "XX"),
    ("pkg", "state: installed, provider: apt", "this machine has no apt-get, so provider apt cannot be used"),
    ("pkg", "state: installed, provider: dnf", "XX"),
    ("user", "state: exists", "this machine has no 'useradd': install its package"),
    ("group", "state: exists", "this machine has no 'groupadd': install its package"),
    ("mount", "path: /etc, device: none, fstype: tmpfs", "XX"),
    ("sysctl", "key: kernel.hostname, value: it", "XX"),
    ("download", "url: 'https://localhost/it', path: /it", "this machine has no certificates to check https by"),
];

#[test]
fn each_kind_says_in_one_line_what_is_missing() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::copy(MGMT, root.join("mgmt")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    for (kind, parameters, says) in KINDS {
        let text = format!(
            "graph: bare\nresources:\n  {kind}:\n  - {{name: it, {parameters}}}\n  file:\n  \
             - {{name: out, path: /{kind}.out, content: x, state: exists}}\n"
        );
        fs::write(root.join("graph.yaml"), text).unwrap();
        let mut command = Command::new("env");
        command.args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot"]).arg(&root);
        let ended = Ended::of(command.args(["/mgmt", "apply", "--hostname", HOST, "/graph.yaml"]));
        let said = format!("{}{}", ended.out, ended.err);
        let of_it: Vec<&str> = said.lines().filter(|line| line.contains(&format!("{kind}[it]"))).collect();
        assert_eq!(of_it.len(), 1, "{kind}: {said}");
        assert!(of_it[0].contains(says), "{kind}: {}", of_it[0]);
        assert!(root.join(format!("{kind}.out")).exists(), "{kind}: nobody else is held up");
    }
}
