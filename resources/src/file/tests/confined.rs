//! A path that somebody else has named stays below its directory: by its text, and whatever stands on the way.

use std::os::unix::fs::chown;

use super::never::Mounted;
use super::*;

/// What nothing may touch: a directory beside the one that confines, with what a resource would want to change.
const OUTSIDE: [(&str, &str); 4] =
    [("out/f", "outside"), ("out/d/f", "outside"), ("out/d/e/f", "outside"), ("out/t/f", "outside")];

/// A scratch directory with `p`, which confines, and `out`, which nothing may touch.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.beneath = Some("p");
    for (name, content) in OUTSIDE {
        bench.write(name, content);
        bench.set_mode(name, 0o640);
    }
    bench.write("from/f", "copied");
    bench.write("from/d/f", "copied");
    fs::create_dir_all(bench.path("p/a")).unwrap();
    bench
}

fn outside(bench: &Bench) -> Vec<(PathBuf, Snapped)> {
    bench.snapshot().into_iter().filter(|(path, _)| path.starts_with(bench.path("out"))).collect()
}

/// One resource of each manner to change something at `p/a/…`, where that looks like `out`.
const RESOURCES: [&[(&str, &str)]; 12] = [
    &[("path", "p/a/f"), ("content", "x")],
    &[("path", "p/a/f"), ("content", "outside"), ("mode", "0600")],
    &[("path", "p/a/new"), ("content", "x"), ("state", "exists")],
    &[("path", "p/a/new"), ("state", "exists")],
    &[("path", "p/a/f"), ("mode", "0600")],
    &[("path", "p/a/f"), ("source", "/x"), ("symlink", "true"), ("state", "exists")],
    &[("path", "p/a/f"), ("state", "absent")],
    &[("path", "p/a/d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")],
    &[("path", "p/a/d/"), ("mode", "0700"), ("state", "exists")],
    &[("path", "p/a/new/"), ("state", "exists")],
    &[("path", "p/a/new/deeper/"), ("state", "exists"), ("recurse", "true")],
    &[("path", "p/a/t/"), ("source", "from/"), ("recurse", "true"), ("purge", "true"), ("state", "exists")],
];

fn problems(bench: &Bench, path: &str) -> Vec<Problem> {
    bench.built(&[("path", path), ("content", "x")]).map(|_| ()).unwrap_err()
}

#[test]
fn the_text_has_to_lead_below() {
    let bench = bench();
    for path in ["p", "p/", "q", "p/../q", "p/a/..", "p/a/../b", "p/./a", "p/a//", "/etc/passwd", "out/f"] {
        let problems = problems(&bench, path);
        assert!(problems.iter().all(|problem| problem.field == "path"), "{path}: {problems:?}");
    }
    let long = format!("p/{}", "x".repeat(256));
    assert!(problems(&bench, &long)[0].message.contains("longer than 255"));
    assert!(problems(&bench, "p/a\0b")[0].message.contains("a NUL"));
    let split = [("dirname", "p/"), ("basename", "../"), ("content", "x")];
    assert!(bench.built(&split).is_err());
    bench.resource(&[("dirname", "p/"), ("basename", "b"), ("content", "x")]);
}

#[test]
fn what_the_program_lives_by_is_never_touched() {
    let mut bench = bench();
    bench.write("p/state/peer", "x");
    bench.protected = vec![bench.path("p/state"), bench.path("p/graph.yaml")];
    for path in ["p/state/peer", "p/state", "p/graph.yaml"] {
        assert!(problems(&bench, path)[0].message.contains("lives by"), "{path}");
    }
    // The same by another name, which only a look can tell.
    symlink(bench.path("p"), bench.path("alias")).unwrap();
    bench.beneath = Some("alias");
    let said = bench.check(&[("path", "alias/graph.yaml"), ("content", "x"), ("state", "exists")]);
    assert!(said.contains("lives by"), "{said}");
    let said = bench.check(&[("path", "alias/state/peer"), ("mode", "0600")]);
    assert!(said.contains("lives by"), "{said}");
    assert_eq!(bench.converge(&[("path", "alias/b"), ("content", "x"), ("state", "exists")]).1, "created, 1 bytes");
}

