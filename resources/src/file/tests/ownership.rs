//! Owners and groups, which only root may give away.

use super::*;

fn owner(bench: &Bench, name: &str) -> (u32, u32) {
    let of = fs::symlink_metadata(bench.path(name)).unwrap();
    (of.uid(), of.gid())
}

#[test]
fn owners_are_set_and_kept() {
    if !is_root() && skipped("only root may change owners") {
        return;
    }
    let bench = Bench::new();
    let file = [("path", "a"), ("content", "x"), ("state", "exists"), ("owner", "12"), ("group", "34")];
    assert_eq!(bench.converge(&file).0, "missing");
    assert_eq!(owner(&bench, "a"), (12, 34));
    let root = [("path", "a"), ("owner", "root")];
    let said = bench.converge(&root);
    assert!(said.0.starts_with("owner is ") && said.0.ends_with(", wanted root"), "{}", said.0);
    assert_eq!(said.1, "owner set to root");
    assert_eq!(owner(&bench, "a"), (0, 34));
    std::os::unix::fs::chown(bench.path("a"), Some(56), Some(78)).unwrap();
    bench.converge(&[("path", "a"), ("content", "y")]);
    assert_eq!(owner(&bench, "a"), (56, 78), "a new version keeps its owner");
}

#[test]
fn a_new_owner_does_not_take_the_set_uid_bit() {
    if !is_root() && skipped("only root may change owners") {
        return;
    }
    let bench = Bench::new();
    bench.write("a", "x");
    bench.set_mode("a", 0o4755);
    bench.converge(&[("path", "a"), ("owner", "12")]);
    assert_eq!((owner(&bench, "a").0, bench.mode("a")), (12, 0o4755));
}

#[test]
fn directories_links_and_members_get_owners() {
    if !is_root() && skipped("only root may change owners") {
        return;
    }
    let bench = Bench::new();
    bench.write("from/x/y", "x");
    let tree = [("path", "to/"), ("source", "from/"), ("state", "exists"), ("recurse", "true"), ("owner", "12")];
    bench.converge(&tree);
    assert_eq!((owner(&bench, "to").0, owner(&bench, "to/x").0, owner(&bench, "to/x/y").0), (12, 12, 12));
    std::os::unix::fs::chown(bench.path("to/x/y"), Some(0), None).unwrap();
    assert_eq!(bench.converge(&tree).0, "x/y has another owner or group");
    symlink("from", bench.path("link")).unwrap();
    bench.converge(&[("path", "link"), ("source", "from"), ("symlink", "true"), ("owner", "12")]);
    assert_eq!((owner(&bench, "link").0, owner(&bench, "from").0), (12, 0), "the link itself, not what it points to");
}

#[test]
fn without_privilege_the_check_says_so() {
    if is_root() && skipped("root may change owners") {
        return;
    }
    let bench = Bench::new();
    bench.write("a", "x");
    assert!(bench.check(&[("path", "a"), ("owner", "0")]).contains("only root may"));
    assert!(bench.check(&[("path", "b"), ("owner", "0"), ("state", "exists")]).contains("only root may"));
}

#[test]
fn a_set_uid_bit_of_another_user_does_not_come_with_the_file() {
    if !is_root() && skipped("only root may change owners") {
        return;
    }
    let bench = Bench::new();
    for (name, content) in [("in place", None), ("new version", Some("new"))] {
        bench.write(name, "theirs");
        std::os::unix::fs::chown(bench.path(name), Some(12), Some(12)).unwrap();
        bench.set_mode(name, 0o6755);
        let mut pairs = vec![("path", name), ("owner", "root"), ("group", "root")];
        pairs.extend(content.map(|content| ("content", content)));
        bench.converge(&pairs);
        assert_eq!((owner(&bench, name), bench.mode(name)), ((0, 0), 0o755), "{name}");
    }
    bench.write("from/x", "x");
    let tree = [("path", "to/"), ("source", "from/"), ("state", "exists"), ("recurse", "true"), ("owner", "root")];
    bench.converge(&tree);
    std::os::unix::fs::chown(bench.path("to/x"), Some(12), None).unwrap();
    bench.set_mode("to/x", 0o4755);
    bench.converge(&tree);
    assert_eq!((owner(&bench, "to/x").0, bench.mode("to/x")), (0, 0o755));
}
