//! A root with nothing in it but the program: no systemd, no bus, no package tool, no tool at all. Each kind says in one
//! line what is missing, and whatever can be done without it is done.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::machine::Need;
use super::scratch::{Ended, HOST, MGMT, Scratch};

/// One resource of each kind that works through something of the machine, and what it has to say here.
const KINDS: &[(&str, &str, &str)] = &[
    ("svc", "state: running", "this needs systemd, and here"),
    ("cron", "schedule: daily, cmd: /mgmt --version", "this needs systemd, and here"),
    ("pkg", "state: installed", "this machine has no package tool (apt, dnf), and PackageKit cannot be asked"),
    ("pkg", "state: installed, provider: apt", "this machine has no apt-get, so provider apt cannot be used"),
    ("pkg", "state: installed, provider: dnf", "this machine has no dnf, so provider dnf cannot be used"),
    ("user", "state: exists", "this machine has no 'useradd': install its package"),
    ("group", "state: exists", "this machine has no 'groupadd': install its package"),
    ("mount", "path: /mnt, device: none, fstype: tmpfs", "this machine has no program 'mount'"),
    ("download", "url: 'https://localhost/it', path: /it", "this machine has no certificates to check https by"),
];

#[test]
fn each_kind_says_in_one_line_what_is_missing() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::copy(MGMT, root.join("mgmt")).unwrap();
    for directory in ["etc", "mnt", "proc"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    for (kind, parameters, says) in KINDS {
        let text = format!(
            "graph: bare\nresources:\n  {kind}:\n  - {{name: it, {parameters}}}\n  file:\n  \
             - {{name: out, path: /{kind}.out, content: x, state: exists}}\n"
        );
        fs::write(root.join("graph.yaml"), text).unwrap();
        let ended = alone(&root);
        let said = format!("{}{}", ended.out, ended.err);
        let of_it: Vec<&str> = said.lines().filter(|line| line.contains(&format!("{kind}[it]"))).collect();
        assert_eq!(of_it.len(), 1, "{kind}: {said}");
        assert!(of_it[0].contains(says), "{kind}: {}", of_it[0]);
        assert!(root.join(format!("{kind}.out")).exists(), "{kind}: nobody else is held up");
    }
}

#[test]
fn what_can_be_done_without_is_done() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::copy(MGMT, root.join("mgmt")).unwrap();
    for directory in ["etc", "proc"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let text = "graph: bare\nresources:\n  hostname:\n  - {name: alone}\n  line:\n  - {name: it, path: /etc/it, line: \
                here, create: true}\n  exec:\n  - {name: itself, cmd: /mgmt --version, isolate: true}\n";
    fs::write(root.join("graph.yaml"), text).unwrap();
    alone(&root).expect(0).says("3 changed").says("it runs in a process group of its own instead");
    assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "alone\n");
    assert_eq!(fs::read_to_string(root.join("etc/it")).unwrap(), "here\n");
}

/// The program in such a root, with processes and a host name of its own.
fn alone(root: &Path) -> Ended {
    let line = "mount -t proc proc \"$0/proc\" && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot \"$0\" \
                /mgmt apply --hostname \"$1\" /graph.yaml";
    let mut command = Command::new("unshare");
    command.args(["--uts", "--mount", "--pid", "--fork", "sh", "-c", line]).arg(root).arg(HOST);
    Ended::of(&mut command)
}