#[test]
fn below_everything_works_as_elsewhere() {
    let bench = bench();
    let file = [("path", "p/a/f"), ("content", "x"), ("state", "exists"), ("mode", "0640")];
    assert_eq!(bench.converge(&file), ok("missing", "created, 1 bytes"));
    assert_eq!(bench.converge(&file).0, "converged");
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("content", "yy")]).1, "content replaced, 2 bytes");
    assert_eq!((bench.read("p/a/f"), bench.mode("p/a/f")), ("yy".to_owned(), 0o640));
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("mode", "0600")]).1, "mode set to 0600");
    assert_eq!(bench.converge_because(Cause::Drift, &[("path", "p/a/f"), ("content", "z")]).0, "content differs");
    let link = [("path", "p/a/l"), ("source", "/x"), ("symlink", "true"), ("state", "exists")];
    assert_eq!(bench.converge(&link).1, "linked to /x");
    assert_eq!(bench.converge(&[("path", "p/n/m/"), ("state", "exists"), ("recurse", "true")]).1, "created");
    let tree = [("path", "p/n/"), ("source", "from/"), ("recurse", "true"), ("purge", "true")];
    assert_eq!(bench.converge(&tree).1, "4 members put right");
    assert_eq!(bench.tree("p"), "a a/f a/l n n/d n/d/f n/f");
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("state", "absent")]).1, "removed");
    let all = [("path", "p/n/"), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.converge(&all).1, "removed");
    let in_place = [("path", "p/a"), ("content", "x"), ("force", "true")];
    assert_eq!(bench.converge(&in_place).0, "is a directory, wanted a file");
    assert_eq!(bench.tree("p"), "a");
}

#[test]
fn a_link_on_the_way_is_refused_whatever_is_wanted() {
    let bench = bench();
    fs::remove_dir(bench.path("p/a")).unwrap();
    symlink("../out", bench.path("p/a")).unwrap();
    let before = outside(&bench);
    for pairs in RESOURCES {
        let said = bench.check(pairs);
        assert!(said.contains("p/a is a symbolic link, which could lead out of p"), "{pairs:?}: {said}");
        assert!(said.contains("put a directory in its place"), "{said}");
    }
    assert_eq!(outside(&bench), before);
    // Also one that leads nowhere, or stays below.
    for target in ["nowhere", "b", "/p/a"] {
        fs::create_dir_all(bench.path("p/b")).unwrap();
        fs::remove_file(bench.path("p/a")).unwrap();
        symlink(target, bench.path("p/a")).unwrap();
        assert!(bench.check(RESOURCES[0]).contains("is a symbolic link"));
        assert!(bench.check(RESOURCES[10]).contains("is a symbolic link"));
    }
}

