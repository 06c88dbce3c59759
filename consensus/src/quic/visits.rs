//! Visitors: whoever has no certificate yet says one thing and is told one thing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::complaints::{Complaints, Kind};
use super::{Close, Errand, Exporter, exporter};
use crate::limits::{VISIT_BYTES_MAX, VISIT_DEADLINE, VISITS_MAX, VISITS_PER_HOST_MAX};

/// Somebody has come and said something.
pub struct Visit {
    /// What for.
    pub errand: Errand,
    /// From where. Proves nothing.
    pub from: SocketAddr,
    /// What both ends of this connection have, and nobody between them.
    pub exporter: Exporter,
    /// What he says; at most [`VISIT_BYTES_MAX`].
    pub message: Bytes,
    answer: oneshot::Sender<Bytes>,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("errand", &self.errand).field("from", &self.from).finish_non_exhaustive()
    }
}

impl Visit {
    /// Answers. Dropped without one: the visitor is sent away. At most [`VISIT_BYTES_MAX`]; more is not sent.
    pub fn answer(self, answer: Bytes) {
        if answer.len() > VISIT_BYTES_MAX {
            tracing::error!(bytes = answer.len(), "an answer to a visitor that is too large is not sent");
            return;
        }
        // He may be gone by now.
        let _gone = self.answer.send(answer);
    }
}

/// Those who come.
#[derive(Debug)]
pub struct Visits(pub(super) mpsc::Receiver<Visit>);

impl Visits {
    /// The next one; `None` once the endpoint is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Visit> {
        self.0.recv().await
    }
}

/// What an endpoint keeps of its visitors.
pub(super) struct Porch {
    visits: mpsc::Sender<Visit>,
    present: Mutex<BTreeMap<IpAddr, usize>>,
    complaints: Arc<Complaints>,
}

/// One who is there.
struct Present<'a> {
    porch: &'a Porch,
    from: IpAddr,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let mut present = self.porch.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = present.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.from);
            }
        }
    }
}

impl Porch {
    pub(super) fn new(complaints: Arc<Complaints>) -> (Self, Visits) {
        let (visits, coming) = mpsc::channel(VISITS_MAX);
        (Self { visits, present: Mutex::default(), complaints }, Visits(coming))
    }

    fn enter(&self, from: IpAddr) -> Option<Present<'_>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.values().sum::<usize>() >= VISITS_MAX {
            return None;
        }
        let count = present.entry(from).or_default();
        if *count >= VISITS_PER_HOST_MAX {
            return None;
        }
        *count += 1;
        Some(Present { porch: self, from })
    }

    /// Hears one visitor and answers him.
    pub(super) async fn receive(&self, errand: Errand, connection: quinn::Connection) {
        let from = connection.remote_address();
        let Some(_present) = self.enter(from.ip()) else {
            self.complaints.note(Kind::Visit, from, &"too many at once");
            return Close::Busy.say(&connection, "too many visitors");
        };
        match tokio::time::timeout(VISIT_DEADLINE, self.converse(errand, &connection)).await {
            Ok(Ok(())) => Close::Done.say(&connection, ""),
            Ok(Err(why)) => {
                self.complaints.note(Kind::Visit, from, &why);
                Close::Refused.say(&connection, why);
            }
            Err(_elapsed) => {
                self.complaints.note(Kind::Visit, from, &"too slow");
                Close::Idle.say(&connection, "too slow");
            }
        }
    }

    async fn converse(&self, errand: Errand, connection: &quinn::Connection) -> Result<(), &'static str> {
        let (mut sender, mut receiver) = connection.accept_bi().await.map_err(|_ended| "he said nothing")?;
        let message = receiver.read_to_end(VISIT_BYTES_MAX).await.map_err(|_ended| "he said too much or too little")?;
        let (answer, answered) = oneshot::channel();
        let (from, exporter) = (connection.remote_address(), exporter(connection));
        let visit = Visit { errand, from, exporter, message: message.into(), answer };
        self.visits.send(visit).await.map_err(|_closed| "nobody receives visitors")?;
        let answer = answered.await.map_err(|_dropped| "there is no answer")?;
        sender.write_all(&answer).await.map_err(|_ended| "he has left")?;
        sender.finish().map_err(|_ended| "he has left")?;
        // He closes when he has read it; closing here first could lose it.
        connection.closed().await;
        Ok(())
    }
}

/// What a visit has brought.
#[derive(Debug, Clone)]
pub struct Visited {
    /// What was answered.
    pub answer: Bytes,
    /// What both ends of the connection had, and nobody between them.
    pub exporter: Exporter,
    /// The certificates that were shown, as DER, the other's own first.
    pub chain: Vec<Vec<u8>>,
}

/// Why a visit has brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// Nothing came back at all: nobody is there, or UDP is blocked on the way.
    #[error("nobody answers at {0} (UDP)")]
    Silent(SocketAddr),
    /// Whoever answers is not who was meant.
    #[error("whoever answers at {0} is not believed: {1}")]
    Untrusted(SocketAddr, String),
    /// He does not listen to that, or has closed.
    #[error("{0} refuses: {1}")]
    Refused(SocketAddr, String),
    /// He listened, and did not answer in time.
    #[error("no answer from {0} within {seconds:.1} s", seconds = .1.as_secs_f64())]
    Timeout(SocketAddr, Duration),
    /// More than [`VISIT_BYTES_MAX`]; nothing was sent.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// It cannot be tried from here.
    #[error("{0} cannot be visited from here: {1}")]
    Impossible(SocketAddr, String),
}

/// Visits somebody. `why` is where the handshake says why he is not believed.
pub(super) async fn visit(
    connecting: quinn::Connecting,
    to: SocketAddr,
    why: &std::sync::OnceLock<String>,
    say: impl FnOnce(&Exporter) -> Bytes,
    deadline: Duration,
) -> Result<Visited, VisitError> {
    let until = tokio::time::Instant::now() + deadline;
    let refused = |error: &quinn::ConnectionError| VisitError::Refused(to, error.to_string());
    let connection = match tokio::time::timeout_at(until, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(quinn::ConnectionError::TimedOut)) | Err(_) => return Err(VisitError::Silent(to)),
        Ok(Err(error)) => {
            return Err(match why.get() {
                Some(why) => VisitError::Untrusted(to, why.clone()),
                None => refused(&error),
            });
        }
    };
    let exporter = exporter(&connection);
    let message = say(&exporter);
    if message.len() > VISIT_BYTES_MAX {
        return Err(VisitError::TooLarge(message.len()));
    }
    let conversation = async {
        let (mut sender, mut receiver) = connection.open_bi().await.map_err(|error| refused(&error))?;
        let said = async {
            sender.write_all(&message).await.ok()?;
            sender.finish().ok()
        };
        let heard = async { receiver.read_to_end(VISIT_BYTES_MAX).await };
        // Whoever is not heard out may still say why.
        let (_said, heard) = tokio::join!(said, heard);
        heard.map_err(|error| match connection.close_reason() {
            Some(reason) => refused(&reason),
            None => VisitError::Refused(to, error.to_string()),
        })
    };
    let answer = tokio::time::timeout_at(until, conversation).await;
    let answer = answer.map_err(|_elapsed| VisitError::Timeout(to, deadline))??;
    Close::Done.say(&connection, "");
    let chain = connection
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().ok());
    let chain = chain.map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect()).unwrap_or_default();
    Ok(Visited { answer: answer.into(), exporter, chain })
}
