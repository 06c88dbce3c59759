//! A process group that we started: signals to all of it, and whether anything of it is left.
//!
//! While a group lives here, its leader's number is registered with the reaper, which then leaves it alone.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};

use super::reaper::Owned;

/// The group of a child that was started as its leader.
#[derive(Debug)]
pub(super) struct Group {
    pid: Pid,
    /// What is left of the group is none of our business any more.
    over: bool,
    _owned: Owned,
}

impl Group {
    pub(super) const fn new(pid: Pid, owned: Owned) -> Self {
        Self { pid, over: false, _owned: owned }
    }

    /// The leader's number.
    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to everybody in the group.
    pub(super) fn signal(&self, signal: Signal) {
        match kill_process_group(self.pid, signal) {
            // Gone is what was wanted.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid.as_raw_nonzero(), "cannot signal a process group: {error}"),
        }
    }

    /// Whether nothing of the group is left. Only to be asked when its leader has been waited for: it takes the exit
    /// statuses of orphans of the group that have become our children.
    pub(super) fn is_gone(&self) -> bool {
        while let Ok(Some(_)) = waitpgid(self.pid, WaitOptions::NOHANG) {}
        test_kill_process_group(self.pid) == Err(Errno::SRCH)
    }

    /// What is left of it may live on.
    pub(super) const fn release(&mut self) {
        self.over = true;
    }

    pub(super) const fn is_released(&self) -> bool {
        self.over
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reached with a living group only when the runtime shuts down under it: then there is nobody left to wait.
        if !self.over {
            self.signal(Signal::KILL);
        }
    }
}