#[test]
fn a_link_that_comes_after_the_look_is_refused() {
    for pairs in RESOURCES {
        let bench = bench();
        bench.write("p/a/f", "inside");
        bench.write("p/a/d/e/f", "inside");
        let before = outside(&bench);
        let fix = bench.fix(pairs);
        fs::rename(bench.path("p/a"), bench.path("p/b")).unwrap();
        symlink("../out", bench.path("p/a")).unwrap();
        let applied = runtime().block_on(fix.apply(Work::because(Cause::First)));
        let fault = applied.unwrap_err().to_string();
        assert!(fault.contains("is a symbolic link"), "{pairs:?}: {fault}");
        assert_eq!(outside(&bench), before, "{pairs:?}");
        assert_eq!(bench.temporaries(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_diff_shows_nothing_from_elsewhere() {
    let bench = bench();
    bench.write("p/a/f", "inside");
    let fix = bench.fix(&[("path", "p/a/f"), ("content", "x")]);
    assert_eq!(fix.change().unwrap().before.unwrap(), b"inside");
    fs::rename(bench.path("p/a"), bench.path("p/b")).unwrap();
    symlink("../out", bench.path("p/a")).unwrap();
    assert!(fix.change().is_none());
}

#[test]
fn the_confining_directory_itself_may_be_reached_by_links() {
    let mut bench = bench();
    symlink("p", bench.path("alias")).unwrap();
    bench.beneath = Some("alias");
    assert_eq!(bench.converge(&[("path", "alias/a/f"), ("content", "x"), ("state", "exists")]).1, "created, 1 bytes");
    assert_eq!(bench.read("p/a/f"), "x");
}

#[test]
fn a_missing_directory_is_said_and_heals() {
    let mut bench = bench();
    bench.beneath = Some("later");
    let file = [("path", "later/f"), ("content", "x"), ("state", "exists")];
    let deep = [("path", "later/a/b/"), ("state", "exists"), ("recurse", "true")];
    let missing = "its directory later does not exist";
    assert_eq!(bench.check(&file), format!("fault: cannot create later/f: {missing}"));
    assert_eq!(bench.check(&deep), format!("fault: cannot create later/a/b: {missing}"), "recurse makes none of it");
    assert_eq!(bench.check(&[("path", "later/f"), ("content", "x")]), "converged", "what is missing is not corrected");
    assert_eq!(bench.check(&[("path", "later/a/f"), ("state", "absent")]), "converged");
    let resource = bench.resource(&file);
    fs::create_dir(bench.path("later")).unwrap();
    assert_eq!(said(check(&resource, &Look::because(Cause::Drift))), "missing");
    assert_eq!(bench.converge(&file).1, "created, 1 bytes");
    assert_eq!(bench.converge(&deep).1, "created");
    let below = [("path", "later/none/f"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.check(&below), "fault: cannot create later/none/f: its directory later/none does not exist");
    let through = [("path", "later/f/g"), ("content", "x"), ("state", "exists")];
    assert!(bench.check(&through).starts_with("fault: cannot create later/f/g: "));
    assert!(
        bench.check(&[("path", "later/f/g/"), ("state", "exists"), ("recurse", "true")]).contains("not a directory")
    );
}

/// Sends a word for each signal.
struct Heard(std::sync::mpsc::Sender<()>);

impl Sink for Heard {
    fn raised(&self, _: &[Ticket]) {
        let _nobody_waits_any_more = self.0.send(());
    }

    fn ticked(&self, _: Ticket) {}
}

#[test]
fn a_directory_that_appears_or_is_put_right_is_noticed() {
    let mut bench = bench();
    bench.beneath = Some("later");
    let resource = bench.resource(&[("path", "later/a/f"), ("content", "x"), ("state", "exists")]);
    let (sender, heard) = std::sync::mpsc::channel();
    let signal = Signal::elsewhere(Arc::new(Heard(sender)), 0);
    let _watch = resource.watch(&signal).unwrap();
    let looked = || said(check(&resource, &Look::because(Cause::Drift)));
    let until = |wanted: &str| {
        while !looked().contains(wanted) {
            heard.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        }
    };
    assert!(looked().contains("does not exist"));
    fs::create_dir(bench.path("later")).unwrap();
    symlink("../out", bench.path("later/a")).unwrap();
    until("is a symbolic link");
    fs::remove_file(bench.path("later/a")).unwrap();
    fs::create_dir(bench.path("later/a")).unwrap();
    until("missing");
}

#[test]
fn a_plan_believes_that_the_directory_will_have_been_made() {
    let mut bench = bench();
    bench.beneath = Some("later");
    let file = [("path", "later/f"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.plan(&[("later", Promise::Directory)], &file), "missing");
}

#[test]
fn a_link_at_the_path_is_replaced_or_refused() {
    let bench = bench();
    let before = outside(&bench);
    symlink("../../out/f", bench.path("p/a/f")).unwrap();
    assert!(bench.check(&[("path", "p/a/f"), ("mode", "0600")]).contains("never followed"));
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("content", "x")]).0, "is a symbolic link, wanted a file");
    symlink("../../out/d", bench.path("p/a/d")).unwrap();
    let directory = [("path", "p/a/d/"), ("state", "exists"), ("mode", "0700")];
    assert!(bench.check(&directory).contains("a symbolic link stands where a directory is wanted"));
    let gone = [("path", "p/a/d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.converge(&gone).1, "removed");
    assert_eq!(outside(&bench), before);
}

#[test]
fn links_in_what_is_removed_lead_nowhere() {
    let bench = bench();
    let before = outside(&bench);
    bench.write("p/a/d/e/f", "x");
    symlink(bench.path("out/d"), bench.path("p/a/d/link")).unwrap();
    symlink(bench.path("out/f"), bench.path("p/a/d/e/link")).unwrap();
    bench.converge(&[("path", "p/a/d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")]);
    symlink(bench.path("out/t"), bench.path("p/a/d")).unwrap();
    let tree = [("path", "p/a/"), ("source", "from/"), ("recurse", "true"), ("purge", "true"), ("force", "true")];
    bench.converge(&tree);
    assert_eq!(bench.tree("p"), "a a/d a/d/f a/f");
    assert_eq!(outside(&bench), before);
}

#[test]
fn other_names_of_a_file_are_not_changed_with_it() {
    let bench = bench();
    let link = || {
        let _gone = fs::remove_file(bench.path("p/a/f"));
        fs::hard_link(bench.path("out/f"), bench.path("p/a/f")).unwrap();
        bench.mode("out/f")
    };
    link();
    let said = bench.check(&[("path", "p/a/f"), ("mode", "0600")]);
    assert!(said.contains("hard links") && said.contains("remove it"), "{said}");
    let given = [("path", "p/a/f"), ("content", "outside"), ("mode", "0600")];
    assert_eq!(bench.converge(&given).0, "mode is 0640, wanted 0600");
    assert_eq!((bench.mode("p/a/f"), bench.mode("out/f")), (0o600, 0o640));
    link();
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("content", "outside")]).0, "converged");
    bench.converge(&[("path", "p/a/f"), ("content", "x")]);
    assert_eq!((bench.read("p/a/f"), bench.read("out/f")), ("x".to_owned(), "outside".to_owned()));
    // Between the look and the repair.
    bench.write("p/a/g", "x");
    let fix = bench.fix(&[("path", "p/a/g"), ("mode", "0600")]);
    fs::remove_file(bench.path("p/a/g")).unwrap();
    fs::hard_link(bench.path("out/f"), bench.path("p/a/g")).unwrap();
    let applied = runtime().block_on(fix.apply(Work::because(Cause::First)));
    assert!(applied.unwrap_err().to_string().contains("hard links"));
    assert_eq!(bench.mode("out/f"), 0o640);
}

#[test]
fn new_contents_do_not_run_as_somebody_else() {
    let bench = bench();
    bench.write("p/a/f", "x");
    if is_root() {
        chown(bench.path("p/a/f"), Some(1), Some(1)).unwrap();
    }
    bench.set_mode("p/a/f", 0o6755);
    assert_eq!(bench.converge(&[("path", "p/a/f"), ("content", "y")]).0, "content differs");
    assert_eq!(bench.mode("p/a/f"), 0o755);
    let setuid = [("path", "p/a/f"), ("content", "z"), ("mode", "4755")];
    bench.converge(&setuid);
    assert_eq!(bench.mode("p/a/f"), 0o4755, "asked for, it is given");
}

#[test]
fn a_sync_that_failed_is_made_up_for_below() {
    let bench = bench();
    bench.write("p/a/f", "x");
    let resource = bench.resource(&[("path", "p/a/f"), ("content", "x")]);
    let any: &dyn std::any::Any = &*resource;
    any.downcast_ref::<super::super::File>().unwrap().unsynced.0.store(true, Ordering::Relaxed);
    let Ok(Check::Drifted(fix)) = check(&resource, &Look::because(Cause::Drift)) else { panic!("it is not clean") };
    assert_eq!(runtime().block_on(fix.apply(Work::because(Cause::Drift))), Ok(Applied::changed("synced")));
    assert_eq!(said(check(&resource, &Look::because(Cause::Drift))), "converged");
}

#[test]
fn a_way_that_goes_after_the_look_is_a_fault() {
    for pairs in RESOURCES {
        let bench = bench();
        bench.write("p/a/f", "inside");
        bench.write("p/a/d/e/f", "inside");
        let fix = bench.fix(pairs);
        fs::rename(bench.path("p/a"), bench.path("p/b")).unwrap();
        let before = bench.snapshot();
        let applied = runtime().block_on(fix.apply(Work::because(Cause::First)));
        let recurse = pairs.contains(&("path", "p/a/new/deeper/"));
        let fault = applied.unwrap_err().to_string();
        let why = if recurse { "No such file" } else { "p/a does not exist" };
        assert!(fault.contains(why), "{pairs:?}: {fault}");
        assert_eq!(bench.snapshot(), before, "{pairs:?}");
    }
    assert!(names_here().iter().all(|name| !name.starts_with(".mgmt~")));
}

/// The names in the directory that the tests run in, where a name without a directory would end up.
fn names_here() -> Vec<String> {
    fs::read_dir(".").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_mount_below_is_part_of_what_lies_below() {
    let bench = bench();
    let Some(_mounted) = Mounted::at(bench.path("p/mount")) else {
        skipped("mounting takes root");
        return;
    };
    let file = [("path", "p/mount/d/f"), ("content", "x"), ("state", "exists")];
    assert_eq!(bench.converge(&[("path", "p/mount/d/"), ("state", "exists"), ("recurse", "true")]).1, "created");
    assert_eq!(bench.converge(&file).1, "created, 1 bytes");
    let gone = [("path", "p/mount/"), ("state", "absent"), ("recurse", "true"), ("force", "true")];
    assert_eq!(bench.check(&gone), "fault: cannot remove p/mount: it is a mount point");
}

/// What changes something by a name alone is not there to be used by mistake: only the way knows how to go by name.
#[test]
fn nothing_but_the_way_goes_by_name() {
    let by_name = ["CWD", "fs::write", "fs::rename", "fs::remove", "fs::create", "fs::set_p", "fs::hard", "symlink("];
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file");
    let mut read = 0;
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.ends_with("tests.rs") || path.ends_with("place.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found: Vec<_> = by_name.into_iter().filter(|words| program.contains(words)).collect();
        assert!(found.is_empty(), "{} uses {found:?}", path.display());
        read += 1;
    }
    assert!(read > 10, "the files have moved");
}
