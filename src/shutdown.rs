//! Signals that end the program, in three steps, and the one that reloads.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Read the graph file again.
    Reload,
    /// End: the first time in order, the second time soon, the third time now.
    End {
        /// How often it has been asked for, from 1.
        times: u8,
        /// The signal's name.
        by: &'static str,
    },
}

/// Listens for signals.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    ended: u8,
}

impl Signals {
    /// Starts to listen. From now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            ended: 0,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        let by = tokio::select! {
            biased;
            _ = self.interrupt.recv() => "^C",
            _ = self.terminate.recv() => "TERM",
            _ = self.hangup.recv() => return Asked::Reload,
        };
        self.ended = self.ended.saturating_add(1);
        Asked::End { times: self.ended, by }
    }
}
