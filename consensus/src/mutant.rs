//! Deliberate defects. Each is a way in which programs of this kind have been wrong; the tests choose one at run time
//! and must catch it. Without the feature `testing` none can be chosen and nothing of this is left in the program.

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// The log says "on disk" before the sync.
    AcknowledgeBeforeSync,
    /// A vote is written and not synced.
    VoteNotSynced,
    /// A peer whose log is gone goes on under its old id.
    IncarnationNotChecked,
    /// An id is given to a second life of a host.
    IdReused,
    /// A learner becomes a voter however far it lags.
    LaggingLearnerPromoted,
    /// A voter is removed without asking who of the rest is alive.
    QuorumCheckSkipped,
    /// A second change of the membership is begun before the first is done.
    TwoStepsInFlight,
    /// A watch that is resumed starts one event late.
    WatchDropsOnReconnect,
    /// The state machine asks what time it is.
    ApplyReadsClock,
    /// A command that is sent again is applied again.
    RetryAppliedTwice,
    /// A snapshot leaves a space out.
    SnapshotMissesSpace,
    /// The end of the log is believed though its checksum is wrong.
    TornTailAccepted,
    /// Damage in the middle of the log is cut off like a torn end.
    DamageCutLikeTail,
    /// What sled says is believed where the journal says otherwise.
    SledTrusted,
    /// What an empty store says at the start of a life is believed: that nobody exports anything.
    EmptyStoreBelieved,
    /// Exports that could not be published are not published later.
    PublicationGivenUp,
    /// What was collected is not remembered.
    CollectedForgotten,
    /// What is remembered is believed to be all there was, though more was seen before it was written down.
    StaleMemoryTrusted,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AcknowledgeBeforeSync,
        Self::VoteNotSynced,
        Self::IncarnationNotChecked,
        Self::IdReused,
        Self::LaggingLearnerPromoted,
        Self::QuorumCheckSkipped,
        Self::TwoStepsInFlight,
        Self::WatchDropsOnReconnect,
        Self::ApplyReadsClock,
        Self::RetryAppliedTwice,
        Self::SnapshotMissesSpace,
        Self::TornTailAccepted,
        Self::DamageCutLikeTail,
        Self::SledTrusted,
        Self::EmptyStoreBelieved,
        Self::PublicationGivenUp,
        Self::CollectedForgotten,
        Self::StaleMemoryTrusted,
    ];

    /// Those that only whole nodes have.
    pub const OF_EXCHANGE: [Self; 4] =
        [Self::EmptyStoreBelieved, Self::PublicationGivenUp, Self::CollectedForgotten, Self::StaleMemoryTrusted];
}

#[cfg(feature = "testing")]
mod chosen {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Is this defect in force on this thread?
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// Puts a defect in force on this thread, for as long as the result lives.
    #[must_use]
    pub fn choose(mutant: Option<Mutant>) -> Chosen {
        Chosen(CHOSEN.replace(mutant))
    }

    /// Gives the thread back what was in force before.
    #[derive(Debug)]
    pub struct Chosen(Option<Mutant>);

    impl Drop for Chosen {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
}

#[cfg(feature = "testing")]
pub use chosen::{Chosen, choose, is};

/// Is this defect in force? Never, in what is shipped.
#[cfg(not(feature = "testing"))]
#[inline(always)]
#[must_use]
pub const fn is(_: Mutant) -> bool {
    false
}
