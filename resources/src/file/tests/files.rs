//! Regular files.

use super::*;

#[test]
fn a_missing_file_is_created_only_with_state() {
    let bench = Bench::new();
    assert_eq!(bench.converge(&[("path", "a"), ("content", "hello")]).0, "converged");
    let file = [("path", "a"), ("content", "hello"), ("state", "exists")];
    assert_eq!(bench.converge(&file), ok("missing", "created, 5 bytes"));
    assert_eq!((bench.read("a"), bench.mode("a")), ("hello".to_owned(), 0o644));
    assert_eq!(bench.converge(&file).0, "converged");
}

#[test]
fn without_state_what_exists_is_corrected() {
    let bench = Bench::new();
    bench.write("a", "old");
    assert_eq!(
        bench.converge(&[("path", "a"), ("content", "new")]),
        ok("content differs", "content replaced, 3 bytes")
    );
    assert_eq!(bench.read("a"), "new");
}

#[test]
fn contents_and_mode_are_corrected_together() {
    let bench = Bench::new();
    bench.write("a", "x");
    bench.set_mode("a", 0o600);
    let said = bench.converge(&[("path", "a"), ("content", "y"), ("mode", "0644")]);
    assert_eq!(said, ok("content differs, mode is 0600, wanted 0644", "content replaced, 1 bytes"));
    assert_eq!(bench.mode("a"), 0o644);
}

#[test]
fn a_mode_alone_is_set_in_place() {
    let bench = Bench::new();
    let before = fs::metadata(bench.write("a", "x")).unwrap().ino();
    bench.set_mode("a", 0o600);
    let said = bench.converge(&[("path", "a"), ("mode", "0644")]);
    assert_eq!(said, ok("mode is 0600, wanted 0644", "mode set to 0644"));
    assert_eq!(fs::metadata(bench.path("a")).unwrap().ino(), before, "the file is not written anew");
    assert_eq!(bench.converge(&[("path", "a"), ("mode", "go-r,u+x")]).0, "mode is 0644, wanted 0700");
}

#[test]
fn an_unmanaged_mode_is_kept() {
    let bench = Bench::new();
    bench.write("a", "x");
    bench.set_mode("a", 0o4751);
    bench.converge(&[("path", "a"), ("content", "y")]);
    assert_eq!(bench.mode("a"), 0o4751);
}

#[test]
fn empty_content_is_an_empty_file_and_no_content_is_not_managed() {
    let bench = Bench::new();
    bench.write("a", "x");
    assert_eq!(bench.converge(&[("path", "a"), ("state", "exists")]).0, "converged");
    assert_eq!(bench.converge(&[("path", "a"), ("content", "")]).0, "content differs");
    assert_eq!(bench.read("a"), "");
    assert_eq!(bench.converge(&[("path", "b"), ("state", "exists")]), ok("missing", "created, 0 bytes"));
}

#[test]
fn the_first_dialect_creates_without_state() {
    let bench = Bench { first_dialect: true, ..Bench::new() };
    assert_eq!(bench.converge(&[("path", "a")]), ok("missing", "created, 0 bytes"));
    bench.write("a", "x");
    assert_eq!(bench.converge(&[("path", "a")]).0, "converged");
    assert_eq!(bench.converge(&[("path", "b"), ("content", "x")]).0, "missing");
}

#[test]
fn absent_removes_files_and_links() {
    let bench = Bench::new();
    let absent = [("path", "a"), ("state", "absent"), ("content", "legal")];
    assert_eq!(bench.converge(&absent).0, "converged");
    bench.write("a", "x");
    assert_eq!(bench.converge(&absent), ok("exists, wanted absent", "removed"));
    bench.write("target", "x");
    symlink("target", bench.path("a")).unwrap();
    assert_eq!(bench.converge(&absent), ok("exists, wanted absent", "removed"));
    assert!(bench.exists("target"));
    bench.write("file", "x");
    assert_eq!(bench.converge(&[("path", "file/below"), ("state", "absent")]).0, "converged");
}

#[test]
fn a_source_is_copied() {
    let bench = Bench::new();
    bench.write("from", "hello");
    bench.set_mode("from", 0o600);
    let file = [("path", "to"), ("source", "from"), ("state", "exists")];
    assert_eq!(bench.converge(&file), ok("missing", "created, 5 bytes"));
    assert_eq!((bench.read("to"), bench.mode("to")), ("hello".to_owned(), 0o644));
    bench.write("from", "jello");
    assert_eq!(bench.converge(&file).0, "content differs");
    fs::remove_file(bench.path("from")).unwrap();
    assert!(bench.check(&file).starts_with("fault: cannot read source from: No such file"));
    fs::create_dir(bench.path("from")).unwrap();
    assert_eq!(bench.check(&file), "fault: cannot read source from: it is not a regular file");
}

