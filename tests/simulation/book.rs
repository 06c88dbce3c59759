//! What is written down of a run while it lasts: what hosts applied, what clients and watchers were told, what was
//! sighted. The first broken promise stays in it, and ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::oracle::history::{Index, Operation};
use crate::oracle::invariants::{Invariants, Sighting, Term};
use crate::oracle::watches::Watcher;
use crate::oracle::{Violation, watches, wgl, witness};
use crate::swarm::Fault;
use crate::trace::Trace;
use crate::translate;

/// The record of a run. Shared by all that happens in it.
#[derive(Clone)]
pub(crate) struct Book {
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

/// Who wrote a membership, and its sets of voters.
type Stored = ((Term, u64), Vec<BTreeSet<u64>>);

#[derive(Default)]
struct Inner {
    invariants: Invariants,
    /// What hosts applied: each command, and what the first of them answered. The invariants see that all answer so.
    log: BTreeMap<Index, (Bytes, Bytes)>,
    operations: Vec<Operation>,
    watchers: Vec<Watcher>,
    /// Who votes, as it stands in the log.
    memberships: BTreeMap<Index, Stored>,
    /// Who wrote what stands in the log, as far as it was sent to anybody.
    written: BTreeMap<Index, (Term, u64)>,
    broken: Option<Violation>,
    tally: Tally,
}

/// How much of what there was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Faults that took effect.
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// Operations that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Operations of which nobody knows.
    pub(crate) unknown: u64,
    /// Operations that stand in the log more than once.
    pub(crate) repeated: u64,
    /// Events that watchers were shown.
    pub(crate) watched: u64,
    /// Leaders that were sighted.
    pub(crate) leaders: u64,
    /// Steps of the membership.
    pub(crate) steps: u64,
    /// Virtual time.
    pub(crate) nanos: u64,
}

impl Tally {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.repeated += other.repeated;
        self.watched += other.watched;
        self.leaders += other.leaders;
        self.steps += other.steps;
        self.nanos += other.nanos;
    }
}

impl Book {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { trace, inner: Arc::default() }
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("held for a moment only")
    }

    /// A promise was broken. The first one counts.
    pub(crate) fn broke(&self, violation: Violation) {
        self.trace.line(None, format_args!("BROKEN {violation}"));
        self.inner().broken.get_or_insert(violation);
    }

    /// The promise that was broken, if one was.
    pub(crate) fn broken(&self) -> Option<Violation> {
        self.inner().broken.clone()
    }

    /// Takes in what was sighted.
    pub(crate) fn see(&self, sighting: &Sighting) {
        if let Sighting::Granted { voter, term, candidate } = sighting {
            self.trace.line(None, format_args!("{voter} votes for {candidate} in term {term}"));
        }
        let verdict = self.inner().invariants.see(sighting);
        if let Err(violation) = verdict {
            self.broke(violation);
        }
    }

    /// A host applied a command.
    pub(crate) fn applied(&self, index: Index, command: &[u8], outcome: &Bytes) {
        let mut inner = self.inner();
        inner.log.entry(index).or_insert_with(|| (Bytes::copy_from_slice(command), outcome.clone()));
    }

    /// An entry was seen in the log of a leader, perhaps with a membership in it.
    pub(crate) fn entry(&self, index: Index, writer: (Term, u64), membership: Option<Vec<BTreeSet<u64>>>) {
        let mut inner = self.inner();
        let known = inner.written.entry(index).or_insert(writer);
        if writer < *known {
            // A leader that was replaced and does not know it yet.
            return;
        }
        if writer > *known {
            // What stood here and behind was cut off by whoever wrote this.
            *known = writer;
            inner.memberships.split_off(&index);
        }
        let Some(new) = membership else { return };
        if inner.memberships.range(index..).next().is_some() {
            return;
        }
        let old = inner.memberships.last_key_value().map(|(_, (_, sets))| sets.clone()).unwrap_or_default();
        inner.memberships.insert(index, (writer, new.clone()));
        inner.tally.steps += u64::from(old != new);
        drop(inner);
        self.trace.line(None, format_args!("voters {new:?} at {index} by {writer:?}"));
        self.see(&Sighting::Membership { index, old, new });
    }

    /// The sets of voters that may still count: of the last memberships in the log.
    pub(crate) fn voters(&self) -> Vec<BTreeSet<u64>> {
        let inner = self.inner();
        inner.memberships.values().rev().take(3).flat_map(|(_, sets)| sets.clone()).collect()
    }

    /// An operation ended.
    pub(crate) fn operation(&self, operation: Operation) {
        self.inner().operations.push(operation);
    }

    /// A watcher's life is over.
    pub(crate) fn watcher(&self, watcher: Watcher) {
        self.inner().watchers.push(watcher);
    }

    /// A fault took effect.
    pub(crate) fn fault(&self, fault: Fault) {
        *self.inner().tally.faults.entry(fault).or_default() += 1;
    }

    /// A leader that was not known.
    pub(crate) fn leader(&self) {
        self.inner().tally.leaders += 1;
    }

    /// The highest index that was applied anywhere.
    pub(crate) fn highest(&self) -> Index {
        self.inner().log.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// The last judgement: all that was told, against all that was applied. `until`: what watchers must have seen.
    pub(crate) fn judge(&self, until: Index) -> Tally {
        let inner = self.inner();
        let mut tally = inner.tally.clone();
        tally.nanos = self.trace.now();
        for operation in &inner.operations {
            match operation.end {
                crate::oracle::history::End::Known { .. } => tally.acknowledged += 1,
                crate::oracle::history::End::Unknown => tally.unknown += 1,
                crate::oracle::history::End::Never => {}
            }
        }
        let verdict = translate::entries(&inner.log).and_then(witness::replay).and_then(|replay| {
            tally.repeated = replay.repeated() as u64;
            witness::judge(&inner.operations, &replay)?;
            wgl::judge(&inner.operations)?;
            for watcher in &inner.watchers {
                tally.watched += watcher.events() as u64;
                watches::judge(watcher, &replay, until)?;
            }
            Ok(())
        });
        drop(inner);
        if let Err(violation) = verdict {
            self.broke(violation);
        }
        tally
    }
}
