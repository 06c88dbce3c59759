//! The lane of the index: follows the journal at its own pace, on a thread of its own in the program.
//!
//! It is never told what to do, only that there is something: it looks how far the log is and how far the index is. So
//! there is no queue that could grow, and however slow the index is, nobody waits for it.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::sync::{Mutex, mpsc};

use super::index::{Index, Opener};
use super::register::Place;
use super::shared::Shared;
use crate::ground::Ground;
use crate::mutant::{self, Mutant};

/// An index that has not opened by then hangs. Its thread is lost; the next index is another one.
const OPEN_DEADLINE: Duration = Duration::from_secs(20);
/// Entries put in at once.
const STEP_ENTRIES_MAX: u64 = 1024;
/// Bytes put in at once, unless a single entry has more.
const STEP_BYTES_MAX: usize = 4 << 20;
/// So much between two entries is read for nothing rather than reading twice.
const GAP_BYTES_MAX: u32 = 4096;
/// An index that has been built anew so many times is done without: the journal has everything.
const BUILDS_MAX: u32 = 8;

/// Why the lane has stopped.
enum Stop {
    /// There is no log any more.
    Over,
    /// The index has to be built anew.
    Wrong(String),
}

/// Keeps the index until the log is gone.
pub(super) async fn keep<G: Ground>(shared: Arc<Shared<G>>, opener: Arc<dyn Opener>, wake: mpsc::Receiver<()>) {
    // Held by one index at a time; one that panics gives it back.
    let wake = Arc::new(Mutex::new(wake));
    let mut anew = false;
    for _ in 0..BUILDS_MAX {
        if shared.check().is_err() {
            return;
        }
        let (opens, of) = (Arc::clone(&opener), Arc::clone(&shared));
        let open = G::aside("index-open", async move { open(&*of, &*opens, anew) });
        anew = true;
        let index = match G::Runtime::timeout(OPEN_DEADLINE, open).await {
            Ok(Some(Ok(index))) => index,
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "the index is built anew");
                continue;
            }
            Ok(None) => {
                tracing::warn!("opening the index has panicked; it is built anew");
                continue;
            }
            Err(_) => {
                tracing::warn!("opening the index hangs; it is built anew");
                continue;
            }
        };
        shared.set_index(Some(Arc::clone(&index)));
        let (follows, woken) = (Arc::clone(&shared), Arc::clone(&wake));
        let followed =
            G::aside("index", async move { follow(&follows, &*index, &mut *woken.lock().await).await }).await;
        shared.set_index(None);
        match followed {
            Some(Stop::Over) => return,
            Some(Stop::Wrong(why)) => tracing::warn!(why, "the index is built anew"),
            None => tracing::warn!("the index has panicked; it is built anew"),
        }
    }
    tracing::error!("the index cannot be had; the journal goes on without it");
}

/// Opens it and compares it with the journal.
fn open<G: Ground>(shared: &Shared<G>, opener: &dyn Opener, anew: bool) -> io::Result<Arc<dyn Index>> {
    let index = opener.open(anew)?;
    let (first, end) = {
        let state = shared.state();
        (state.register.first(), state.register.end())
    };
    let mut next = first;
    let mut wrong = None;
    index.visit(&mut |number, bytes| {
        if number < first || number >= end {
            return ControlFlow::Continue(());
        }
        // Looked up each time: entries may be purged while this goes on, and then nobody asks for them.
        let right = shared.state().register.get(number).is_none_or(|place| place.crc == crc32c::crc32c(&bytes));
        if number != next || !(right || mutant::is(Mutant::SledTrusted)) {
            wrong = Some(number);
            return ControlFlow::Break(());
        }
        next = number + 1;
        ControlFlow::Continue(())
    })?;
    if let Some(number) = wrong {
        return Err(io::Error::other(format!("it disagrees with the journal about entry {number}")));
    }
    index.keep(first, next)?;
    let mut state = shared.state();
    state.indexed.end = next.min(state.indexed.cut.unwrap_or(next));
    state.indexed.wrong = false;
    Ok(index.into())
}

/// Follows the log until there is a reason to stop.
async fn follow<G: Ground>(shared: &Shared<G>, index: &dyn Index, wake: &mut mpsc::Receiver<()>) -> Stop {
    loop {
        match step(shared, index) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => return Stop::Wrong(error.to_string()),
        }
        if shared.check().is_err() {
            return Stop::Over;
        }
        if shared.state().indexed.wrong {
            return Stop::Wrong("what it said was wrong".to_owned());
        }
        if wake.recv().await.is_none() {
            return Stop::Over;
        }
    }
}

/// Brings the index some way on. Whether there is more to do.
fn step<G: Ground>(shared: &Shared<G>, index: &dyn Index) -> io::Result<bool> {
    let (first, end, places, more, changes) = {
        let mut state = shared.state();
        if let Some(cut) = state.indexed.cut.take() {
            state.indexed.end = state.indexed.end.min(cut);
        }
        let first = state.register.first();
        state.indexed.end = state.indexed.end.max(first);
        let end = state.indexed.end;
        let last = state.register.end().min(end.saturating_add(STEP_ENTRIES_MAX));
        let (mut places, mut bytes) = (Vec::new(), 0);
        for place in (end..last).filter_map(|number| state.register.get(number)) {
            bytes += usize::try_from(place.bytes).unwrap_or(usize::MAX);
            if bytes > STEP_BYTES_MAX && !places.is_empty() {
                break;
            }
            places.push(place);
        }
        let more = end + (places.len() as u64) < state.register.end();
        (first, end, places, more, state.changes)
    };
    index.keep(first, end)?;
    let mut entries = Vec::with_capacity(places.len());
    // What was written at once lies together, and so do most frames.
    let together =
        |a: &Place, b: &Place| a.segment == b.segment && b.offset.abs_diff(a.offset + a.bytes) < GAP_BYTES_MAX;
    for run in places.chunk_by(together) {
        match shared.run(run) {
            Ok(found) => entries.extend((end + entries.len() as u64..).zip(found)),
            // Purged or cut off meanwhile: look again.
            Err(_) if shared.state().changes != changes => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    index.put(&entries)?;
    let mut state = shared.state();
    state.indexed.end = end + entries.len() as u64;
    Ok(more || state.indexed.cut.is_some())
}
