//! What a graph would change, without changing it: looks at every vertex in order, and keeps account of what those
//! before it would have made of the host by then.
//!
//! Promises that nothing is written, and that an answer other than `unknown` is what an apply would do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{Cause, Change, Check, Look, Promise, Promises, Purpose};
use mgmt_engine::{Graph, Id};

/// Promises kept apart from each other; more are counted as "anything may happen".
const PROMISES_MAX: usize = 1000;

/// What a plan says of one vertex.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// As wanted.
    Ok,
    /// Would be changed.
    WouldChange {
        /// What is wrong.
        drift: String,
        /// Contents before and after, where there are some to show.
        change: Option<Change>,
        /// It may not be, because of `meta.noop`.
        noop: bool,
    },
    /// Cannot be told.
    Unknown {
        /// Because ….
        because: String,
    },
    /// Would fail.
    WouldFail {
        /// What is wrong.
        fault: String,
    },
}

impl Answer {
    /// One word for it, or two.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::WouldChange { .. } => "would change",
            Self::Unknown { .. } => "unknown",
            Self::WouldFail { .. } => "would fail",
        }
    }
}

/// What would be made of paths by a vertex and all before it.
type Made = Option<Arc<BTreeMap<PathBuf, (Promise, String)>>>;

/// Plans a graph: the answer for each vertex, by number. Without `guards`, what depends on one is unknown.
pub async fn plan(graph: &Graph, guards: bool) -> Vec<Answer> {
    let mut before: Vec<Vec<(usize, bool)>> = vec![Vec::new(); graph.vertices().len()];
    for edge in graph.edges() {
        before[edge.to].push((edge.from, edge.notify));
    }
    let mut answers = vec![Answer::Ok; graph.vertices().len()];
    let mut made: Vec<Made> = vec![None; graph.vertices().len()];
    let mut all: BTreeMap<PathBuf, (Promise, String)> = BTreeMap::new();
    for number in graph.order() {
        let id = &graph.vertices()[number].id;
        let (answer, own) = match in_the_way(graph, &before[number], &answers) {
            Some(because) => (Answer::Unknown { because }, Vec::new()),
            None => {
                let look = prospect(graph, number, &before[number], &answers, &made, guards);
                judge(graph, number, look).await
            }
        };
        all.extend(own.iter().map(|(path, promise)| (path.clone(), (*promise, id.to_string()))));
        made[number] = sum(id, own, before[number].iter().map(|(from, _)| &made[*from]));
        answers[number] = answer;
    }
    // A command may change anything, but is not taken to mend what would fail beside it.
    all.remove(Path::new("/"));
    if !all.is_empty() && answers.iter().any(|answer| matches!(answer, Answer::WouldFail { .. })) {
        reconsider(graph, &before, &mut answers, &made, &Arc::new(all)).await;
    }
    answers
}

/// What would fail as things are may not fail if something else, which it does not wait for, comes first by chance.
async fn reconsider(
    graph: &Graph,
    before: &[Vec<(usize, bool)>],
    answers: &mut [Answer],
    made: &[Made],
    all: &Arc<BTreeMap<PathBuf, (Promise, String)>>,
) {
    for number in graph.order() {
        match &answers[number] {
            Answer::WouldFail { fault } => {
                let mut look = prospect(graph, number, &before[number], answers, made, false);
                look.promises = look.promises.with_beside(Arc::clone(all));
                let fault = fault.clone();
                if let (Answer::Unknown { because }, _) = judge(graph, number, look).await {
                    let because = format!("{because}, or at the same time; as things stand, it would fail: {fault}");
                    answers[number] = Answer::Unknown { because };
                }
            }
            Answer::Unknown { .. } => {
                if let Some(because) = in_the_way(graph, &before[number], answers) {
                    answers[number] = Answer::Unknown { because };
                }
            }
            Answer::Ok | Answer::WouldChange { .. } => {}
        }
    }
}

/// A predecessor that would fail, or of which nothing is known.
fn in_the_way(graph: &Graph, before: &[(usize, bool)], answers: &[Answer]) -> Option<String> {
    before.iter().find_map(|(from, _)| {
        let id = &graph.vertices()[*from].id;
        match answers[*from] {
            Answer::WouldFail { .. } => Some(format!("{id} would fail, which holds this back")),
            Answer::Unknown { .. } => Some(format!("{id} comes first, and is unknown itself")),
            Answer::Ok | Answer::WouldChange { .. } => None,
        }
    })
}

