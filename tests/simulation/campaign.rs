//! Many seeds, and what came of them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use mgmt_consensus::mutant::{self, Mutant};
use mgmt_engine::{Clock, Moment};

use crate::book::Tally;
use crate::swarm::Plan;
use crate::world::{Outcome, run};

/// Seeds that are run without being asked for.
const FEW: u64 = 4;
/// And of whole nodes, where more happens.
const FEW_WHOLE: u64 = 2;
/// Seeds that are run twice, each with its trace compared, in a campaign.
const TWICE: u64 = 20;
/// Between two lines of progress.
const PROGRESS: u64 = 25;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// The group and its store.
    Group,
    /// Hosts with all they have: exports, collects, engines.
    Whole,
}

impl World {
    fn plan(self, seed: u64) -> Plan {
        match self {
            Self::Group => Plan::of(seed),
            Self::Whole => Plan::whole(seed),
        }
    }

    /// How it is asked for.
    const fn flag(self) -> &'static str {
        match self {
            Self::Group => "",
            Self::Whole => " --whole",
        }
    }

    /// Where a defect shows.
    fn of(mutant: Mutant) -> Self {
        if Mutant::OF_EXCHANGE.contains(&mutant) { Self::Whole } else { Self::Group }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Order {
    /// A few seeds, each twice.
    Few,
    /// One seed, with its trace.
    Seed { world: World, seed: u64, mutant: Option<Mutant> },
    /// Many seeds.
    Campaign { world: World, from: u64, seeds: u64 },
    /// Every mutant, with as many seeds as it takes.
    Mutants { from: u64, limit: u64, only: Option<Mutant> },
}

/// Reads what is asked for. What the test harness passes on (`--nocapture` and the like) is overlooked.
pub(crate) fn read(arguments: &[String]) -> Result<Order, String> {
    let value = |name: &str| -> Result<Option<&String>, String> {
        match arguments.iter().position(|argument| argument == name) {
            Some(at) => arguments.get(at + 1).map(Some).ok_or_else(|| format!("{name} needs a value")),
            None => Ok(None),
        }
    };
    let number = |name: &str| -> Result<Option<u64>, String> {
        let parse = |text: &String| text.parse().map_err(|_| format!("{name} {text}: no number"));
        value(name)?.map(parse).transpose()
    };
    let chosen = match value("--mutant")? {
        None => None,
        Some(name) => {
            let known = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == *name);
            Some(known.ok_or_else(|| format!("{name}: one of {:?}", Mutant::ALL))?)
        }
    };
    let from = number("--from")?.unwrap_or(0);
    let world = if arguments.iter().any(|argument| argument == "--whole") { World::Whole } else { World::Group };
    Ok(match arguments.first().map(String::as_str) {
        Some("campaign") => Order::Campaign { world, from, seeds: number("--seeds")?.unwrap_or(500) },
        Some("mutants") => Order::Mutants { from, limit: number("--limit")?.unwrap_or(600), only: chosen },
        _ => match number("--seed")? {
            Some(seed) => Order::Seed { world, seed, mutant: chosen },
            None => Order::Few,
        },
    })
}

