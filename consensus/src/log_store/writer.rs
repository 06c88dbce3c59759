//! The one writer: takes what has been asked for, in order, a batch at a time; one write, one sync, then everybody who
//! waits is told. The first failure is the last thing that happens here.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::fault::Fault;
use super::journal::{Journal, Put, RECORD_BYTES_MAX, payload_bytes_max};
use super::record::{self, Record};
use super::register::Place;
use super::shared::{Shared, State};
use crate::ground::Ground;
use crate::limits::{BATCH_RECORDS_MAX, INDEX_LAG_ENTRIES};
use crate::mutant::{self, Mutant};
use crate::types::{Entry, Group, LogId};

/// Who is told.
pub(super) enum Done<G: Ground> {
    /// openraft, about entries; and their way through the gate, which they hold until then.
    Entries(IOFlushed<Group<G>>, #[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit),
    /// Whoever waits for a record.
    Record(oneshot::Sender<Result<(), Fault>>),
}

impl<G: Ground> Done<G> {
    pub(super) fn tell(self, result: Result<(), Fault>) {
        match self {
            Self::Entries(callback, _) => callback.io_completed(result.map_err(io::Error::from)),
            // Who has gone away does not want to know.
            Self::Record(sender) => drop(sender.send(result)),
        }
    }
}

/// What the writer is asked for.
pub(super) enum Request<G: Ground> {
    /// Entries, one after the other.
    Append(Vec<Entry>, Done<G>),
    /// A record. Without anybody to tell, it may wait for the next thing that somebody waits for.
    Record(Record, Option<Done<G>>),
    /// Everything before is to be on the medium, and nothing comes after.
    Stop(Done<G>),
}

/// Records on their way.
struct Batch<G: Ground> {
    payload: Vec<u8>,
    records: Vec<Record>,
    /// Of each entry: offset in the payload, length, checksum.
    extents: VecDeque<(usize, usize, u32)>,
    waiting: Vec<Done<G>>,
}

impl<G: Ground> Batch<G> {
    const fn new() -> Self {
        Self { payload: Vec::new(), records: Vec::new(), extents: VecDeque::new(), waiting: Vec::new() }
    }

    fn entry(&mut self, entry: &Entry) {
        let start = self.payload.len();
        record::encode_entry(entry, &mut self.payload);
        let bytes = &self.payload[start..];
        self.extents.push_back((start, bytes.len(), crc32c::crc32c(bytes)));
        self.records.push(Record::Append(entry.log_id));
    }

    /// Adds a record.
    fn record(&mut self, record: Record) {
        record::encode(&record, &mut self.payload);
        self.records.push(record);
    }

    /// Whether nobody would notice if it were lost.
    fn can_wait(&self) -> bool {
        self.waiting.is_empty() && self.extents.is_empty() && self.records.len() < BATCH_RECORDS_MAX / 4
    }

    /// Only votes need it, and nothing else does.
    fn only_votes(&self) -> bool {
        self.extents.is_empty() && self.records.iter().any(|record| matches!(record, Record::Vote(_)))
    }
}

/// Runs until it is stopped, nobody is left who could ask, or something fails.
pub(super) async fn run<G: Ground>(
    shared: Arc<Shared<G>>,
    journal: Journal<G>,
    mut requests: mpsc::Receiver<Request<G>>,
    wake: mpsc::Sender<()>,
) {
    let noted = shared.state().standing.committed;
    let mut writer = Writer { shared, journal, batch: Batch::new(), noted, wake };
    let stopping = writer.serve(&mut requests).await;
    let fault = match &stopping {
        Ok(_) => Fault::stopped(),
        Err(fault) => fault.clone(),
    };
    let fault = writer.shared.fail(fault);
    if let Ok(Some(done)) = stopping {
        done.tell(Ok(()));
    }
    std::mem::take(&mut writer.batch.waiting).into_iter().for_each(|done| done.tell(Err(fault.clone())));
    // The lane sees the fault and ends.
    let _told = writer.wake.try_send(());
    writer.journal.finish().await;
    requests.close();
    while let Some(request) = requests.recv().await {
        match request {
            Request::Append(_, done) | Request::Record(_, Some(done)) | Request::Stop(done) => {
                done.tell(Err(fault.clone()));
            }
            Request::Record(_, None) => {}
        }
    }
}

struct Writer<G: Ground> {
    shared: Arc<Shared<G>>,
    journal: Journal<G>,
    batch: Batch<G>,
    /// How far the group had come, as it was last written down.
    noted: Option<LogId>,
    wake: mpsc::Sender<()>,
}

impl<G: Ground> Writer<G> {
    /// Serves until the end: whoever asked for it, to be told last.
    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request<G>>) -> Result<Option<Done<G>>, Fault> {
        while let Some(request) = requests.recv().await {
            let mut next = Some(request);
            while let Some(request) = next.take() {
                match request {
                    Request::Stop(done) => {
                        self.note_committed(true);
                        self.flush().await?;
                        // There is time for it now: the next start will know that nothing is torn.
                        self.journal.mark()?;
                        self.journal.sync().await?;
                        return Ok(Some(done));
                    }
                    Request::Record(record, done) => self.record(record, done).await?,
                    Request::Append(entries, done) => self.append(&entries, done).await?,
                }
                next = requests.try_recv().ok();
            }
            if !self.batch.can_wait() {
                self.note_committed(false);
                self.flush().await?;
                if requests.is_empty() {
                    self.journal.mark()?;
                }
            }
        }
        self.note_committed(true);
        self.flush().await?;
        Ok(None)
    }

