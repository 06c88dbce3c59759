//! Whether the whole mesh is converged: all hosts for their own reasons, and none of them by a view of the exchange that
//! is older than the last change of any exports.
//!
//! Each host says how it is whatever the others are, so that nobody waits for somebody who waits for him. Who asks counts
//! everybody in the group: whoever does not answer holds it up, unless he is down by the leader's word, or has said that
//! his run ends. Must not know what somebody does who waits for this.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use mgmt_consensus::Member;
use mgmt_engine::runner::Condition;
use tokio::sync::watch;

use super::answers::DOWN_MS;
use super::inquiry::{AskError, Asked, ask_some};
use super::link::Link;
use super::messages::inquiry::{Answer, Inquiry};
use super::node::Node;
use super::standing::Standing;
use super::{Mesh, Stage};

/// Between two questions while it is waited for.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two questions while all is calm: only an agent goes on asking then.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// A moment that is nearer than this is waited for no more closely.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the mesh is converged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calm {
    /// All of it, and for long enough.
    Converged,
    /// All of it, and for long enough in so long, if nothing happens.
    Soon(Duration),
    /// Not all of it; in words, why.
    Not(String),
    /// It will not be: this host has no part in it any more; in words.
    Never(String),
}

/// What is known of another member.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// What it says.
    Said(Standing),
    /// Nothing, and that is nobody's concern.
    Excused,
    /// Nothing, in words why.
    Silent(String),
}

