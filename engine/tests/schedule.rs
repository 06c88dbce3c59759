//! Plays the scripts in `testdata` against the schedule.
//!
//! A script is a list of blocks: what happens, a line `----`, what is then to be done and what was said, an empty line.
//! Words of what happens:
//!
//! - `graph a -> b, b => c, d`: replaces the graph; `=>` notifies. Vertices keep their meta from earlier `meta` lines;
//!   one written `a'` is another version of `a`.
//! - `meta a retry=2 delay=10 poll=5 limit=1/3 sema=x:1 noop`
//! - `looked a clean`, `looked a TEXT` (drifted), `looked a later` (not yet), `looked a ! TEXT` (failed)
//! - `applied a`, `applied a refreshed`, `applied a unchanged`, `applied a ! TEXT`; `refreshed a`
//! - `granted a`, `refused a ! TEXT`, `lost a ! TEXT`: of what `a` asked for last and shares with other hosts
//! - `raised a`, `ticked a`, `unarmed a ! TEXT`, `watch a ! TEXT`; `wait MILLIS`, `wake` (to the next deadline); `drain`
//! - `hold`: nothing is pulled until `pull`; `back a`: what was pulled last for `a` is put back

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::difference::difference;
use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Ticket, Work};
use mgmt_engine::schedule::{Action, Ask, Deed, Event, Found, Options, Schedule, Wish};
use mgmt_engine::{Graph, Id, Limit, Meta, Moment, Semaphore, Vertex};

#[derive(Debug, PartialEq)]
struct Version(usize);

#[derive(Debug)]
struct Nothing;
impl std::fmt::Display for Nothing {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
impl Drift for Nothing {}

impl Resource for Version {
    type Drift = Nothing;
    async fn check(&self, _: &Look) -> Result<Check<Nothing>, Fault> {
        Ok(Check::Converged)
    }
    async fn apply(&self, _: Nothing, _: &Work) -> Result<Applied, Fault> {
        Ok(Applied::Unchanged)
    }
}

struct Play {
    schedule: Schedule,
    graph: Graph,
    metas: BTreeMap<String, Meta>,
    tickets: BTreeMap<String, Ticket>,
    actions: BTreeMap<String, Action>,
    asks: BTreeMap<String, (Ticket, Ask)>,
    now: Moment,
    holding: bool,
}

impl Play {
    fn new(options: Options) -> Self {
        Self {
            schedule: Schedule::new(options),
            graph: Graph::default(),
            metas: BTreeMap::new(),
            tickets: BTreeMap::new(),
            actions: BTreeMap::new(),
            asks: BTreeMap::new(),
            now: Moment::START,
            holding: false,
        }
    }

    fn graph(&mut self, text: &str, again: bool) {
        let mut graph = Graph::new("script");
        let add = |graph: &mut Graph, word: &str| {
            let name = word.trim_end_matches('\'');
            let vertex = Vertex {
                id: Id::new("v", name),
                resource: Arc::new(Version(word.len() - name.len())),
                meta: self.metas.get(name).cloned().unwrap_or_default(),
            };
            graph.add(vertex).unwrap_or_else(|known| known)
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (notify, ends) = match part.split_once("=>") {
                Some(ends) => (true, Some(ends)),
                None => (false, part.split_once("->")),
            };
            match ends {
                Some((from, to)) => {
                    let (from, to) = (add(&mut graph, from.trim()), add(&mut graph, to.trim()));
                    graph.connect(from, to, notify);
                }
                None => {
                    add(&mut graph, part);
                }
            }
        }
        graph.seal(&[]).expect("scripts have no cycles");
        let difference = difference(&self.graph, &graph);
        self.schedule.replace(&graph, &difference, &BTreeSet::new(), again, self.now);
        self.graph = graph;
    }

