//! Plans: what a look says if others would have changed paths before, and what it promises itself.

use super::*;

#[test]
fn what_a_new_directory_will_hold_is_missing() {
    let bench = Bench::new();
    let file = [("path", "d/a"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.plan(&[("d", Promise::Directory)], &file), "missing");
    let deep = [("path", "d/e/a"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.plan(&[("d", Promise::Directory), ("d/e", Promise::Directory)], &deep), "missing");
    assert!(bench.plan(&[("d", Promise::Directory)], &deep).contains("its directory d/e does not exist"));
    assert_eq!(bench.plan(&[("d", Promise::Directory)], &[("path", "d/a"), ("state", "absent")]), "converged");
}

#[test]
fn what_others_would_change_is_unknown() {
    let bench = Bench::new();
    bench.write("d/a", "x");
    let file = [("path", "d/a"), ("content", "x"), ("state", "exists")];
    let unknown = "unknown exec[x] would change first";
    assert_eq!(bench.plan(&[("/", Promise::Anything)], &file), unknown);
    assert_eq!(bench.plan(&[("d", Promise::Anything)], &file), unknown);
    assert_eq!(bench.plan(&[("d", Promise::Absent)], &file), unknown);
    assert_eq!(bench.plan(&[("other", Promise::Anything)], &file), "converged");
    let copy = [("path", "to"), ("source", "d/a"), ("state", "exists")];
    assert_eq!(bench.plan(&[("d/a", Promise::File)], &copy), unknown);
    let tree = [("path", "to/"), ("source", "d/"), ("state", "exists"), ("recurse", "true")];
    assert_eq!(bench.plan(&[("d/a", Promise::File)], &tree), unknown);
    let absent = [("path", "d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.plan(&[("d/b", Promise::File)], &absent), unknown);
}

#[test]
fn repairs_promise_what_they_make() {
    let bench = Bench::new();
    bench.write("old", "x");
    bench.write("from/x", "x");
    let promises = |pairs: &[(&'static str, &str)]| {
        let made = bench.fix(pairs).promises().into_iter();
        made.map(|(path, promise)| (path.strip_prefix(bench.root.path()).unwrap().to_owned(), promise))
            .collect::<Vec<_>>()
    };
    let one = |path: &str, promise| vec![(PathBuf::from(path), promise)];
    assert_eq!(promises(&[("path", "old"), ("content", "y")]), one("old", Promise::File));
    // What lies below a path can change with what stands there.
    assert_eq!(promises(&[("path", "a"), ("state", "exists")]), one("a", Promise::Anything));
    let link = [("path", "old"), ("source", "from"), ("symlink", "true"), ("state", "exists")];
    assert_eq!(promises(&link), one("old", Promise::Anything));
    assert_eq!(promises(&[("path", "d/"), ("state", "exists")]), one("d", Promise::Directory));
    assert_eq!(promises(&[("path", "old"), ("state", "absent")]), one("old", Promise::Absent));
    let above = promises(&[("path", "d/e/"), ("state", "exists"), ("recurse", "true")]);
    assert_eq!(above, [one("d/e", Promise::Directory), one("d", Promise::Directory)].concat());
    let tree = promises(&[("path", "to/"), ("source", "from/"), ("state", "exists"), ("recurse", "true")]);
    assert_eq!(tree, one("to", Promise::Anything));
}

#[test]
fn what_could_not_be_written_is_found_by_the_check() {
    let bench = Bench::new();
    fs::create_dir(bench.path("d")).unwrap();
    bench.write("d/a", "x");
    bench.set_mode("d", 0o555);
    let file = [("path", "d/a"), ("content", "y"), ("state", "exists")];
    let said = bench.check(&file);
    bench.set_mode("d", 0o755);
    match is_root() {
        true => assert!(skipped("root may write anywhere")),
        false => assert!(said.starts_with("fault: cannot write into d: Permission denied"), "{said}"),
    }
    let unknown = [("path", "a"), ("owner", "nobody-of-this-name")];
    assert_eq!(bench.check(&unknown), "fault: user nobody-of-this-name does not exist");
}

#[test]
fn a_directory_is_not_promised_below_a_link_to_nothing() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("nowhere", bench.path("l")).unwrap();
    let below = [("path", "l/d/"), ("state", "exists"), ("recurse", "true")];
    assert!(bench.plan(&[], &below).contains("l is a symbolic link to nothing"));
}
