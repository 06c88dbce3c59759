//! As many edits as one process can make, over many files: none may be lost.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::kit::{Bench, Random, UNLIMITED, VISIBLE, contents, graph, millis, scratch};

/// The edits end then, however many were made.
const TIME_MAX: Duration = Duration::from_secs(120);

pub(crate) fn run(bench: &mut Bench) {
    let (edits, count) = (bench.pick(100_000, 5_000), bench.pick(1_000, 200));
    let scratch = scratch();
    let (file, directory) = (scratch.path().join("graph.yaml"), scratch.path().join("d"));
    fs::create_dir(&directory).expect("space");
    fs::write(&file, graph(&directory, 0..count, &format!("{VISIBLE}{UNLIMITED}"))).expect("space");
    let agent = Agent::start(&file, Stdio::null());
    let changes = agent.status()["changes"].as_u64().expect("a number");
    let paths: Vec<_> = (0..count).map(|n| directory.join(format!("f{n:06}"))).collect();
    let wants: Vec<_> = (0..count).map(contents).collect();
    let wrong = || {
        let right = |n: &usize| fs::read(&paths[*n]).is_ok_and(|is| is == wants[*n].as_bytes());
        (0..count).filter(|n| !right(n)).count()
    };

    let (mut random, mut made, cpu, began) = (Random(1), 0, agent.cpu(), Instant::now());
    while made < edits && began.elapsed() < TIME_MAX {
        let path = &paths[random.below(count)];
        // What another edit has deleted and nobody has repaired yet cannot be deleted again: that is no edit.
        let edited = if random.below(2) == 0 { fs::remove_file(path) } else { fs::write(path, b"DRIFT") };
        made += usize::from(edited.is_ok());
    }
    let (edited, began) = (began.elapsed(), Instant::now());
    while wrong() > 0 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let right = began.elapsed();
    agent.until_quiet();
    std::thread::sleep(Duration::from_secs(1));
    let (lost, status, cpu) = (wrong(), agent.status(), agent.cpu() - cpu);
    let repairs = status["changes"].as_u64().expect("a number") - changes;
    let overflows = &status["watches"]["overflows"];
    bench.figure(
        &format!("{made} edits of {count} files in {}", millis(edited)),
        format!("{lost} lost; all right {} after the last; {repairs} repairs, {overflows} overflows", millis(right)),
        millis(cpu),
        "0 lost",
    );
    drop(agent);
    bench.keep(scratch);
}
