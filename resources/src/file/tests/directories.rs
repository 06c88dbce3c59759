//! Directories themselves.

use super::*;

#[test]
fn a_slash_at_the_end_makes_a_directory() {
    let bench = Bench::new();
    let made = [("path", "a/"), ("state", "exists")];
    assert_eq!(bench.converge(&made), ok("missing", "created"));
    assert_eq!(bench.mode("a"), 0o755);
    assert_eq!(
        bench.converge(&[("path", "a/"), ("mode", "0700")]),
        ok("mode is 0755, wanted 0700", "mode set to 0700")
    );
    let odd = [("path", "b/"), ("state", "exists"), ("mode", "02777")];
    bench.converge(&odd);
    assert_eq!(bench.mode("b"), 0o2777, "whatever the umask");
}

#[test]
fn missing_ones_above_are_made_with_recurse_only() {
    let bench = Bench::new();
    let plain = [("path", "a/b/c/"), ("state", "exists")];
    assert_eq!(bench.check(&plain), "fault: cannot create a/b/c: its directory a/b does not exist");
    let recurse = [("path", "a/b/c/"), ("state", "exists"), ("recurse", "true"), ("mode", "0700")];
    assert_eq!(bench.converge(&recurse), ok("missing", "created"));
    assert_eq!((bench.mode("a"), bench.mode("a/b"), bench.mode("a/b/c")), (0o755, 0o755, 0o700));
}

#[test]
fn a_file_is_replaced_by_force_only() {
    let bench = Bench::new();
    bench.write("a", "x");
    let plain = [("path", "a/"), ("state", "exists")];
    assert!(bench.check(&plain).contains("a file stands where a directory is wanted; set force"));
    let force = [("path", "a/"), ("state", "exists"), ("force", "true")];
    assert_eq!(bench.converge(&force), ok("is a file, wanted a directory", "created"));
}

#[test]
fn a_link_to_a_directory_is_not_a_directory() {
    let bench = Bench::new();
    bench.write("real/x", "x");
    symlink("real", bench.path("a")).unwrap();
    assert!(bench.check(&[("path", "a/"), ("state", "exists")]).contains("a symbolic link stands where"));
    bench.converge(&[("path", "a/"), ("state", "exists"), ("force", "true")]);
    assert!(fs::symlink_metadata(bench.path("a")).unwrap().is_dir());
    assert_eq!(bench.tree("real"), "x");
}

#[test]
fn absent_takes_the_slash_or_force_and_more_if_it_is_not_empty() {
    let bench = Bench::new();
    fs::create_dir(bench.path("a")).unwrap();
    assert!(bench.check(&[("path", "a"), ("state", "absent")]).contains("it is a directory: end path with a slash"));
    assert_eq!(bench.converge(&[("path", "a/"), ("state", "absent")]).1, "removed");
    fs::create_dir(bench.path("a")).unwrap();
    assert_eq!(bench.converge(&[("path", "a"), ("state", "absent"), ("force", "true")]).1, "removed");
    bench.write("a/b/c", "x");
    symlink("/", bench.path("a/root")).unwrap();
    bench.write("outside", "x");
    symlink("../outside", bench.path("a/b/out")).unwrap();
    for too_little in [("force", "true"), ("recurse", "true")] {
        let said = bench.check(&[("path", "a/"), ("state", "absent"), too_little]);
        assert_eq!(said, "fault: cannot remove a: it is not empty; that takes recurse and force");
    }
    let enough = [("path", "a/"), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.converge(&enough), ok("exists, wanted absent", "removed"));
    assert!(bench.exists("outside"), "links are removed, not followed");
    bench.write("a", "x");
    assert!(bench.check(&[("path", "a/"), ("state", "absent")]).contains("it is not a directory"));
}

#[test]
fn what_was_filled_since_the_check_takes_recurse_and_force_as_well() {
    let bench = Bench::new();
    bench.write("a", "x");
    let fix = bench.fix(&[("path", "a"), ("state", "absent"), ("force", "true")]);
    fs::remove_file(bench.path("a")).unwrap();
    bench.write("a/precious", "x");
    let fault = runtime().block_on(fix.apply(Work::because(Cause::First))).unwrap_err();
    assert!(fault.to_string().contains("not empty"), "{fault}");
    assert_eq!(bench.read("a/precious"), "x");
}

#[test]
fn a_directory_above_that_was_made_since_the_check_is_left_as_it_is() {
    let bench = Bench::new();
    let fix = bench.fix(&[("path", "a/b/"), ("state", "exists"), ("recurse", "true")]);
    fs::create_dir(bench.path("a")).unwrap();
    bench.set_mode("a", 0o700);
    runtime().block_on(fix.apply(Work::because(Cause::First))).unwrap();
    assert_eq!((bench.mode("a"), bench.mode("a/b")), (0o700, 0o755));
    // What is no directory is not touched at all.
    let fix = bench.fix(&[("path", "c/"), ("state", "exists"), ("mode", "0777")]);
    bench.write("c", "x");
    bench.set_mode("c", 0o600);
    assert!(runtime().block_on(fix.apply(Work::because(Cause::First))).is_err());
    assert_eq!(bench.mode("c"), 0o600);
}