#[test]
fn large_contents_are_compared_and_copied() {
    let bench = Bench::new();
    let mut large = "0123456789abcdef".repeat(200_000);
    bench.write("from", &large);
    let file = [("path", "to"), ("source", "from"), ("state", "exists")];
    assert_eq!(bench.converge(&file), ok("missing", "created, 3200000 bytes"));
    large.replace_range(3_100_000..3_100_001, "x");
    bench.write("from", &large);
    assert_eq!(bench.converge(&file).0, "content differs");
    assert_eq!(bench.read("to"), large);
    assert_eq!(bench.converge(&[("path", "given"), ("content", &large), ("state", "exists")]).0, "missing");
    assert_eq!(bench.read("given"), large);
    large.replace_range(0..1, "x");
    assert_eq!(bench.fix(&[("path", "given"), ("content", &large)]).change(), None, "too large to be shown");
}

#[test]
fn fragments_are_concatenated() {
    let bench = Bench::new();
    bench.write("parts/20-b", "b\n");
    bench.write("parts/10-a", "a\n");
    bench.write("parts/inner/no", "no\n");
    bench.write("parts/.mgmt~1-1", "no\n");
    bench.write("head", "head\n");
    let file = [("path", "all"), ("fragments", "head parts head"), ("state", "exists")];
    runtime().block_on(bench.fix(&file).apply(Work::because(Cause::First))).unwrap();
    fs::remove_file(bench.path("parts/.mgmt~1-1")).unwrap();
    assert_eq!(bench.read("all"), "head\na\nb\nhead\n");
    bench.write("parts/20-b", "B\n");
    assert_eq!(bench.converge(&file).0, "content differs");
    fs::remove_file(bench.path("head")).unwrap();
    assert!(bench.check(&file).starts_with("fault: cannot read fragment head"));
}

#[test]
fn a_missing_directory_is_found_by_the_check() {
    let bench = Bench::new();
    let file = [("path", "no/a"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.check(&file), "fault: cannot create no/a: its directory no does not exist");
    bench.write("no", "x");
    assert_eq!(bench.check(&file), "fault: cannot create no/a: no is not a directory");
}

#[test]
fn a_directory_is_replaced_by_force_only() {
    let bench = Bench::new();
    bench.write("a/b/c", "x");
    let file = [("path", "a"), ("content", "x"), ("state", "exists")];
    assert!(
        bench.check(&file).starts_with("fault: cannot manage a: a directory stands where a file is wanted; set force")
    );
    let said = bench.converge(&[("path", "a"), ("content", "x"), ("state", "exists"), ("force", "true")]);
    assert_eq!(said, ok("is a directory, wanted a file", "content replaced, 1 bytes"));
    assert_eq!(bench.read("a"), "x");
}

#[test]
fn attributes_of_a_directory_can_be_corrected_without_a_slash() {
    let bench = Bench::new();
    fs::create_dir(bench.path("a")).unwrap();
    assert_eq!(bench.converge(&[("path", "a"), ("mode", "0711")]).1, "mode set to 0711");
}

#[test]
fn pipes_take_force() {
    let bench = Bench::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("a"), rustix::fs::Mode::RWXU).unwrap();
    assert!(bench.check(&[("path", "a"), ("content", "x")]).contains("a pipe stands where a file is wanted"));
    let said = bench.converge(&[("path", "a"), ("content", "x"), ("force", "true")]);
    assert_eq!(said.0, "is a pipe, wanted a file");
}

