//! The log as a witness: every answer names its place in it, so a history of any length is judged in one sweep. After
//! `databendlabs/openraft:tests-turmoil` and etcd's `tests/robustness/validate`, which do the like.
//!
//! It trusts the places that answers name. [`super::wgl`] does not.

use std::collections::BTreeMap;

use super::history::{Call, End, Entry, Index, Operation, OperationId, Reply};
use super::model::{Event, Model};
use super::{Verdict, broken};

/// The log replayed: what happened when, and the state at any revision.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Everything that happened, in order.
    pub(crate) events: Vec<Event>,
    /// Where each operation took effect. What was refused took none.
    first: BTreeMap<OperationId, Index>,
    /// Every place where an operation stands.
    places: BTreeMap<OperationId, Vec<Index>>,
    entries: Vec<Entry>,
}

/// Replays the log (in order, without gaps that matter) and holds the hosts' answers against the model's.
pub(crate) fn replay(entries: Vec<Entry>) -> Verdict<Replay> {
    let mut model = Model::default();
    let mut replay = Replay { events: Vec::new(), first: BTreeMap::new(), places: BTreeMap::new(), entries };
    let mut last = 0;
    for entry in &replay.entries {
        if entry.index <= last {
            return broken("the log grows", format!("index {} after {last}", entry.index));
        }
        last = entry.index;
        let (reply, events) = model.apply(entry.index, entry.id, &entry.call, &entry.reply);
        if reply != entry.reply && entry.call != Call::Other {
            let again = entry.id.is_some_and(|id| replay.first.contains_key(&id));
            let law = if again { "retried commands are applied once" } else { "outcomes follow from the log" };
            return broken(
                law,
                format!("{:?} at {}: hosts say {:?}, the model {reply:?}", entry.call, entry.index, entry.reply),
            );
        }
        replay.events.extend(events);
        if let Some(id) = entry.id {
            if !matches!(entry.reply, Reply::Refused(_)) {
                replay.first.entry(id).or_insert(entry.index);
            }
            replay.places.entry(id).or_default().push(entry.index);
        }
    }
    Ok(replay)
}

/// Judges what clients were told.
pub(crate) fn judge(operations: &[Operation], replay: &Replay) -> Verdict {
    acknowledged(operations, replay)?;
    nothing_invented(operations, replay)?;
    reads(operations, replay)?;
    real_time(operations, replay)
}

/// Every acknowledged write is in the log, where its answer says and with the outcome it says.
fn acknowledged(operations: &[Operation], replay: &Replay) -> Verdict {
    let by_index: BTreeMap<Index, &Entry> = replay.entries.iter().map(|entry| (entry.index, entry)).collect();
    for operation in operations {
        let (Some(id), End::Known { index, reply, .. }) = (operation.id, &operation.end) else { continue };
        let said = format!("{:?} (session, sequence {id:?}) was acknowledged at {index}", operation.call);
        let Some(entry) = by_index.get(index) else {
            return broken("acknowledged writes are kept", format!("{said}, where nothing stands"));
        };
        if entry.id != Some(id) || entry.call != operation.call {
            return broken("acknowledged writes are kept", format!("{said}, where {entry:?} stands"));
        }
        if entry.reply != *reply {
            return broken("an answer is the outcome", format!("{said} as {reply:?}; it was {:?}", entry.reply));
        }
    }
    Ok(())
}

