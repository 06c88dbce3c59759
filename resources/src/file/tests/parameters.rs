//! Parameters: what is refused, what is ignored aloud, and what others learn.

use super::*;

fn problems(bench: &Bench, pairs: &[(&'static str, &str)]) -> String {
    let problems = bench.built(pairs).map(|_| ()).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect::<Vec<_>>().join("; ")
}

fn warned(bench: &Bench, pairs: &[(&'static str, &str)]) -> Vec<&'static str> {
    bench.built(pairs).unwrap().warnings.iter().map(|warning| warning.field).collect()
}

#[test]
fn what_contradicts_itself_is_refused() {
    let bench = Bench::new();
    assert_eq!(problems(&bench, &[]), "path: is missing");
    assert!(
        problems(&bench, &[("path", "a"), ("content", "x"), ("source", "b")]).starts_with("content: give only one")
    );
    assert!(
        problems(&bench, &[("path", "a"), ("source", "x"), ("fragments", "b")]).starts_with("content: give only one")
    );
    assert!(problems(&bench, &[("path", "a"), ("dirname", "b"), ("basename", "c")]).starts_with("path: give either"));
    assert!(problems(&bench, &[("dirname", "b")]).starts_with("basename: is missing"));
    assert!(problems(&bench, &[("basename", "b")]).starts_with("dirname: is missing"));
    assert!(problems(&bench, &[("dirname", "b"), ("basename", "c/d")]).starts_with("basename: must be one name"));
    assert!(problems(&bench, &[("path", "/")]).starts_with("path: the root directory"));
    assert!(problems(&bench, &[("path", "/a/../")]).starts_with("path: the root directory"));
    assert!(problems(&bench, &[("path", "a"), ("mode", "u+q")]).starts_with("mode: u+q is no mode"));
    assert!(problems(&bench, &[("path", "a"), ("symlink", "true")]).starts_with("source: is missing"));
    assert!(problems(&bench, &[("path", "a"), ("source", "b/")]).starts_with("source: is a directory"));
    for tree in [[("path", "a/"), ("source", "a/")], [("path", "a/b/"), ("source", "a/")]] {
        let tree = [tree[0], tree[1], ("recurse", "true")];
        assert!(problems(&bench, &tree).starts_with("source: is the path itself"));
    }
    let inside = [("path", "a/"), ("source", "a/b/"), ("recurse", "true"), ("purge", "true")];
    assert!(problems(&bench, &inside).starts_with("source: is the path itself"));
    assert!(problems(&bench, &[("path", "a"), ("source", "a")]).starts_with("source: is the path itself"));
    assert!(
        problems(&bench, &[("path", "a"), ("source", "a"), ("symlink", "true")]).starts_with("source: is the path")
    );
    let both = problems(&bench, &[("path", "a"), ("mode", "9"), ("content", "x"), ("source", "b")]);
    assert!(both.contains("mode: ") && both.contains("content: "), "all problems at once: {both}");
}

#[test]
fn what_is_illogical_is_ignored_aloud() {
    let bench = Bench::new();
    bench.write("file", "x");
    assert_eq!(warned(&bench, &[("path", "a/"), ("content", "x")]), ["content"]);
    assert_eq!(warned(&bench, &[("path", "a/"), ("source", "file"), ("recurse", "true")]), ["source"]);
    assert_eq!(warned(&bench, &[("path", "a/"), ("purge", "true")]), ["purge"]);
    assert_eq!(warned(&bench, &[("path", "a/"), ("source", "b/")]), ["source"]);
    assert_eq!(warned(&bench, &[("path", "a"), ("source", "b"), ("symlink", "true"), ("mode", "0644")]), ["mode"]);
    assert!(warned(&bench, &[("path", "a"), ("state", "absent"), ("content", "x")]).is_empty());
    let directory = [("path", "a/"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.converge(&directory).1, "created");
}

#[test]
fn dirname_and_basename_make_a_path() {
    let bench = Bench::new();
    bench.converge(&[("dirname", ""), ("basename", "a"), ("content", "x"), ("state", "exists")]);
    bench.converge(&[("dirname", ""), ("basename", "d/"), ("state", "exists")]);
    assert_eq!(bench.tree(""), "a d");
}

#[test]
fn others_learn_what_it_owns_and_wants() {
    let bench = Bench::new();
    let pairs = [("path", "x/../d//e"), ("source", "s"), ("owner", "www-data"), ("group", "33"), ("state", "exists")];
    let facets = bench.built(&pairs).unwrap().facets;
    let (own, source) = (bench.path("d/e"), bench.path("s"));
    let people = [Anchor::User("www-data".to_owned()), Anchor::Group("33".to_owned())];
    let wants = [Anchor::Parent(own.clone()), Anchor::Path(source)].into_iter().chain(people).collect();
    let provides = vec![Anchor::Path(own.clone())];
    assert_eq!(facets, Facets { owns: Some(own), provides, wants, ..Facets::default() });
    let purging = bench.built(&[("path", "d/"), ("recurse", "true"), ("purge", "true")]).unwrap().facets;
    assert_eq!(purging.purges, Some(bench.path("d")));
}

#[test]
fn equal_parameters_make_equal_resources() {
    let bench = Bench::new();
    let one = bench.resource(&[("path", "a"), ("content", "x")]);
    assert!(one.same(&*bench.resource(&[("path", "a"), ("content", "x")])));
    assert!(!one.same(&*bench.resource(&[("path", "a"), ("content", "y")])));
}

#[test]
fn the_table_describes_every_field() {
    assert!(INFO.fields.iter().all(|field| field.doc.ends_with('.')));
}