/// What a vertex is told when its turn comes.
fn prospect(
    graph: &Graph,
    number: usize,
    before: &[(usize, bool)],
    answers: &[Answer],
    made: &[Made],
    guards: bool,
) -> Look {
    let changes = |from: usize| matches!(answers[from], Answer::WouldChange { noop: false, .. });
    let earlier = sum(&graph.vertices()[number].id, Vec::new(), before.iter().map(|(from, _)| &made[*from]));
    Look {
        cause: Cause::First,
        refresh: before.iter().any(|(from, notify)| *notify && changes(*from)),
        purpose: if guards { Purpose::Plan } else { Purpose::PlanWithoutGuards },
        promises: earlier.map_or_else(Promises::none, |made| Promises::new((*made).clone())),
    }
}

async fn judge(graph: &Graph, number: usize, look: Look) -> (Answer, Vec<(PathBuf, Promise)>) {
    let vertex = &graph.vertices()[number];
    let refresh = look.refresh;
    let check = Arc::clone(&vertex.resource).check(look);
    let checked = match vertex.meta.timeout {
        None => check.await,
        Some(limit) => tokio::time::timeout(limit, check)
            .await
            .unwrap_or_else(|_| Err(mgmt_engine::resource::Fault::new("check took longer than meta.timeout"))),
    };
    let noop = vertex.meta.noop;
    let hide = |text: String| if vertex.meta.sensitive { "differs (sensitive)".to_owned() } else { text };
    match checked {
        Ok(Check::Converged) => match vertex.resource.on_refresh().filter(|_| refresh) {
            Some(what) => (Answer::WouldChange { drift: what.to_owned(), change: None, noop }, Vec::new()),
            None => (Answer::Ok, Vec::new()),
        },
        Ok(Check::Unknown(_)) if vertex.meta.sensitive => {
            (Answer::Unknown { because: "why is hidden, because it is sensitive".to_owned() }, Vec::new())
        }
        Ok(Check::Unknown(because)) => (Answer::Unknown { because }, Vec::new()),
        Ok(Check::Later(what)) => (Answer::Unknown { because: format!("it waits for {what}") }, Vec::new()),
        Ok(Check::Drifted(fix)) => {
            let change = if vertex.meta.sensitive { None } else { fix.change() };
            let promises = if noop { Vec::new() } else { fix.promises() };
            (Answer::WouldChange { drift: hide(fix.to_string()), change, noop }, promises)
        }
        Err(fault) if vertex.meta.sensitive => {
            drop(fault);
            (Answer::WouldFail { fault: "why is hidden, because it is sensitive".to_owned() }, Vec::new())
        }
        Err(fault) => (Answer::WouldFail { fault: fault.to_string() }, Vec::new()),
    }
}

/// What is made by a vertex and by those before it, taken together.
fn sum<'a>(id: &Id, own: Vec<(PathBuf, Promise)>, before: impl Iterator<Item = &'a Made>) -> Made {
    let mut before: Vec<&Arc<_>> = before.flatten().collect();
    before.dedup_by(|a, b| Arc::ptr_eq(a, b));
    if own.is_empty() && before.len() <= 1 {
        return before.first().map(|only| Arc::clone(only));
    }
    let mut all: BTreeMap<PathBuf, (Promise, String)> = BTreeMap::new();
    let earlier =
        before.iter().flat_map(|made| made.iter().map(|(path, (promise, who))| (path.clone(), *promise, who.clone())));
    let own = own.into_iter().map(|(path, promise)| (path, promise, id.to_string()));
    for (path, promise, who) in earlier.chain(own) {
        match all.get_mut(&path) {
            // Two who promise the same path: the later one is believed only if they agree.
            Some(known) if known.0 != promise => *known = (Promise::Anything, who),
            Some(_) => {}
            None => drop(all.insert(path, (promise, who))),
        }
    }
    if all.len() > PROMISES_MAX {
        let (_, (_, who)) = all.pop_first().expect("more than a thousand are not none");
        all = BTreeMap::from([(PathBuf::from("/"), (Promise::Anything, who))]);
    }
    Some(Arc::new(all))
}
