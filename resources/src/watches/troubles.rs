//! Where the kernel's word is not enough: no watch left, no right to read, changes made elsewhere. Who has to be raised by
//! time, and what is said about it.

use std::path::Path;

use super::registry::Registry;
use super::trie::{NodeId, ROOT, Trouble, Turn};

/// Figures for `status` and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Kernel watches held now.
    pub watches: usize,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Subscriptions that are raised every now and then, because the kernel's events are not enough.
    pub polled: usize,
    /// How often the kernel's queue was full.
    pub overflows: u64,
}

impl Registry {
    pub(super) fn counts(&self) -> Counts {
        let mut turn = Turn::default();
        for id in self.troubled.iter().filter(|id| self.needs_poll(**id)) {
            self.trie.below(*id, &mut turn);
        }
        Counts {
            watches: self.held.len(),
            subscriptions: self.trie.subs_count(),
            polled: self.trie.signals(&mut turn).len(),
            overflows: self.overflows,
        }
    }

    /// Whether somebody has to be raised by time.
    pub(super) fn polling(&self) -> bool {
        self.troubled.iter().any(|id| self.needs_poll(*id))
    }

    /// Looks again at what the kernel does not tell about.
    pub(super) fn poll(&self, turn: &mut Turn) {
        turn.work.extend(self.troubled.iter().filter(|id| self.needs_poll(**id)));
    }

    /// Whether the kernel's events are not enough for somebody at or below a troubled node.
    fn needs_poll(&self, id: NodeId) -> bool {
        let node = self.trie.node(id);
        let needed = node.weight > 0 || self.trie.covered(id);
        match node.trouble {
            None => false,
            Some(Trouble::Limit | Trouble::Remote) => needed,
            // On the way, an unreadable directory matters only if the next name is not there yet.
            Some(Trouble::Denied) => {
                let waits = |child: NodeId| self.trie.node(child).weight > 0 && !self.trie.node(child).present;
                needed && (self.trie.wide_now(id) || self.trie.children(id).any(waits))
            }
        }
    }

    /// Says, once each, why subscriptions are polled. To be called when troubles may be new.
    pub(super) fn say(&mut self, seconds: u64) {
        for id in std::mem::take(&mut self.unsaid) {
            if !self.trie.holds(id) || !self.needs_poll(id) {
                continue;
            }
            let text = match self.trie.node(id).trouble {
                Some(Trouble::Limit) => "out of inotify watches; raise fs.inotify.max_user_watches".to_owned(),
                Some(Trouble::Denied) => format!("cannot read {}", self.trie.path(id).display()),
                Some(Trouble::Remote) | None => continue,
            };
            if self.said.insert(text.clone()) {
                tracing::warn!("{text}; looking every {seconds} s instead");
            }
        }
    }

    pub(super) fn say_remote(&mut self, id: NodeId, path: &Path, name: &str) -> Trouble {
        // Said for the topmost directory only: the one a reader would call the mount.
        let above = id != ROOT && self.trie.node(self.trie.node(id).parent).trouble == Some(Trouble::Remote);
        if !above && self.said.insert(format!("{name} {}", path.display())) {
            tracing::warn!(
                "{} is on {name}, where others may change files unseen; also looking by time",
                path.display()
            );
        }
        Trouble::Remote
    }
}
