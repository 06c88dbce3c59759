//! Trees: copied from a source, and purged.

use super::*;

const TREE: [(&str, &str); 4] = [("path", "to/"), ("source", "from/"), ("state", "exists"), ("recurse", "true")];

fn with<'a>(more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    TREE.iter().chain(more).copied().collect()
}

#[test]
fn a_tree_is_copied() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    bench.write("from/d/b", "b");
    bench.set_mode("from/d/b", 0o750);
    bench.set_mode("from/d", 0o700);
    symlink("../nowhere", bench.path("from/d/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("from/pipe"), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(bench.converge(&TREE), ok("missing", "created, 4 members put right"));
    assert_eq!(bench.tree("to"), "a d d/b d/link");
    assert_eq!((bench.mode("to/d/b"), bench.mode("to/d")), (0o750, 0o700));
    assert_eq!(fs::read_link(bench.path("to/d/link")).unwrap(), Path::new("../nowhere"));
    bench.write("to/d/b", "B");
    bench.set_mode("to/d/b", 0o600);
    fs::remove_file(bench.path("to/a")).unwrap();
    bench.write("to/extra", "x");
    assert_eq!(bench.converge(&TREE), ok("a missing, d/b differs", "2 members put right"));
    assert_eq!(bench.mode("to/d/b"), 0o600, "only new members take the source's bits");
    assert!(bench.exists("to/extra"), "nothing is purged unasked");
}

#[test]
fn without_recurse_only_the_directory_is_made() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    bench.converge(&[("path", "to/"), ("source", "from/"), ("state", "exists")]);
    assert_eq!(bench.tree("to"), "");
}

#[test]
fn links_in_the_target_are_not_followed() {
    let bench = Bench::new();
    bench.write("from/d/a", "new");
    bench.write("from/f", "new");
    bench.write("outside/a", "precious");
    fs::create_dir(bench.path("to")).unwrap();
    symlink("../outside", bench.path("to/d")).unwrap();
    symlink("../outside/a", bench.path("to/f")).unwrap();
    assert!(bench.check(&TREE).contains("cannot replace to/d: something of another type"));
    bench.converge(&with(&[("force", "true")]));
    assert_eq!(bench.read("outside/a"), "precious");
    assert!(fs::symlink_metadata(bench.path("to/d")).unwrap().is_dir());
    assert!(fs::symlink_metadata(bench.path("to/f")).unwrap().is_file());
}

#[test]
fn members_of_another_type_take_force() {
    let bench = Bench::new();
    bench.write("from/a", "file");
    bench.write("to/a/b/c", "x");
    assert!(bench.check(&TREE).contains("something of another type stands there; force would replace it"));
    assert_eq!(bench.converge(&with(&[("force", "true")])).0, "a is of another type");
    assert_eq!(bench.read("to/a"), "file");
}

#[test]
fn purge_removes_what_neither_source_nor_graph_has() {
    let mut bench = Bench::new();
    bench.write("from/a", "a");
    bench.write("to/b", "b");
    bench.write("to/deep/kept", "mine");
    bench.write("to/deep/lost", "x");
    bench.write("to/gone/x/y", "x");
    bench.managed.insert(bench.path("to/deep/kept"));
    let said = bench.converge(&with(&[("purge", "true")]));
    assert_eq!(said.0, "a missing, b is not managed, deep/lost is not managed and 1 more");
    assert_eq!(bench.tree("to"), "a deep deep/kept");
}

#[test]
fn purge_without_source_leaves_only_what_is_managed() {
    let mut bench = Bench::new();
    bench.write("d/mine", "x");
    bench.write("d/other", "x");
    bench.write("outside/x", "x");
    symlink("../outside", bench.path("d/link")).unwrap();
    bench.managed.insert(bench.path("d/mine"));
    bench.managed.insert(bench.path("d/not/yet"));
    bench.converge(&[("path", "d/"), ("recurse", "true"), ("purge", "true")]);
    assert_eq!((bench.tree("d"), bench.tree("outside")), ("mine".to_owned(), "x".to_owned()));
}

#[test]
fn a_member_that_another_resource_manages_is_left_to_it() {
    let mut bench = Bench::new();
    bench.write("from/a", "theirs");
    bench.write("to/a", "mine");
    bench.managed.insert(bench.path("to/a"));
    assert_eq!(bench.converge(&with(&[("purge", "true")])).0, "converged");
}

#[test]
fn a_tree_that_cannot_be_read_is_a_fault() {
    let bench = Bench::new();
    assert!(bench.check(&TREE).starts_with("fault: cannot read source from: No such file"));
}

#[test]
fn a_member_directory_that_cannot_be_written_is_found_by_the_check() {
    if is_root() && skipped("root may write anywhere") {
        return;
    }
    let bench = Bench::new();
    bench.write("from/d/a", "a");
    fs::create_dir_all(bench.path("to/d")).unwrap();
    bench.set_mode("to/d", 0o555);
    let said = bench.check(&TREE);
    bench.set_mode("to/d", 0o755);
    assert_eq!(said, "fault: cannot write into to/d: Permission denied (os error 13)");
}

#[test]
fn nothing_is_purged_for_a_source_that_is_no_directory() {
    let bench = Bench::new();
    bench.write("from", "a file by mistake");
    bench.write("to/a", "x");
    let pairs = [("path", "to/"), ("source", "from"), ("recurse", "true"), ("purge", "true")];
    let warnings = bench.built(&pairs).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.field == "purge"), "{warnings:?}");
    assert_eq!(bench.converge(&pairs).0, "converged");
    assert_eq!(bench.tree("to"), "a");
}

#[test]
fn members_that_another_resource_copies_are_not_purged() {
    let mut bench = Bench::new();
    bench.write("from/both/a", "a");
    bench.write("to/both/theirs", "x");
    bench.write("to/only/theirs", "x");
    bench.write("to/lost", "x");
    for tree in ["to/both", "to/only"] {
        bench.managed.insert(bench.path(tree));
        bench.trees.insert(bench.path(tree));
    }
    assert_eq!(bench.converge(&with(&[("purge", "true")])).0, "lost is not managed");
    assert_eq!(bench.tree("to"), "both both/theirs only only/theirs");
    let inner = bench.built(&[("path", "to/only/"), ("source", "from/"), ("recurse", "true")]).unwrap();
    assert_eq!(inner.facets.fills, Some(bench.path("to/only")));
}
