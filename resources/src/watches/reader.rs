//! The thread that reads events and raises signals. It blocks for as long as nothing happens, and looks at the clock
//! only while something is polled.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inotify::Inotify;
use mgmt_engine::clock::{Clock, Moment};
use mgmt_engine::resource::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::kernel;
use super::mounts::Mounts;
use super::registry::Registry;
use super::trie::Turn;

/// Room for about 2,000 events in one read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Overflows closer together than this are one burst, and said once.
const BURST_SECONDS: u64 = 60;

/// Between a turn that broke and the next; doubles, up to the time between two polls, while they break.
const RECOVERY_SECONDS: u64 = 1;

/// What the reader shares with everybody who subscribes.
#[derive(Debug)]
pub(super) struct Shared {
    /// Never held while a signal is raised or dropped: both run code of others, which may come back here.
    registry: Mutex<Registry>,
    /// Wakes the reader.
    bell: OwnedFd,
    stop: AtomicBool,
    /// How often polled subscriptions are raised.
    pub(super) poll_seconds: u64,
}

impl Shared {
    pub(super) fn new(registry: Registry, bell: OwnedFd, poll_seconds: u64) -> Self {
        Self { registry: Mutex::new(registry), bell, stop: AtomicBool::new(false), poll_seconds }
    }

    /// The registry. A panic elsewhere must not blind everybody: each change leaves it usable.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the reader.
    pub(super) fn ring(&self) {
        // A full counter means that it is awake already.
        let _full = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Asks the reader to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) inotify: Inotify,
    pub(super) mounts: Option<Mounts>,
    pub(super) clock: Clock,
}

/// What has woken the thread.
#[derive(Debug, Clone, Copy)]
struct Woken {
    events: bool,
    mounts: bool,
}

impl Reader {
    /// Runs until the last subscriber has gone.
    pub(super) fn run(mut self) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut due: Option<Moment> = None;
        let mut told: Option<Moment> = None;
        let mut pause = RECOVERY_SECONDS;
        loop {
            let woken = self.wait(due);
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(woken, &mut buffer, &mut due, &mut told)));
            pause = match turn {
                Ok(()) => RECOVERY_SECONDS,
                Err(_) => self.recover(pause),
            };
        }
    }

    /// Takes in what has happened, and raises whom it concerns.
    fn turn(&mut self, woken: Woken, buffer: &mut [u8], due: &mut Option<Moment>, told: &mut Option<Moment>) {
        let overdue = due.is_some_and(|due| self.clock.now() >= due);
        // Reading a long table takes a while, and needs no lock.
        let points = self.mounts.as_mut().filter(|_| woken.mounts).and_then(|mounts| mounts.changed().ok());
        let mut registry = self.shared.registry();
        let (mut turn, overflows) = (Turn::default(), registry.overflows());
        if woken.events {
            let each = |number, touch, name: &_| registry.event(number, touch, name, &mut turn);
            if let Err(error) = kernel::read(&mut self.inotify, buffer, each) {
                tracing::error!("cannot read inotify events: {error}");
            }
        }
        for point in points.iter().flatten() {
            registry.mounted(point, &mut turn);
        }
        if overdue {
            registry.poll(&mut turn);
        }
        let signals = registry.finish(turn);
        registry.say(self.shared.poll_seconds);
        let polling = registry.polling();
        let overflowed = registry.overflows() > overflows;
        drop(registry);
        *due = self.next_poll(polling, due.filter(|_| !overdue));
        if overflowed {
            *told = Some(self.tell_overflow(*told));
        }
        Signal::raise_all(&signals);
    }

    /// After a defect: the events of that turn are lost, and what is known of the watches may be wrong. Everybody looks,
    /// and the next turn arms everything anew; not at once, because the defect may well be met again: then this is
    /// looking by time. Returns the next pause.
    fn recover(&self, pause: u64) -> u64 {
        tracing::error!("a defect in the watches: looking at every watched path");
        let signals = self.shared.registry().distrust();
        if catch_unwind(AssertUnwindSafe(|| Signal::raise_all(&signals))).is_err() {
            tracing::error!("a defect where watches are raised");
        }
        std::thread::sleep(Duration::from_secs(pause));
        self.shared.ring();
        (pause * 2).min(self.shared.poll_seconds.max(RECOVERY_SECONDS))
    }

    fn next_poll(&self, polling: bool, due: Option<Moment>) -> Option<Moment> {
        let later = || self.clock.now().after(Duration::from_secs(self.shared.poll_seconds));
        polling.then(|| due.unwrap_or_else(later))
    }

    fn tell_overflow(&self, told: Option<Moment>) -> Moment {
        let now = self.clock.now();
        if told.is_none_or(|told| now.since(told) > Duration::from_secs(BURST_SECONDS)) {
            tracing::warn!("too many file events at once: looking at every watched path");
        }
        now
    }

    /// Waits for events, a changed mount table, the bell, or the moment `due`.
    fn wait(&self, due: Option<Moment>) -> Woken {
        let left = due.map(|due| due.since(self.clock.now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(&self.shared.bell, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
        // The kernel marks a changed mount table by PRI and ERR; the file is always readable.
        fds.extend(self.mounts.as_ref().map(|mounts| PollFd::from_borrowed_fd(mounts.as_fd(), PollFlags::PRI)));
        // An interrupted wait has found nothing, and is repeated by the loop.
        let _interrupted = rustix::event::poll(&mut fds, timeout.as_ref());
        if !fds[0].revents().is_empty() {
            let _empty = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        }
        Woken { events: !fds[1].revents().is_empty(), mounts: fds.get(2).is_some_and(|fd| !fd.revents().is_empty()) }
    }
}