/// Every operation in the log was asked for, and only once: what has several places is several attempts of one.
fn nothing_invented(operations: &[Operation], replay: &Replay) -> Verdict {
    let asked: BTreeMap<OperationId, &Operation> = operations.iter().filter_map(|o| Some((o.id?, o))).collect();
    for entry in &replay.entries {
        let Some(id) = entry.id else { continue };
        match asked.get(&id) {
            None => return broken("nothing is invented", format!("{entry:?} was never asked for")),
            Some(operation) if operation.end == End::Never => {
                return broken("what never happened never happens", format!("{operation:?} is in the log: {entry:?}"));
            }
            Some(operation) if operation.call != entry.call => {
                return broken("nothing is invented", format!("{:?} was asked, {entry:?} stands", operation.call));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A read that says it is of revision r is the model at r.
fn reads(operations: &[Operation], replay: &Replay) -> Verdict {
    let mut reads: Vec<_> = operations.iter().filter_map(read_of).collect();
    reads.sort_by_key(|(index, ..)| *index);
    let (mut model, mut entries) = (Model::default(), replay.entries.iter().peekable());
    for (index, prefix, reply, operation) in reads {
        while let Some(entry) = entries.next_if(|entry| entry.index <= index) {
            model.apply(entry.index, entry.id, &entry.call, &entry.reply);
        }
        let is = Reply::Read(model.read(prefix));
        if is != *reply {
            return broken("reads are true at their revision", format!("{operation:?}; at {index} it was {is:?}"));
        }
    }
    Ok(())
}

fn read_of(operation: &Operation) -> Option<(Index, &str, &Reply, &Operation)> {
    match (&operation.call, &operation.end) {
        (Call::Read { prefix, .. }, End::Known { index, reply, .. }) => Some((*index, prefix, reply, operation)),
        _ => None,
    }
}

/// What began after something else had ended comes behind it; local reads are exempt, they promise no such thing.
fn real_time(operations: &[Operation], replay: &Replay) -> Verdict {
    let timed: Vec<_> = operations.iter().filter_map(|operation| Timed::of(operation, replay)).collect();
    let mut by_return: Vec<_> = timed.iter().filter(|timed| timed.returned.is_some()).collect();
    by_return.sort_by_key(|timed| timed.returned);
    let mut by_invocation: Vec<_> = timed.iter().collect();
    by_invocation.sort_by_key(|timed| timed.operation.invoked);
    let mut ended = by_return.into_iter().peekable();
    let mut latest: Option<&Timed<'_>> = None;
    for timed in by_invocation {
        while let Some(before) = ended.next_if(|before| before.returned < Some(timed.operation.invoked)) {
            if latest.is_none_or(|latest| latest.index < before.index) {
                latest = Some(before);
            }
        }
        let Some(before) = latest else { continue };
        if timed.index < before.index || (timed.writes && timed.index == before.index) {
            return broken(
                "the order of real time",
                format!(
                    "{:?} ended at log index {} before {:?} began, which is at {}",
                    before.operation, before.index, timed.operation, timed.index
                ),
            );
        }
    }
    Ok(())
}

/// An operation with the place at which it took effect.
struct Timed<'a> {
    operation: &'a Operation,
    index: Index,
    writes: bool,
    returned: Option<u64>,
}

impl<'a> Timed<'a> {
    fn of(operation: &'a Operation, replay: &Replay) -> Option<Self> {
        let told = match operation.end {
            End::Known { returned, index, .. } => Some((returned, index)),
            _ => None,
        };
        match (operation.id, &operation.call) {
            (Some(id), _) => {
                let index = *replay.first.get(&id)?;
                Some(Self { operation, index, writes: true, returned: told.map(|(returned, _)| returned) })
            }
            (None, Call::Read { linearizable: true, .. }) => {
                let (returned, index) = told?;
                Some(Self { operation, index, writes: false, returned: Some(returned) })
            }
            _ => None,
        }
    }
}

impl Replay {
    /// The state after all entries up to a revision.
    pub(crate) fn at(&self, revision: Index) -> Model {
        let mut model = Model::default();
        for entry in self.entries.iter().take_while(|entry| entry.index <= revision) {
            model.apply(entry.index, entry.id, &entry.call, &entry.reply);
        }
        model
    }

    /// Operations that stand in the log more than once: attempts that were repeated though the first had arrived.
    pub(crate) fn repeated(&self) -> usize {
        self.places.values().filter(|places| places.len() > 1).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Compare, Found};
    use super::*;

    fn put(key: &str, value: &str) -> Call {
        Call::Put { key: key.into(), value: value.into(), lease: None }
    }

    fn entry(index: Index, id: OperationId, call: Call) -> Entry {
        Entry { index, id: Some(id), call, reply: Reply::Done }
    }

    fn told(id: OperationId, time: (u64, u64), call: Call, index: Index) -> Operation {
        let end = End::Known { returned: time.1, index, reply: Reply::Done };
        Operation { client: 0, id: Some(id), invoked: time.0, call, end }
    }

    fn read(time: (u64, u64), index: Index, value: Option<(&str, Index)>, linearizable: bool) -> Operation {
        let found =
            |(value, modified): (&str, Index)| ("k/a".to_owned(), Found { value: value.into(), modified, version: 1 });
        let reply = Reply::Read(value.map(found).into_iter().collect());
        let call = Call::Read { prefix: "k/a".into(), linearizable };
        let end = End::Known { returned: time.1, index, reply };
        Operation { client: 1, id: None, invoked: time.0, call, end }
    }

    fn verdict(operations: &[Operation], entries: Vec<Entry>) -> Result<(), &'static str> {
        replay(entries).and_then(|replay| judge(operations, &replay)).map_err(|violation| violation.law)
    }

    fn good() -> (Vec<Operation>, Vec<Entry>) {
        let operations = vec![
            told((1, 1), (10, 20), put("k/a", "one"), 5),
            read((25, 30), 6, Some(("one", 5)), true),
            told((2, 1), (40, 50), put("k/b", "two"), 8),
        ];
        (operations, vec![entry(5, (1, 1), put("k/a", "one")), entry(8, (2, 1), put("k/b", "two"))])
    }

    #[test]
    fn a_true_history_is_believed() {
        let (operations, entries) = good();
        assert_eq!(verdict(&operations, entries), Ok(()));
    }

    #[test]
    fn a_lost_acknowledged_write_is_seen() {
        let (operations, mut entries) = good();
        entries.remove(1);
        assert_eq!(verdict(&operations, entries), Err("acknowledged writes are kept"));
    }

    #[test]
    fn a_write_acknowledged_at_a_place_of_another_is_seen() {
        let (mut operations, entries) = good();
        operations[2] = told((2, 1), (40, 50), put("k/b", "two"), 5);
        assert_eq!(verdict(&operations, entries), Err("acknowledged writes are kept"));
    }

    #[test]
    fn an_invented_write_is_seen() {
        let (operations, mut entries) = good();
        entries.push(entry(9, (3, 1), put("k/c", "ghost")));
        assert_eq!(verdict(&operations, entries), Err("nothing is invented"));
    }

    #[test]
    fn a_write_that_failed_for_sure_and_happened_is_seen() {
        let (mut operations, entries) = good();
        operations[2].end = End::Never;
        assert_eq!(verdict(&operations, entries), Err("what never happened never happens"));
    }

    #[test]
    fn an_unknown_write_may_happen_once_or_never() {
        let (mut operations, mut entries) = good();
        operations[2].end = End::Unknown;
        assert_eq!(verdict(&operations, entries.clone()), Ok(()));
        entries.remove(1);
        assert_eq!(verdict(&operations, entries), Ok(()));
    }

    #[test]
    fn a_retry_that_is_applied_again_is_seen() {
        let delete = Call::Delete { key: "k/a".into() };
        let asked = Operation { client: 0, id: Some((1, 1)), invoked: 1, call: delete.clone(), end: End::Unknown };
        let mut once = entry(5, (1, 1), delete.clone());
        once.reply = Reply::Deleted(0);
        let mut again = entry(7, (1, 1), delete);
        again.reply = Reply::Deleted(1);
        assert_eq!(verdict(&[asked], vec![once, again]), Err("retried commands are applied once"));
    }

    #[test]
    fn a_stale_read_is_seen() {
        let (mut operations, entries) = good();
        operations[1] = read((25, 30), 4, None, true);
        assert_eq!(verdict(&operations, entries.clone()), Err("the order of real time"));
        operations[1] = read((25, 30), 4, None, false);
        assert_eq!(verdict(&operations, entries), Ok(()), "a local read may be old");
    }

    #[test]
    fn a_read_of_what_was_not_there_is_seen() {
        let (mut operations, entries) = good();
        operations[1] = read((25, 30), 6, Some(("other", 5)), false);
        assert_eq!(verdict(&operations, entries), Err("reads are true at their revision"));
    }

    #[test]
    fn writes_in_the_wrong_order_are_seen() {
        let (mut operations, mut entries) = good();
        operations[2] = told((2, 1), (40, 50), put("k/b", "two"), 3);
        entries[1].index = 3;
        entries.swap(0, 1);
        assert_eq!(verdict(&operations, entries), Err("the order of real time"));
    }

    #[test]
    fn a_transaction_that_held_and_should_not_have_is_seen() {
        let compares = vec![Compare::Value { key: "k/a".into(), is: Some("two".into()) }];
        let call = Call::Transaction { compares, then: Vec::new(), otherwise: Vec::new() };
        let asked = Operation { client: 0, id: Some((1, 2)), invoked: 60, call: call.clone(), end: End::Unknown };
        let (mut operations, mut entries) = good();
        operations.push(asked);
        entries.push(Entry { index: 9, id: Some((1, 2)), call, reply: Reply::Held(true) });
        assert_eq!(verdict(&operations, entries), Err("outcomes follow from the log"));
    }

    #[test]
    fn the_log_does_not_go_back() {
        let (operations, mut entries) = good();
        entries.swap(0, 1);
        assert_eq!(verdict(&operations, entries), Err("the log grows"));
    }
}
