//! Progress of long work: one line on a terminal that says which commands run, for how long, and what waits for what.
//! Elsewhere nothing is drawn; every ten seconds a plain log line says the same.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mgmt_engine::report::{Stand, Standing};
use mgmt_engine::runner::Snapshot;

/// How often the line is drawn anew.
pub const REDRAW: Duration = Duration::from_millis(200);
/// How often a plain line is written instead.
pub const PLAIN: Duration = Duration::from_secs(10);
/// Work shorter than this is not worth a line.
const WORTH: Duration = Duration::from_millis(500);
/// Resources named in the line.
const NAMED_MAX: usize = 4;

/// The progress line.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    /// Drawn on standard error if that is a terminal that can move its cursor.
    pub fn new() -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if terminal {
            bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed"));
        }
        Self { bar, terminal }
    }

    /// Whether a line can be drawn.
    pub const fn is_drawn(&self) -> bool {
        self.terminal
    }

    /// Shows what goes on now; hides the line when nothing long does.
    pub fn show(&self, snapshot: &Snapshot) {
        match sentence(snapshot, WORTH) {
            Some(text) => {
                if self.bar.is_hidden() {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                self.bar.set_message(text);
                self.bar.tick();
            }
            None => self.hide(),
        }
    }

    /// Takes the line away.
    pub fn hide(&self) {
        if !self.bar.is_hidden() {
            self.bar.finish_and_clear();
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
            self.bar.reset();
        }
    }

    /// Writes something that must not be mixed with the line.
    pub fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.terminal { self.bar.suspend(write) } else { write() }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// `exec[a] 7s, exec[b] 7s; waiting: exec[c] for exec[a]`; `None` if nothing has run for `worth`.
pub fn sentence(snapshot: &Snapshot, worth: Duration) -> Option<String> {
    let age = |stand: &Stand| stand.running_since.map(|since| snapshot.now.since(since));
    let mut running: Vec<_> =
        snapshot.stands.iter().filter_map(|s| Some((age(s).filter(|age| *age >= worth)?, s))).collect();
    let awaits = |stand: &&Stand| stand.awaits.is_some() && stand.standing == Standing::Waiting;
    let awaiting: Vec<_> = snapshot.stands.iter().filter(awaits).collect();
    if running.is_empty() && awaiting.is_empty() {
        return None;
    }
    running.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    let named = running.iter().take(NAMED_MAX).map(|(age, s)| format!("{} {}s", s.id, age.as_secs()));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if let more @ 1.. = running.len().saturating_sub(NAMED_MAX) {
        text.push_str(&format!(" and {more} more"));
    }
    let others = |stand: &&Stand| stand.awaits.is_none() && stand.standing == Standing::Waiting;
    let waiting: Vec<_> = awaiting.into_iter().chain(snapshot.stands.iter().filter(others)).collect();
    let named = waiting.iter().take(NAMED_MAX).map(|s| match (&s.awaits, s.waits_for.first()) {
        (Some(what), _) => format!("{} for {what}", s.id),
        (None, Some(first)) => format!("{} for {first}", s.id),
        (None, None) => s.id.to_string(),
    });
    if !waiting.is_empty() {
        text.push_str(if text.is_empty() { "waiting: " } else { "; waiting: " });
        text.push_str(&named.collect::<Vec<_>>().join(", "));
        if let more @ 1.. = waiting.len().saturating_sub(NAMED_MAX) {
            text.push_str(&format!(" and {more} more"));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use mgmt_engine::{Id, Moment};

    use super::*;

    #[test]
    fn the_sentence_names_what_runs_and_what_waits() {
        let stand = |name: &str, standing, since: Option<u64>, waits: &[&str]| Stand {
            id: Id::new("exec", name),
            standing,
            running_since: since.map(Moment::from_millis),
            waits_for: waits.iter().map(|w| Id::new("exec", w)).collect(),
            awaits: None,
            fault: None,
            changes: 0,
        };
        let mut snapshot = Snapshot {
            stands: vec![
                stand("a", Standing::Busy, Some(0), &[]),
                stand("b", Standing::Waiting, None, &["a"]),
                stand("c", Standing::Busy, Some(6800), &[]),
            ],
            quiet_since: None,
            converged: false,
            now: Moment::from_millis(7000),
        };
        assert_eq!(sentence(&snapshot, WORTH).as_deref(), Some("exec[a] 7s; waiting: exec[b] for exec[a]"));
        snapshot.stands.remove(0);
        assert_eq!(sentence(&snapshot, WORTH), None);
        snapshot.stands[0] = Stand { awaits: Some("a key".to_owned()), ..stand("d", Standing::Waiting, None, &[]) };
        assert_eq!(sentence(&snapshot, WORTH).as_deref(), Some("waiting: exec[d] for a key"));
    }
}
