//! Who a peer is: names that are drawn once, the file that remembers them, and what is left of a peer whose file or
//! log is not what it was.
//!
//! A voter whose log was lost and who votes again under its old id can undo what a quorum has acknowledged, and Raft
//! cannot see it. Hence a [`RaftId`] belongs to one [`Incarnation`] of one directory, and whoever cannot show both the
//! file and the log of that incarnation comes back under another id.

mod file;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::HOST_NAME_BYTES_MAX;
use crate::mutant::{self, Mutant};
use crate::types::RaftId;
pub use file::{FILE, LoadError, SaveError, Stored, load, parse, render, save};

macro_rules! drawn {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "testing", derive(Default))]
        pub struct $Name(pub u128);

        impl $Name {
            /// Draws one. The words come from the runtime's chance, so that a simulation repeats itself.
            pub fn draw(mut chance: impl FnMut() -> u64) -> Self {
                Self((u128::from(chance()) << 64) | u128::from(chance()))
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

drawn! {
    /// A cluster. Two of them never merge.
    ClusterId
}
drawn! {
    /// A peer, as the transport knows it.
    PeerId
}
drawn! {
    /// One life of a peer's directory. A directory that was lost and made anew is another one.
    Incarnation
}

/// What a peer must remember of itself. On disk, synced, before its id enters the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// Who it is to the transport.
    pub peer: PeerId,
    /// Which life of its directory this is.
    pub incarnation: Incarnation,
    /// Its id in the log. `None` until it was given one.
    pub raft: Option<RaftId>,
    /// Its name: see [`check_host`].
    pub host: String,
}

impl Identity {
    /// The same peer in another life: no id yet, and nothing that anybody knows of.
    #[must_use]
    pub fn reborn(&self, chance: impl FnMut() -> u64) -> Self {
        Self { incarnation: Incarnation::draw(chance), raft: None, ..self.clone() }
    }
}

/// What is found of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// None.
    Missing,
    /// One that cannot be trusted.
    Damaged,
    /// A sound one, of this incarnation.
    Sound(Incarnation),
}

/// How a peer goes on when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It was never anybody.
    Fresh,
    /// It is who it was.
    Resume(Identity),
    /// It may only ask to be let in, under another id.
    Rejoin {
        /// The id that is to be removed, if it is known.
        old: Option<RaftId>,
        /// What is wrong.
        why: Lost,
    },
}

/// What is wrong with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// There is a log, and nobody knows whose.
    #[error("there is a log without {FILE}")]
    IdentityMissing,
    /// The file cannot be trusted.
    #[error("{FILE} is damaged")]
    IdentityDamaged,
    /// It had asked to be let in, and was given no id that it knows of.
    #[error("it was never given an id")]
    NotAdmitted,
    /// The log is gone.
    #[error("the log is missing")]
    LogMissing,
    /// The log cannot be trusted.
    #[error("the log is damaged")]
    LogDamaged,
    /// The log is of another life.
    #[error("the log is of another incarnation")]
    OtherIncarnation,
}

impl Life {
    /// Decides from what is found.
    #[must_use]
    pub fn decide(stored: &Stored, log: Log) -> Self {
        let identity = match (stored, log) {
            (Stored::Missing, Log::Missing) => return Self::Fresh,
            (Stored::Missing, _) => return Self::Rejoin { old: None, why: Lost::IdentityMissing },
            (Stored::Damaged(_), _) => return Self::Rejoin { old: None, why: Lost::IdentityDamaged },
            (Stored::Sound(identity), _) => identity,
        };
        let why = match (identity.raft, log) {
            (None, _) => Lost::NotAdmitted,
            (Some(_), Log::Sound(incarnation)) if incarnation == identity.incarnation => {
                return Self::Resume(identity.clone());
            }
            (Some(_), _) if mutant::is(Mutant::IncarnationNotChecked) => return Self::Resume(identity.clone()),
            (Some(_), Log::Missing) => Lost::LogMissing,
            (Some(_), Log::Damaged) => Lost::LogDamaged,
            (Some(_), Log::Sound(_)) => Lost::OtherIncarnation,
        };
        Self::Rejoin { old: identity.raft, why }
    }
}

/// A name that no host can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is none.
    #[error("a host name has at least one letter or digit")]
    Empty,
    /// It is longer than any in the domain name system.
    #[error("a host name of {0} bytes; at most {HOST_NAME_BYTES_MAX} are allowed")]
    Long(usize),
    /// A character that names do not have.
    #[error("a host name with {0:?}; it has a-z, 0-9, '.' and '-', and begins with a letter or digit")]
    Character(char),
}

