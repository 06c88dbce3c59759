//! Symbolic links: wanted ones, and those that stand in the way.

use super::*;

#[test]
fn a_link_is_made_and_replaced() {
    let bench = Bench::new();
    let link = |source| [("path", "a"), ("source", source), ("symlink", "true"), ("state", "exists")];
    assert_eq!(bench.converge(&link("one")), ok("missing", "linked to one"));
    assert_eq!(bench.converge(&link("one")).0, "converged");
    assert_eq!(bench.converge(&link("two")), ok("points to one, wanted two", "linked to two"));
    assert_eq!(fs::read_link(bench.path("a")).unwrap(), bench.path("two"));
    fs::remove_file(bench.path("a")).unwrap();
    bench.write("a", "x");
    assert_eq!(bench.converge(&link("one")).0, "is a file, wanted a symbolic link");
    fs::remove_file(bench.path("a")).unwrap();
    bench.write("a/x", "x");
    assert!(bench.check(&link("one")).contains("a directory stands where a symbolic link is wanted"));
    let force = [("path", "a"), ("source", "one"), ("symlink", "true"), ("force", "true")];
    assert_eq!(bench.converge(&force).1, "linked to one");
}

#[test]
fn a_link_in_place_of_a_file_is_replaced_and_never_followed() {
    let bench = Bench::new();
    bench.write("target", "precious");
    symlink("target", bench.path("a")).unwrap();
    assert_eq!(bench.converge(&[("path", "a"), ("content", "x")]).0, "is a symbolic link, wanted a file");
    assert_eq!((bench.read("target"), bench.read("a")), ("precious".to_owned(), "x".to_owned()));
    assert!(fs::symlink_metadata(bench.path("a")).unwrap().is_file());
}

#[test]
fn attributes_are_not_set_through_a_link() {
    let bench = Bench::new();
    bench.write("target", "x");
    bench.set_mode("target", 0o600);
    symlink("target", bench.path("a")).unwrap();
    assert!(bench.check(&[("path", "a"), ("mode", "0644")]).contains("it is a symbolic link, which is never followed"));
    assert_eq!(bench.mode("target"), 0o600);
}
