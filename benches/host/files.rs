//! Many files: the first time, and when all is right.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kit::{Bench, Contender, VISIBLE, converge, floor, graph, mgmt, scratch, time};

pub(crate) fn run(bench: &mut Bench) {
    for (count, runs) in [(bench.pick(5_000, 500), bench.pick(9, 3)), (bench.pick(20_000, 2_000), bench.pick(5, 3))] {
        let scratch = scratch();
        let (file, number) = (scratch.path().join("graph.yaml"), count.to_string());
        let made = Cell::new(0);

        for (what, more) in [("visible", VISIBLE), ("durable", "")] {
            let ours = || {
                let directory = fresh(scratch.path(), &made);
                fs::write(&file, graph(&directory, 0..count, more)).expect("space");
                rustix::fs::sync();
                time(converge(&file))
            };
            let floor = || {
                let directory = fresh(scratch.path(), &made);
                rustix::fs::sync();
                time(floor(&[what, directory.to_str().expect("a plain path"), &number]))
            };
            let contenders: Vec<Contender<'_>> = vec![("", Box::new(ours)), ("", Box::new(floor))];
            bench.race(&format!("{count} files, first converge, {what}"), runs, contenders, "≤ 1.5 × floor");
        }

        let directory = fresh(scratch.path(), &made);
        fs::write(&file, graph(&directory, 0..count, "")).expect("space");
        let (place, path) = (directory.to_str().expect("a plain path"), file.to_str().expect("a plain path"));
        time(converge(&file));
        let contenders: Vec<Contender<'_>> = vec![
            ("", Box::new(|| time(converge(&file)))),
            ("1 thread", Box::new(|| time(floor(&["check", place, &number, "1"])))),
            ("2 threads", Box::new(|| time(floor(&["check", place, &number, "2"])))),
        ];
        let target = if count == 5_000 { "≤ 60 ms, then 40" } else { "-" };
        bench.race(&format!("{count} files, re-check, whole process"), runs * 2, contenders, target);
        let contenders: Vec<Contender<'_>> =
            vec![("", Box::new(|| time(mgmt(&["validate", path])))), ("cat", Box::new(|| time(cat(path))))];
        bench.race(&format!("{count} files, validate alone"), runs, contenders, "-");
        bench.keep(scratch);
    }
}

/// A directory that no earlier run has used.
fn fresh(scratch: &Path, made: &Cell<usize>) -> PathBuf {
    made.set(made.get() + 1);
    let directory = scratch.join(format!("d{}", made.get()));
    fs::create_dir(&directory).expect("space");
    directory
}

/// Reads a file, and does nothing with it.
fn cat(path: &str) -> Command {
    let mut command = Command::new("/bin/cat");
    command.arg(path).stdout(Stdio::null());
    command
}