/// Says how calm the mesh is, for as long as it is polled. `condition` is that of this host's engine: while it works,
/// nobody is asked.
pub async fn watch(
    link: Link,
    timeout: Duration,
    mut condition: watch::Receiver<Condition>,
    calm: watch::Sender<Calm>,
) {
    let mut held_by = None;
    loop {
        let now = look(&link, timeout, &mut held_by).await;
        let pause = match &now {
            Calm::Converged => LONG_PAUSE,
            Calm::Soon(rest) => (*rest).clamp(PAUSE_MIN, PAUSE),
            Calm::Not(_) | Calm::Never(_) => PAUSE,
        };
        calm.send_if_modified(|before| {
            let is_news = *before != now;
            *before = now;
            is_news
        });
        tokio::select! {
            biased;
            // The engine may end before this does.
            changed = condition.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks everybody. Whoever held it up at the last look is asked alone first: where many wait for one, only that one is
/// asked again and again.
async fn look(link: &Link, timeout: Duration, held_by: &mut Option<String>) -> Calm {
    let Some(mesh) = link.mesh() else { return Calm::Not("this host has no part in a mesh yet".to_owned()) };
    let node = match (mesh.node(), mesh.stage()) {
        (_, Stage::Left) => return Calm::Never("this host has left the mesh".to_owned()),
        (_, Stage::Stopped(why) | Stage::Outdated(why)) => return Calm::Never(why),
        (_, Stage::Coming(why)) => return Calm::Not(format!("this host is on its way into the mesh: {why}")),
        (None, Stage::Member) => return Calm::Not("this host is on its way into the mesh".to_owned()),
        (Some(node), Stage::Member) => node,
    };
    let own = || mesh.inquiries().standing().unwrap_or_default();
    if let Some(why) = busy(&own(), 0) {
        return Calm::Not(format!("this host {why}"));
    }
    // Whoever was just let in does not know yet who else is there; once it sees itself among them, it does.
    if !node.replica.standing().members().any(|(id, _)| id == node.replica.id()) {
        return Calm::Not("this host has not heard yet who is in the mesh".to_owned());
    }
    if let Some(last) = held_by.as_deref() {
        let word = words(&mesh, &node, |host| host == last).await;
        if let Some(holder) = holder(&own(), &word) {
            return Calm::Not(holder.to_string());
        }
    }
    let others = words(&mesh, &node, |_| true).await;
    // As it is now: it may have begun to work meanwhile.
    let own = own();
    *held_by = holder(&own, &others).and_then(|holder| holder.host);
    decide(&own, &others, timeout)
}

/// What each of the others says, of those that are meant.
async fn words(mesh: &Mesh, node: &Node, is_meant: impl Fn(&str) -> bool) -> Vec<(String, Word)> {
    let me = node.replica.id();
    let is_meant = |id, member: &Member| id != me && is_meant(&member.host);
    let asked = ask_some(mesh.runtime(), &node.replica, is_meant, &Inquiry::Standing {}, PATIENCE).await;
    let is_silent = |asked: &Asked| matches!(asked.answer, Err(AskError::Silent(_)));
    let is_down: BTreeSet<String> = if asked.iter().any(is_silent) {
        let seen = node.look().await.unwrap_or_default();
        seen.into_iter().filter(|seen| seen.silent_ms > DOWN_MS).map(|seen| seen.host).collect()
    } else {
        BTreeSet::new()
    };
    let speaks: BTreeSet<_> =
        asked.iter().filter(|asked| asked.answer.is_ok()).map(|asked| asked.member.host.clone()).collect();
    let word = |asked: Asked| {
        let Asked { member, answer, .. } = asked;
        let word = match answer {
            Ok(Answer::Standing(standing)) => {
                if !standing.ended {
                    mesh.inquiries().is_back(&member);
                }
                Word::Said(standing)
            }
            Ok(_) => Word::Silent(AskError::Strange.to_string()),
            // One that has left for good, and is in the group for a moment longer.
            Err(AskError::Silent(_)) if !node.has_registered(&member) => Word::Excused,
            // A former life of a host that speaks; one that has said farewell; one that the leader takes for dead.
            Err(_) if speaks.contains(&member.host) || mesh.inquiries().is_gone(&member) => Word::Excused,
            Err(AskError::Silent(_)) if is_down.contains(&member.host) => Word::Excused,
            Err(error) => Word::Silent(error.to_string()),
        };
        (member.host, word)
    };
    asked.into_iter().map(word).collect()
}

/// What keeps a host from being converged, where the last change of any exports was at this revision.
fn busy(standing: &Standing, exports: u64) -> Option<String> {
    match standing {
        _ if standing.ended => None,
        Standing { converged: false, .. } | Standing { quiet_ms: None, .. } => Some("is not converged".to_owned()),
        Standing { publishing: true, .. } => Some("has something to publish".to_owned()),
        Standing { settled, .. } if *settled < exports => {
            Some(format!("has seen exports of revision {settled}, and the last change was at {exports}"))
        }
        _ => None,
    }
}

/// The first that keeps the mesh from being converged.
struct Holder {
    /// Which host; none: this one.
    host: Option<String>,
    why: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.host.as_deref().unwrap_or("this host"), self.why)
    }
}

fn said(others: &[(String, Word)]) -> impl Iterator<Item = &Standing> {
    others.iter().filter_map(|(_, word)| if let Word::Said(standing) = word { Some(standing) } else { None })
}

fn holder(own: &Standing, others: &[(String, Word)]) -> Option<Holder> {
    // What anybody knows of the exports is what all are measured by.
    let exports = said(others).chain([own]).map(|standing| standing.exports).max().unwrap_or_default();
    if let Some(why) = busy(own, exports) {
        return Some(Holder { host: None, why });
    }
    let holds = |(host, word): &(String, Word)| {
        let why = match word {
            Word::Said(standing) => busy(standing, exports),
            Word::Silent(why) => Some(format!("says nothing: {why}")),
            Word::Excused => None,
        };
        why.map(|why| Holder { host: Some(host.clone()), why })
    };
    others.iter().find_map(holds)
}

fn decide(own: &Standing, others: &[(String, Word)], timeout: Duration) -> Calm {
    if let Some(holder) = holder(own, others) {
        return Calm::Not(holder.to_string());
    }
    let counted = said(others).chain([own]).filter(|standing| !standing.ended);
    let quiet = counted.filter_map(|standing| standing.quiet_ms).min().map(Duration::from_millis);
    match timeout.checked_sub(quiet.unwrap_or_default()) {
        None | Some(Duration::ZERO) => Calm::Converged,
        Some(rest) => Calm::Soon(rest),
    }
}