    fn meta(&mut self, line: &str) {
        let mut words = line.split(' ');
        let meta = self.metas.entry(words.next().expect("a name").to_owned()).or_default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "retry" => meta.retry = value.parse().ok(),
                "delay" => meta.delay = Duration::from_millis(value.parse().expect("a number")),
                "poll" => meta.poll = Some(Duration::from_secs(value.parse().expect("a number"))),
                "limit" => {
                    let (rate, burst) = value.split_once('/').expect("rate/burst");
                    let burst: NonZeroU32 = burst.parse().expect("a number");
                    meta.limit = Some(Limit { rate: rate.parse().expect("a number"), burst });
                }
                "sema" => {
                    let (id, count) = value.split_once(':').expect("id:count");
                    meta.sema.push(Semaphore { id: id.into(), count: count.parse().expect("a number") });
                }
                "noop" => meta.noop = true,
                other => panic!("unknown meta {other}"),
            }
        }
    }

    fn happen(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, what) = rest.split_once(' ').unwrap_or((rest, ""));
        let fault = what.strip_prefix("! ").map(Fault::new);
        let ticket = || *self.tickets.get(name).unwrap_or_else(|| panic!("nothing was ever done to {name}: {line}"));
        let applied = || match (&fault, what) {
            (Some(fault), _) => Err(fault.clone()),
            (None, "unchanged") => Ok(Applied::Unchanged),
            (None, what) => Ok(Applied::Changed { deed: "done".into(), refreshed: what == "refreshed" }),
        };
        let event = match word {
            "graph" => return self.graph(rest, true),
            "elsewhere" => return self.graph(rest, false),
            "meta" => return self.meta(rest),
            "hold" => return self.holding = true,
            "pull" => return self.holding = false,
            "drain" => return self.schedule.drain(self.now),
            "back" => return self.schedule.put_back(&self.actions[name], self.now),
            "wait" => {
                self.now = self.now.after(Duration::from_millis(rest.parse().expect("a number")));
                Event::Wake
            }
            "wake" => {
                self.now = self.schedule.wake_at().expect("a deadline").max(self.now);
                Event::Wake
            }
            "looked" => Event::Looked(
                ticket(),
                match (fault, what) {
                    (Some(fault), _) => Err(fault),
                    (None, "clean") => Ok(Found::Converged),
                    (None, "later") => Ok(Found::Later("what is not there yet".to_owned())),
                    (None, drift) => Ok(Found::Drifted(drift.to_owned())),
                },
            ),
            "applied" => Event::Applied(ticket(), applied()),
            "refreshed" => Event::Refreshed(ticket(), applied()),
            "granted" | "refused" | "lost" => {
                let (ticket, ask) = self.asks[name];
                match (word, fault) {
                    ("refused", fault) => Event::NotGranted(ticket, ask, fault.expect("why")),
                    ("lost", fault) => Event::GrantLost(ticket, ask, fault.expect("why")),
                    _ => Event::Granted(ticket, ask, 7),
                }
            }
            "raised" => Event::Raised(ticket()),
            "ticked" => Event::Ticked(ticket()),
            "unarmed" => Event::NotArmed(ticket(), fault.expect("a watch is armed or fails")),
            "watch" => Event::WatchFailed(ticket(), fault.expect("a watch only fails")),
            other => panic!("unknown word {other}"),
        };
        self.schedule.step(event, self.now);
    }

    fn wishes(&mut self, out: &mut String) {
        for wish in self.schedule.take_wishes() {
            let name = |ticket| self.schedule.name_of(ticket).expect("it is alive").name.to_string();
            match wish {
                Wish::Have(ticket, ask, wanted) => {
                    let wanted: Vec<_> = wanted.iter().map(|sema| format!("{}:{}", sema.id, sema.count)).collect();
                    writeln!(out, "ask for {} ({})", name(ticket), wanted.join(", ")).expect("memory");
                    self.asks.insert(name(ticket), (ticket, ask));
                }
                Wish::Release(ask) => {
                    let whose = self.asks.iter().find(|(_, (_, known))| *known == ask).expect("it was asked for").0;
                    writeln!(out, "give back of {whose}").expect("memory");
                }
                Wish::Cancel(ticket) => writeln!(out, "cancel {}", name(ticket)).expect("memory"),
            }
        }
    }

    fn trace(&mut self) -> String {
        let mut out = String::new();
        for report in self.schedule.take_reports() {
            writeln!(out, "said {}: {:?}", report.id.name, report.what).expect("memory");
        }
        self.wishes(&mut out);
        while let Some(action) = if self.holding { None } else { self.schedule.next(self.now) } {
            let name = self.schedule.name_of(action.ticket).expect("its life has just begun to act").name.to_string();
            self.tickets.insert(name.clone(), action.ticket);
            self.actions.insert(name.clone(), action.clone());
            let deed = match action.deed {
                Deed::Look if action.arm => "arm, look",
                Deed::Look => "look",
                Deed::Apply => "apply",
                Deed::Refresh => "refresh",
            };
            write!(out, "{deed} {name} ({}", action.cause).expect("memory");
            if action.refresh {
                out.push_str(", refresh pending");
            }
            if let Some(owed) = &action.owed {
                write!(out, ", owed {:?}", owed.ids).expect("memory");
            }
            if let Some(fence) = action.fence {
                write!(out, ", fence {fence}").expect("memory");
            }
            out.push_str(")\n");
        }
        self.wishes(&mut out);
        for converged in self.schedule.take_converged() {
            out.push_str(if converged { "converged\n" } else { "not converged\n" });
        }
        out
    }
}

fn play(script: &str, options: Options) -> String {
    let mut play = Play::new(options);
    let mut out = String::new();
    for block in script.split("\n\n").map(str::trim_end).filter(|b| !b.trim().is_empty()) {
        let (before, _) = block.split_once("\n----").unwrap_or((block, ""));
        for line in before.lines().filter(|l| !l.trim().is_empty()) {
            if !line.trim_start().starts_with('#') {
                play.happen(line.split(" #").next().unwrap_or(line).trim());
            }
        }
        writeln!(out, "{before}\n----\n{}", play.trace()).expect("memory");
    }
    out
}

fn options(name: &str) -> Options {
    Options {
        noop: name.starts_with("noop"),
        recheck: name.starts_with("agent"),
        converged: Duration::from_millis(if name.starts_with("converge") { 5000 } else { 0 }),
    }
}

/// With `UPDATE_EXPECT=1` the scripts are rewritten: read the difference before committing it.
#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are part of the project") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        let script = std::fs::read_to_string(&path).expect("a readable script");
        let got = play(&script, options(&name));
        expect_test::expect_file![&path].assert_eq(&got);
        played += 1;
    }
    assert!(played >= 8, "only {played} scripts were found");
}
