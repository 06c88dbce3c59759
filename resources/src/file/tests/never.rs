//! What is never touched.

use super::*;

#[test]
fn protected_paths_and_those_above_stay() {
    let mut bench = Bench::new();
    let state = bench.write("var/lib/state/log", "x");
    bench.write("var/lib/other", "x");
    bench.protected.push(state.parent().unwrap().to_path_buf());
    let gone = |path| [("path", path), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    for path in ["var/", "var/lib/", "var/lib/state/", "var/lib/state/log"] {
        let said = bench.check(&gone(path));
        assert!(said.contains("must stay, because this program lives by it"), "{path}: {said}");
    }
    assert!(bench.check(&[("path", "var"), ("content", "x"), ("force", "true")]).contains("must stay"));
    symlink("var", bench.path("alias")).unwrap();
    assert!(bench.check(&gone("alias/lib/")).contains("must stay"), "nor by another spelling");
    let purge = [("path", "var/"), ("recurse", "true"), ("purge", "true")];
    assert_eq!(bench.converge(&purge).0, "lib/other is not managed");
    assert_eq!(bench.tree("var"), "lib lib/state lib/state/log");
}

#[test]
fn a_source_does_not_replace_what_is_protected() {
    let mut bench = Bench::new();
    bench.write("from/state", "file");
    let state = bench.write("to/state/log", "x");
    bench.protected.push(state.parent().unwrap().to_path_buf());
    let tree = [("path", "to/"), ("source", "from/"), ("recurse", "true"), ("force", "true")];
    assert!(bench.check(&tree).contains("must stay"));
}

/// Mounts a small file system for as long as this lives.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mounted = rustix::mount::mount("none", &path, "tmpfs", rustix::mount::MountFlags::empty(), None);
        mounted.is_ok().then(|| Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn mount_points_and_other_file_systems_stay() {
    let bench = Bench::new();
    bench.write("d/x", "x");
    let Some(mounted) = Mounted::at(bench.path("d/deep/mount")) else {
        skipped("mounting takes root");
        return;
    };
    bench.write("d/deep/mount/data", "x");
    bench.write("d/deep/y", "x");
    let gone = |path| [("path", path), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.check(&gone("d/deep/mount/")), "fault: cannot remove d/deep/mount: it is a mount point");
    assert!(bench.check(&gone("d/")).contains("something is mounted there or below"));
    assert!(bench.check(&[("path", "d"), ("content", "x"), ("force", "true")]).contains("something is mounted"));
    bench.converge(&[("path", "d/"), ("recurse", "true"), ("purge", "true")]);
    assert_eq!(bench.tree("d"), "deep deep/mount deep/mount/data");
    bench.write("from/deep/mount/new", "x");
    let tree = [("path", "d/"), ("source", "from/"), ("recurse", "true")];
    assert!(bench.check(&tree).contains("it is on another file system"));
    drop(mounted);
}

#[test]
fn a_read_only_file_system_is_found_by_the_check() {
    let bench = Bench::new();
    let Some(mounted) = Mounted::at(bench.path("mount")) else {
        skipped("mounting takes root");
        return;
    };
    bench.write("mount/a", "x");
    rustix::mount::mount_remount(&mounted.0, rustix::mount::MountFlags::RDONLY, "").unwrap();
    for wanted in [("content", "y"), ("mode", "0600"), ("state", "absent")] {
        let said = bench.check(&[("path", "mount/a"), wanted]);
        assert!(said.contains("Read-only file system"), "{said}");
    }
    assert_eq!(bench.check(&[("path", "mount/a"), ("content", "x")]), "converged");
}

#[test]
fn an_immutable_file_is_found_by_the_check() {
    use rustix::fs::{IFlags, ioctl_setflags};
    let bench = Bench::new();
    let file = fs::File::open(bench.write("a", "x")).unwrap();
    if ioctl_setflags(&file, IFlags::IMMUTABLE).is_err() && skipped("files cannot be made immutable here") {
        return;
    }
    let said = bench.check(&[("path", "a"), ("content", "y")]);
    ioctl_setflags(&file, IFlags::empty()).unwrap();
    assert_eq!(said, "fault: cannot change a: it is immutable (see lsattr)");
}
