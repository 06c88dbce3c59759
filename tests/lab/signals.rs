//! Signals: end in order, end soon, end now; and read the graph again.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::agent::Agent;
use crate::machine::Need;
use crate::process::any_with;
use crate::scratch::{Scratch, file};

/// Two commands in a chain; the first waits for the file `go`, and takes a TERM as `trap` says.
fn chain(scratch: &Scratch, trap: &str) -> String {
    let path = |name: &str| scratch.path(name).display().to_string();
    let script = format!(
        "{trap}\ntouch {started}\nuntil [ -e {go} ]; do sleep 0.02; done\ntouch {first}\n",
        started = path("started"),
        go = path("go"),
        first = path("first")
    );
    fs::write(scratch.path("script"), script).unwrap();
    format!(
        "graph: lab\nresources:\n  exec:\n  - {{name: one, cmd: \"/bin/sh {}\"}}\n  - {{name: two, cmd: \"touch {}\"}}\n\
         edges:\n- {{name: e, from: {{kind: exec, name: one}}, to: {{kind: exec, name: two}}}}\n",
        path("script"),
        path("second")
    )
}

fn running(scratch: &Scratch, trap: &str) -> Agent {
    let agent = Agent::start(scratch, &scratch.graph(&chain(scratch, trap)));
    agent.until("its command runs", || scratch.path("started").exists());
    agent
}

#[test]
fn the_first_interrupt_finishes_what_runs_and_starts_nothing() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let mut agent = running(&scratch, ":");
    agent.signal(Signal::INT);
    agent.until_said("^C: finishing what runs, starting nothing; again to cancel it");
    fs::write(scratch.path("go"), "").unwrap();
    assert_eq!(agent.ended(), 0);
    assert!(scratch.path("first").exists(), "what ran was not finished");
    assert!(!scratch.path("second").exists(), "something was started");
}

#[test]
fn the_second_interrupt_cancels_and_the_third_kills() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let told = scratch.path("told");
    // It hears of it, and does not mind.
    let mut agent = running(&scratch, &format!("trap 'touch {}' TERM", told.display()));
    agent.signal(Signal::INT);
    agent.until_said("^C: finishing what runs");
    agent.signal(Signal::INT);
    agent.until_said("^C: cancelling what runs; again to kill it");
    agent.until("its command has got a TERM", || told.exists());
    let script = scratch.path("script").display().to_string();
    assert!(any_with(&format!("/bin/sh\0{script}")), "it minded");
    agent.signal(Signal::INT);
    agent.until_said("^C: killing what runs");
    agent.ended();
    assert!(!any_with(&script), "a command has survived");
    assert!(!scratch.path("second").exists(), "something was started");
}

#[test]
fn a_hangup_reads_the_graph_again() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let (one, two) = (scratch.path("one"), scratch.path("two"));
    let graph = scratch.graph(&file(&one, "one\n"));
    let mut command = scratch.verb("run", &graph);
    command.arg("--no-watch");
    let agent = Agent::start_as(&scratch, command, &scratch.prefix());
    agent.until_converged();
    scratch.graph(&file(&two, "two\n"));
    agent.signal(Signal::HUP);
    agent.until("the new graph runs", || two.exists());
    agent.until_said("HUP: reading the graph file again");
    scratch.graph("graph: lab\nresources: [");
    agent.signal(Signal::HUP);
    agent.until_said("the graph that runs goes on");
    fs::remove_file(&two).unwrap();
    agent.until("the old graph heals still", || two.exists());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_graph_file_that_is_never_left_alone_is_read_all_the_same() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let (path, over) = (scratch.path("a"), AtomicBool::new(false));
    let graph = |number: usize| scratch.graph(&file(&path, &number.to_string()));
    let mut agent = Agent::converged(&scratch, &graph(0));
    let code = std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                graph(number);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            agent.until("a new graph runs", || fs::read_to_string(&path).is_ok_and(|is| is != "0"));
            agent.signal(Signal::TERM);
            agent.ended()
        }));
        over.store(true, Ordering::Relaxed);
        code
    });
    assert_eq!(code.unwrap(), 0);
}
