//! Temporary files that a killed run has left behind.

use super::*;

struct Nobody(AtomicUsize);

impl Sink for Nobody {
    fn raised(&self, _: &[Ticket]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn ticked(&self, _: Ticket) {}
}

/// A number that no process has: this child has ended and been waited for.
fn dead() -> u32 {
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    let number = child.id();
    child.wait().unwrap();
    number
}

#[test]
fn strays_are_removed_once_and_others_left_alone() {
    let bench = Bench::new();
    let dead = dead();
    bench.write(&format!("d/.mgmt~{dead}-0"), "half");
    bench.write(&format!("d/.mgmt~{}-0", std::process::id()), "half");
    symlink("x", bench.path(&format!("d/.mgmt~{dead}-1"))).unwrap();
    symlink("x", bench.path("d/.mgmt~1-1")).unwrap();
    fs::create_dir(bench.path(&format!("d/.mgmt~{dead}-2"))).unwrap();
    for kept in [".mgmt~notes", ".mgmt~12", ".mgmt~-1", "mgmt~1-1"] {
        bench.write(&format!("d/{kept}"), "x");
    }
    let locked = fs::File::open(bench.write("d/.mgmt~1-7", "being written")).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let resource = bench.resource(&[("path", "d/a"), ("content", "x"), ("state", "exists")]);
    let before = bench.snapshot();
    assert_eq!(said(check(&resource, &Look::because(Cause::First))), "missing");
    assert_eq!(bench.snapshot(), before, "a check removes nothing");
    let watch = resource.watch(&Signal::elsewhere(Arc::new(Nobody(AtomicUsize::new(0))), 0)).unwrap();
    assert!(matches!(watch, Watch::Held(_)));
    let own_kind = format!(".mgmt~{dead}-2");
    let mut left: Vec<&str> =
        vec![".mgmt~-1", ".mgmt~1-1", ".mgmt~1-7", ".mgmt~12", ".mgmt~notes", "mgmt~1-1", &own_kind];
    left.sort_unstable();
    assert_eq!(bench.tree("d"), left.join(" "));
    bench.write(&format!("d/.mgmt~{dead}-9"), "half");
    drop(resource.watch(&Signal::elsewhere(Arc::new(Nobody(AtomicUsize::new(0))), 0)).unwrap());
    assert!(bench.exists(&format!("d/.mgmt~{dead}-9")), "a directory is cleaned once");
}

#[test]
fn a_failed_write_leaves_nothing() {
    let bench = Bench::new();
    bench.write("from", "x");
    let fix = bench.fix(&[("path", "d"), ("source", "from"), ("state", "exists")]);
    // Between check and apply somebody makes a directory there: the rename is refused.
    fs::create_dir(bench.path("d")).unwrap();
    let fault = runtime().block_on(fix.apply(Work::because(Cause::First))).unwrap_err();
    assert!(fault.to_string().contains("a directory stands there"), "{fault}");
    assert_eq!(bench.tree(""), "d from");
}

#[test]
fn a_full_disk_leaves_the_old_version() {
    let bench = Bench::new();
    fs::create_dir(bench.path("small")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("none", bench.path("small"), "tmpfs", flags, Some(c"size=64k")).is_err() {
        skipped("mounting takes root");
        return;
    }
    bench.write("small/a", "old");
    let said = bench.converge(&[("path", "small/a"), ("content", &"x".repeat(100_000))]);
    let (content, tree) = (bench.read("small/a"), bench.tree("small"));
    rustix::mount::unmount(bench.path("small"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(said.1.contains("No space left"), "{said:?}");
    assert_eq!((content.as_str(), tree.as_str()), ("old", "a"));
}
