//! Answers on their way back: in any order, one stream for each lane of each peer that called.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::complaints::{Complaints, Kind};
use super::frame::Batch;
use crate::limits::{ANSWERS_BYTES_MAX, FRAME_BYTES_MAX};
use crate::transport::Reply;

#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<(u64, Bytes)>,
    bytes: usize,
    closed: bool,
}

/// Those that wait to be written to one stream.
#[derive(Debug)]
pub(super) struct Answers {
    queue: Mutex<Queue>,
    work: Notify,
    to: SocketAddr,
    complaints: Arc<Complaints>,
}

impl Answers {
    pub(super) fn new(to: SocketAddr, complaints: Arc<Complaints>) -> Self {
        Self { queue: Mutex::default(), work: Notify::new(), to, complaints }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, call: u64, answer: Bytes) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.bytes >= ANSWERS_BYTES_MAX {
            drop(queue);
            self.complaints.note(Kind::Answers, self.to, &"he does not read");
            return;
        }
        // Also an empty one takes its place in the queue.
        queue.bytes += answer.len() + size_of::<(u64, Bytes)>();
        queue.answers.push_back((call, answer));
        drop(queue);
        self.work.notify_one();
    }

    fn take(&self, batch: &mut Batch) {
        let mut queue = self.lock();
        while !batch.is_full() {
            let Some((call, answer)) = queue.answers.pop_front() else { return };
            queue.bytes -= answer.len() + size_of::<(u64, Bytes)>();
            batch.push(call, answer);
        }
    }

    /// Writes them as they come, until the stream fails or this is dropped.
    pub(super) async fn write(&self, stream: &mut quinn::SendStream) -> Result<(), quinn::WriteError> {
        let mut batch = Batch::default();
        loop {
            self.take(&mut batch);
            if batch.is_empty() {
                self.work.notified().await;
            } else {
                stream.write_all_chunks(&mut batch.take()).await?;
            }
        }
    }

    /// Nothing is written any more.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.answers.clear();
    }
}

/// The way back to whoever called.
#[derive(Debug)]
pub struct QuicReply {
    pub(super) answers: Arc<Answers>,
    pub(super) call: u64,
}

impl Reply for QuicReply {
    fn send(self, answer: Bytes) {
        if answer.len() > FRAME_BYTES_MAX {
            tracing::error!(bytes = answer.len(), "an answer that is too large is not sent");
            return;
        }
        self.answers.put(self.call, answer);
    }
}