#[test]
fn acl_and_extended_attributes_are_kept() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let bench = Bench::new();
    let path = bench.write("a", "old");
    if setxattr(&path, "user.mgmt", b"kept", XattrFlags::empty()).is_err() && skipped("no extended attributes here") {
        return;
    }
    bench.converge(&[("path", "a"), ("content", "new")]);
    let mut value = [0; 16];
    assert_eq!(getxattr(&path, "user.mgmt", &mut value[..]), Ok(4));
    assert_eq!(&value[..4], b"kept");
    // Version 2; user::rw-, user:1:r--, group::r--, mask::rw-, other::---
    let acl: Vec<u8> = [2_u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain([(1_u16, 6_u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)].map(
            |(tag, permissions, id)| [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat(),
        ))
        .flatten()
        .collect();
    if setxattr(&path, "system.posix_acl_access", &acl, XattrFlags::empty()).is_err() && skipped("no ACL here") {
        return;
    }
    bench.converge(&[("path", "a"), ("content", "newer")]);
    let mut value = [0; 128];
    let length = getxattr(&path, "system.posix_acl_access", &mut value[..]).unwrap();
    assert_eq!(&value[..length], acl);
}

#[test]
fn a_change_shows_contents_unless_they_are_secret() {
    let bench = Bench::new();
    bench.write("a", "old");
    let change = bench.fix(&[("path", "a"), ("content", "new")]).change();
    let shown = Change { before: Some(b"old".to_vec()), after: Some(b"new".to_vec()), hidden: false };
    assert_eq!(change, Some(shown.clone()));
    let change = bench.fix(&[("path", "a"), ("content", "new"), ("mode", "0640")]).change();
    assert_eq!(change, Some(Change { hidden: true, ..shown.clone() }), "it will be secret");
    bench.set_mode("a", 0o600);
    let change = bench.fix(&[("path", "a"), ("content", "new"), ("mode", "0644")]).change();
    assert_eq!(change, Some(Change { hidden: true, ..shown }), "it was secret");
    assert_eq!(bench.fix(&[("path", "a"), ("mode", "0644")]).change(), None);
    let gone = Change { before: Some(b"old".to_vec()), after: None, hidden: true };
    assert_eq!(bench.fix(&[("path", "a"), ("state", "absent")]).change(), Some(gone));
    let change = bench.fix(&[("path", "b"), ("content", ""), ("state", "exists")]).change();
    assert_eq!(change, Some(Change { before: None, after: Some(Vec::new()), hidden: false }));
}

#[test]
fn setting_attributes_does_not_open_what_is_no_file() {
    let bench = Bench::new();
    let path = bench.path("a");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    // Opening a device may do anything, from resetting a line to arming a watchdog. A pipe tells by its writer.
    let (opened, wait) = std::sync::mpsc::channel();
    let (named, number) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            named.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            let pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            opened.send(()).unwrap();
            drop(pipe);
        }
    });
    let stat = format!("/proc/self/task/{}/stat", number.recv().unwrap());
    // It sleeps once it waits for a reader.
    while !fs::read_to_string(&stat).unwrap().rsplit(')').next().unwrap().starts_with(" S") {
        std::thread::yield_now();
    }
    bench.converge(&[("path", "a"), ("mode", "0600")]);
    assert_eq!(bench.mode("a"), 0o600);
    assert!(wait.recv_timeout(std::time::Duration::from_millis(200)).is_err(), "it was opened");
    drop(fs::File::open(&path).unwrap());
    writer.join().unwrap();
}

#[test]
fn a_new_version_inherits_no_acl_that_the_old_one_does_not_have() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let bench = Bench::new();
    let path = bench.write("a", "old");
    bench.set_mode("a", 0o640);
    // Version 2; user::rwx, user:1:r--, group::r--, mask::r--, other::---
    let entries = [(1_u16, 7_u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let acl: Vec<u8> = std::iter::once(2_u32.to_le_bytes().to_vec())
        .chain(entries.map(|(tag, permissions, id)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        }))
        .flatten()
        .collect();
    let set = setxattr(bench.root.path(), "system.posix_acl_default", &acl, XattrFlags::empty());
    if set.is_err() && skipped("no ACL here") {
        return;
    }
    bench.converge(&[("path", "a"), ("content", "new")]);
    let mut value = [0; 128];
    assert_eq!(getxattr(&path, "system.posix_acl_access", &mut value[..]), Err(rustix::io::Errno::NODATA));
    assert_eq!(bench.mode("a"), 0o640);
}

#[test]
fn a_source_that_becomes_a_pipe_is_not_waited_for() {
    let bench = Bench::new();
    let path = bench.path("from");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let (answered, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let stream = super::super::contents::Stream::Files { parts: vec![path], length: 0 };
        answered.send(stream.readable().map_err(|fault| fault.to_string())).unwrap();
    });
    let said = wait.recv_timeout(std::time::Duration::from_secs(5)).expect("an answer, and not a wait for a writer");
    assert!(said.unwrap_err().ends_with("it is not a regular file"));
}

#[test]
fn contents_need_not_be_text() {
    let bench = Bench::new();
    let mut params = Params::default();
    params.set("path", Value::Text(bench.text("a")));
    params.set("state", Value::Text("exists".to_owned()));
    params.set("content", Value::Bytes(vec![0, 0xff, b'\n', 0x80]));
    let resource = bench.build(params).unwrap().resource;
    let Ok(Check::Drifted(fix)) = check(&resource, &Look::because(Cause::First)) else { panic!("nothing stands") };
    runtime().block_on(fix.apply(Work::because(Cause::First))).unwrap();
    assert_eq!(fs::read(bench.path("a")).unwrap(), [0, 0xff, b'\n', 0x80]);
    assert_eq!(said(check(&resource, &Look::because(Cause::Drift))), "converged");
}