/// Whether this is a host name: `[a-z0-9][a-z0-9.-]{0,252}`. Who reads names from people makes them small first.
///
/// # Errors
/// What is wrong with it.
pub fn check_host(name: &str) -> Result<(), HostError> {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match name.chars().next() {
        None => return Err(HostError::Empty),
        Some(first) if !plain(&first) => return Err(HostError::Character(first)),
        Some(_) => {}
    }
    if name.len() > HOST_NAME_BYTES_MAX {
        return Err(HostError::Long(name.len()));
    }
    match name.chars().find(|c| !plain(c) && !matches!(c, '.' | '-')) {
        Some(wrong) => Err(HostError::Character(wrong)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::fmt::Write as _;

    fn identity(raft: Option<RaftId>) -> Identity {
        Identity {
            cluster: ClusterId(1),
            peer: PeerId(2),
            incarnation: Incarnation(3),
            raft,
            host: "web1.example".to_owned(),
        }
    }

    fn table() -> String {
        let files = [
            ("no file", Stored::Missing),
            ("damaged file", Stored::Damaged("it is short".to_owned())),
            ("file without id", Stored::Sound(identity(None))),
            ("file with id 7", Stored::Sound(identity(Some(7)))),
        ];
        let logs = [
            ("no log", Log::Missing),
            ("damaged log", Log::Damaged),
            ("log of this life", Log::Sound(Incarnation(3))),
            ("log of another life", Log::Sound(Incarnation(4))),
        ];
        let mut out = String::new();
        for (file, stored) in &files {
            for (name, log) in logs {
                let life = match Life::decide(stored, log) {
                    Life::Fresh => "fresh".to_owned(),
                    Life::Resume(who) => format!("resume as {}", who.raft.unwrap()),
                    Life::Rejoin { old: Some(old), why } => format!("rejoin, remove {old}: {why}"),
                    Life::Rejoin { old: None, why } => format!("rejoin: {why}"),
                };
                writeln!(out, "{file}, {name}: {life}").unwrap();
            }
        }
        out
    }

    #[test]
    fn only_the_same_file_with_the_same_log_is_the_same_member() {
        expect![[r#"
            no file, no log: fresh
            no file, damaged log: rejoin: there is a log without peer.toml
            no file, log of this life: rejoin: there is a log without peer.toml
            no file, log of another life: rejoin: there is a log without peer.toml
            damaged file, no log: rejoin: peer.toml is damaged
            damaged file, damaged log: rejoin: peer.toml is damaged
            damaged file, log of this life: rejoin: peer.toml is damaged
            damaged file, log of another life: rejoin: peer.toml is damaged
            file without id, no log: rejoin: it was never given an id
            file without id, damaged log: rejoin: it was never given an id
            file without id, log of this life: rejoin: it was never given an id
            file without id, log of another life: rejoin: it was never given an id
            file with id 7, no log: rejoin, remove 7: the log is missing
            file with id 7, damaged log: rejoin, remove 7: the log is damaged
            file with id 7, log of this life: resume as 7
            file with id 7, log of another life: rejoin, remove 7: the log is of another incarnation
        "#]]
        .assert_eq(&table());
    }

    #[cfg(feature = "testing")]
    #[test]
    fn the_mutant_resumes_an_old_id_without_its_log() {
        let wiped = || Life::decide(&Stored::Sound(identity(Some(7))), Log::Missing);
        assert!(matches!(wiped(), Life::Rejoin { old: Some(7), .. }));
        let _wrong = mutant::choose(Some(Mutant::IncarnationNotChecked));
        assert_eq!(wiped(), Life::Resume(identity(Some(7))));
    }

    #[test]
    fn another_life_shares_nothing_that_counts() {
        let mut words = 10..;
        let next = identity(Some(7)).reborn(|| words.next().unwrap());
        assert_eq!(next, Identity { incarnation: Incarnation((10 << 64) | 11), raft: None, ..identity(None) });
    }

    #[test]
    fn host_names() {
        for good in ["a", "0", "web1", "web-1.example.org", "a-", "a.", &"a".repeat(253)] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        let mut out = String::new();
        for bad in ["", "-a", ".a", "Web", "a_b", "a b", "ä", "aä", "a\0", "a/b", "..", &"a".repeat(254)] {
            writeln!(out, "{:?}: {}", bad.get(..9).unwrap_or(bad), check_host(bad).unwrap_err()).unwrap();
        }
        expect![[r#"
            "": a host name has at least one letter or digit
            "-a": a host name with '-'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            ".a": a host name with '.'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "Web": a host name with 'W'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "a_b": a host name with '_'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "a b": a host name with ' '; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "ä": a host name with 'ä'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "aä": a host name with 'ä'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "a\0": a host name with '\0'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "a/b": a host name with '/'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "..": a host name with '.'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
            "aaaaaaaaa": a host name of 254 bytes; at most 253 are allowed
        "#]]
        .assert_eq(&out);
    }
}
