//! Places that refuse: to an ordinary user, and in a root without anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::machine::Need;
use crate::scratch::{Ended, HOST, MGMT, Scratch, files};

const NOBODY: u32 = 65_534;

/// The program as nobody, from a copy that nobody may run wherever it was built.
fn as_nobody(scratch: &Scratch) -> Command {
    let copy = scratch.path("mgmt");
    if !copy.exists() {
        fs::copy(MGMT, &copy).unwrap();
    }
    let id = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(copy);
    command
}

#[test]
fn an_ordinary_user_is_told_what_he_may_not_do() {
    needs!(&[Need::Root, Need::Program("setpriv")]);
    let scratch = Scratch::new();
    let (own, theirs) = (scratch.directory("own"), scratch.directory("theirs"));
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(theirs.join("secret"), "theirs\n").unwrap();
    fs::set_permissions(theirs.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let wanted = ["new", "secret"].map(|name| (theirs.join(name), "ours\n"));
    let graph = scratch.graph(&files(wanted.into_iter().chain([(own.join("fine"), "ours\n")])));
    let run = |verb: &str| {
        let mut command = as_nobody(&scratch);
        Ended::of(command.args([verb, "--hostname", HOST, "--prefix"]).arg(own.join("state")).arg(&graph))
    };
    run("plan").expect(0).says("2 would fail").says("1 would change").says("ermission denied");
    assert!(!own.join("fine").exists(), "a plan touches nothing");
    run("apply").expect(1).says("2 failed").says("1 changed").says("ermission denied");
    assert_eq!(fs::read_to_string(own.join("fine")).unwrap(), "ours\n");
    assert_eq!(fs::read_to_string(theirs.join("secret")).unwrap(), "theirs\n");
    assert!(!theirs.join("new").exists());
    let mut command = as_nobody(&scratch);
    let ended =
        Ended::of(command.args(["apply", "--hostname", HOST, "--prefix"]).arg(theirs.join("state")).arg(&graph));
    ended.expect(73).says("ermission denied").says("--prefix");
}

#[test]
fn an_empty_root_with_the_program_in_it_is_enough() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::copy(MGMT, root.join("mgmt")).unwrap();
    let text = "graph: empty root\nresources:\n  file:\n  - {name: out, path: /out, content: \"made\\n\", state: exists, \
                owner: \"0\"}\n  - {name: d, path: /d/, state: exists}\n  exec:\n  - {name: itself, cmd: /mgmt --version}\n";
    fs::write(root.join("graph.yaml"), text).unwrap();
    let apply = || {
        let mut command = Command::new("env");
        Ended::of(command.args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot"]).arg(&root).args([
            "/mgmt",
            "apply",
            "--hostname",
            HOST,
            "/graph.yaml",
        ]))
    };
    apply().expect(0).says("3 changed");
    assert_eq!(fs::read_to_string(root.join("out")).unwrap(), "made\n");
    apply().expect(0).says("2 as wanted");
}