    /// Writes down how far the group has come, beside what somebody waits for: by itself it is worth no sync, and not
    /// even waking this thread. Unless this is the end, it is left for the next time if it is of entries that stand behind
    /// in the queue.
    fn note_committed(&mut self, at_the_end: bool) {
        let committed = self.shared.state().standing.committed;
        let reaches = |record: &Record| matches!(record, Record::Append(last) if Some(last) >= committed.as_ref());
        let there = || self.journal.last() >= committed || self.batch.records.iter().any(reaches);
        let due = if self.batch.records.is_empty() { at_the_end } else { at_the_end || there() };
        let fits = self.batch.payload.len() + RECORD_BYTES_MAX <= payload_bytes_max(self.journal.segment_bytes());
        if committed != self.noted && due && fits {
            self.batch.record(Record::Committed(committed));
            self.noted = committed;
        }
    }

    async fn record(&mut self, record: Record, done: Option<Done<G>>) -> Result<(), Fault> {
        self.room_for(RECORD_BYTES_MAX).await?;
        self.batch.record(record);
        self.batch.waiting.extend(done);
        Ok(())
    }

    async fn append(&mut self, entries: &[Entry], done: Done<G>) -> Result<(), Fault> {
        for entry in entries {
            self.room_for(record::entry_bytes(entry)).await?;
            self.batch.entry(entry);
        }
        self.batch.waiting.push(done);
        Ok(())
    }

    /// Writes what there is if so many bytes more would be too many.
    async fn room_for(&mut self, bytes: usize) -> Result<(), Fault> {
        let full = self.batch.payload.len() + bytes > payload_bytes_max(self.journal.segment_bytes());
        if full || self.batch.records.len() >= BATCH_RECORDS_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if self.batch.records.is_empty() {
            // An append of no entries is done as soon as everything before it is.
            std::mem::take(&mut self.batch.waiting).into_iter().for_each(|done| done.tell(Ok(())));
            return Ok(());
        }
        let put = self.journal.put(&self.batch.payload, &self.batch.records).await?;
        if mutant::is(Mutant::AcknowledgeBeforeSync) {
            self.publish(put);
            return self.journal.sync().await;
        }
        if !(mutant::is(Mutant::VoteNotSynced) && self.batch.only_votes()) {
            self.shared.syncs().begin(Shared::<G>::now());
            self.journal.sync().await?;
            self.shared.syncs().end(Shared::<G>::now());
        }
        self.publish(put);
        Ok(())
    }

    /// It is durable: everybody may know.
    fn publish(&mut self, put: Put) {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new());
        let index_is_due = {
            let mut state = self.shared.state();
            for record in &batch.records {
                state.settle(record, put, &mut batch.extents);
            }
            let written = state.register.end();
            state.tail.trim(written);
            state.index_is_due()
        };
        batch.waiting.into_iter().for_each(|done| done.tell(Ok(())));
        batch.payload.clear();
        self.batch.payload = batch.payload;
        if index_is_due {
            // Full: it has something to do already.
            let _told = self.wake.try_send(());
        }
    }
}

impl State {
    /// A record is durable. Purges and entries have been seen by readers before.
    fn settle(&mut self, record: &Record, put: Put, extents: &mut VecDeque<(usize, usize, u32)>) {
        match record {
            Record::Append(log_id) => {
                let (offset, bytes, crc) = extents.pop_front().expect("every entry has its extent");
                if log_id.index >= self.standing.first() {
                    let narrow = |number: usize| u32::try_from(number).expect("a segment is far smaller");
                    let (offset, bytes) = (narrow(put.offset + offset), narrow(bytes));
                    self.register.push(log_id.index, Place { crc, segment: put.segment, offset, bytes });
                }
            }
            Record::Truncate(_) => {
                // Impossible below what is purged by now; those entries are gone either way.
                if self.standing.apply(record).is_ok() {
                    self.cut(self.standing.next());
                }
            }
            Record::Vote(vote) => self.standing.vote = Some(*vote),
            Record::Purge(_) | Record::Committed(_) | Record::Standing(_) => {}
        }
    }

    /// Whether there is so much for the index to do that it is worth waking it. Nobody waits for what it lacks.
    fn index_is_due(&self) -> bool {
        self.indexed.wrong || self.register.end().saturating_sub(self.indexed.end) >= INDEX_LAG_ENTRIES
    }

    fn cut(&mut self, end: u64) {
        self.register.truncate(end);
        self.tail.truncate(end);
        self.indexed.cut = Some(self.indexed.cut.map_or(end, |cut| cut.min(end)));
        self.changes += 1;
    }
}