impl Order {
    /// Does it.
    pub(crate) fn carry_out(self) -> ExitCode {
        let kept = match self {
            Self::Few => few(),
            Self::Seed { world, seed, mutant } => one(world, seed, mutant),
            Self::Campaign { world, from, seeds } => campaign(world, from, seeds),
            Self::Mutants { from, limit, only } => mutants(from, limit, only),
        };
        if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn one(world: World, seed: u64, chosen: Option<Mutant>) -> bool {
    let _chosen = mutant::choose(chosen);
    let plan = world.plan(seed);
    eprintln!("{plan:#?}");
    let outcome = run(plan, true);
    println!("sum {:016x} of {} events; {:?}", outcome.sum.0, outcome.sum.1, outcome.tally);
    match outcome.broken {
        None => true,
        Some(violation) => {
            println!("BROKEN {violation}");
            false
        }
    }
}

/// Says what broke, how it came to it, and how to see it again.
fn tell(world: World, seed: u64, outcome: &Outcome) {
    if let Some(violation) = &outcome.broken {
        println!("\nseed {seed} BROKEN {violation}\n\nthe end of its trace:");
        outcome.last.iter().for_each(|line| println!("{line}"));
        println!("\ncargo test --release --test simulation -- --seed {seed}{}\n", world.flag());
    }
}

/// Whether a seed does the same twice; `None` if it broke a promise.
fn repeats(world: World, seed: u64) -> Option<bool> {
    let (first, second) = (run(world.plan(seed), false), run(world.plan(seed), false));
    if first.broken.is_some() {
        tell(world, seed, &first);
        return None;
    }
    if first.sum != second.sum {
        println!("seed {seed} goes one way {:?} and another {:?}", first.sum, second.sum);
        let differs = first.last.iter().zip(&second.last).find(|(one, other)| one != other);
        println!("first at the end: {differs:#?}");
    }
    Some(first.sum == second.sum)
}

fn few() -> bool {
    let all = |(world, seeds)| (0..seeds).all(|seed| repeats(world, seed) == Some(true));
    let kept = [(World::Group, FEW), (World::Whole, FEW_WHOLE)].into_iter().all(all);
    if kept {
        println!(
            "simulation: {FEW} seeds of the group and {FEW_WHOLE} of whole nodes, each twice with the same trace; all promises kept"
        );
    }
    kept
}

/// Runs seeds on all cores, one a thread at a time, and hands over what came of each, in no order.
fn on_all_cores(world: World, from: u64, seeds: u64, mut hear: impl FnMut(u64, Outcome)) {
    let next = AtomicU64::new(from);
    let (told, heard) = mpsc::channel();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            let (next, told) = (&next, told.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || told.send((seed, run(world.plan(seed), false))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        for (seed, outcome) in heard {
            hear(seed, outcome);
        }
    });
}

fn campaign(world: World, from: u64, seeds: u64) -> bool {
    let clock = Clock::start();
    let (mut tally, mut broken, mut done, mut events) = (Tally::default(), Vec::new(), 0, 0);
    on_all_cores(world, from, seeds, |seed, outcome| {
        done += 1;
        events += outcome.sum.1;
        tally.add(&outcome.tally);
        if outcome.broken.is_some() {
            tell(world, seed, &outcome);
            broken.push(seed);
        }
        if done % PROGRESS == 0 {
            let seconds = clock.now().since(Moment::START).as_secs_f64();
            println!("{done} of {seeds} seeds, {:.1} a second, {} broken", done as f64 / seconds, broken.len());
        }
    });
    let twice = Mutex::new(Vec::new());
    let again = TWICE.min(seeds);
    thread::scope(|scope| {
        for half in 0..2 {
            let twice = &twice;
            scope.spawn(move || {
                for seed in (from + half..from + again).step_by(2).filter(|seed| repeats(world, *seed) == Some(false)) {
                    twice.lock().expect("pushed to only").push(seed);
                }
            });
        }
    });
    let differ = twice.into_inner().expect("pushed to only");
    let seconds = clock.now().since(Moment::START).as_secs_f64();
    println!("\nseeds {from}..{}: {} broken {broken:?}", from + seeds, broken.len());
    println!("run again: {again}, with another trace: {differ:?}");
    println!("faults: {}", tally.faults.values().sum::<u64>());
    tally.faults.iter().for_each(|(fault, count)| println!("  {count:>8} {fault:?}"));
    println!("leaders {}, changes of voters {}", tally.leaders, tally.steps);
    println!(
        "operations: {} acknowledged, {} unknown, {} in the log more than once",
        tally.acknowledged, tally.unknown, tally.repeated
    );
    println!("events shown to watchers {}, lines of trace {events}", tally.watched);
    println!(
        "virtual time {:.0} s in {seconds:.1} s, {:.2} seeds a second",
        tally.nanos as f64 / 1e9,
        seeds as f64 / seconds
    );
    broken.is_empty() && differ.is_empty()
}

/// Runs each mutant until it is caught. The mutants share the cores, the seeds of one do not.
fn mutants(from: u64, limit: u64, only: Option<Mutant>) -> bool {
    let clock = Clock::start();
    let left: Vec<Mutant> = Mutant::ALL.into_iter().filter(|mutant| only.is_none_or(|only| only == *mutant)).collect();
    let (next, caught) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("small");
                    let Some(mutant) = left.get(at) else { return };
                    let _chosen = mutant::choose(Some(*mutant));
                    let begun = clock.now();
                    let catch = (from..from + limit).find_map(|seed| {
                        let broken = run(World::of(*mutant).plan(seed), false).broken?;
                        Some((seed, broken))
                    });
                    match &catch {
                        Some((seed, broken)) => print!("{mutant:?}: seed {seed}, {}", broken.law),
                        None => print!("{mutant:?}: NOT CAUGHT by {limit} seeds"),
                    }
                    println!(", {:.1} s", clock.now().since(begun).as_secs_f64());
                    caught.lock().expect("pushed to only").push((*mutant, catch));
                }
            });
        }
    });
    let mut caught = caught.into_inner().expect("pushed to only");
    caught.sort_by_key(|(mutant, _)| *mutant);
    println!("\n{:<26} {:>5}  caught by", "mutant", "seeds");
    for (mutant, catch) in &caught {
        match catch {
            Some((seed, broken)) => println!("{:<26} {:>5}  {}", format!("{mutant:?}"), seed - from + 1, broken.law),
            None => println!("{:<26} {:>5}  nobody", format!("{mutant:?}"), "-"),
        }
    }
    println!("{:.1} s", clock.now().since(Moment::START).as_secs_f64());
    caught.iter().all(|(_, catch)| catch.is_some())
}
