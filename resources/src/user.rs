//! `user`: a user of the machine's own account files, with its number, groups, home and shell, or its absence.
//!
//! Promises: only what is given is managed; one run of one program makes a change, so that all of it is there or nothing;
//! nobody is removed by force. Must not know about passwords.

mod build;
mod compare;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use mgmt_engine::resource::{self, Applied, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};

use self::compare::{Note, Numbers};
use crate::accounts::editing::{self, Edit};
use crate::aside::aside;
use crate::host::HostRef;
use crate::tools::Said;

pub use self::build::INFO;

/// What the programs end with where the user is logged in, or runs something.
const IN_USE: i32 = 8;

#[derive(Debug, Clone, PartialEq)]
struct User {
    name: String,
    want: Want,
    host: HostRef,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Exists(Desired),
    Absent,
}

/// What is managed of a user that shall exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Desired {
    uid: Option<u32>,
    shared_uid: bool,
    /// The primary group, by name or number.
    group: Option<String>,
    /// Its number, where that is given besides.
    gid: Option<u32>,
    /// Supplementary groups, by name or number: exactly these.
    groups: Option<BTreeSet<String>>,
    home: Option<PathBuf>,
    shell: Option<PathBuf>,
}

/// What is wrong, and the run that puts it right.
#[derive(Debug)]
struct Drift {
    notes: Vec<Note>,
    edit: Edit,
    /// The home directory that may be made, or whose files may get another owner.
    home: Option<PathBuf>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for note in &self.notes {
            write!(f, "{before}{note}")?;
            before = ", ";
        }
        Ok(())
    }
}

impl resource::Drift for Drift {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        let home = self.home.iter().map(|home| (home.clone(), Promise::Anything));
        editing::promises().into_iter().chain(home).collect()
    }
}

impl Resource for User {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        self.host.accounts.watch(&self.host.watches, signal)
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let standing = self.host.accounts.local_user(&self.name)?;
        let desired = match (&self.want, &standing) {
            (Want::Absent, None) => return Ok(Check::Converged),
            (Want::Absent, Some(_)) => {
                let edit = Edit::new("userdel").arg("--").arg(&self.name);
                edit.possible()?;
                self.host.accounts.untried(&edit)?;
                return Ok(Check::Drifted(Drift { notes: vec![Note::Present], edit, home: None }));
            }
            (Want::Exists(desired), _) => desired,
        };
        let remote = match standing {
            Some(_) => None,
            None => self.remote().await?,
        };
        let numbers = match self.numbers(desired).await {
            Ok(numbers) => numbers,
            Err(fault) => return editing::failed(look, fault),
        };
        let notes = match standing.as_ref().or(remote.as_ref()) {
            Some(user) => compare::notes(desired, &numbers, user, &self.host.accounts),
            None => vec![Note::Missing],
        };
        if notes.is_empty() {
            return Ok(Check::Converged);
        }
        let drift = match standing {
            Some(user) => {
                let home = notes.iter().any(Note::is_uid).then_some(user.home);
                Drift { edit: compare::modification(&self.name, desired, &notes), notes, home }
            }
            None if remote.is_some() => {
                let notes = Drift { notes, edit: Edit::new("usermod"), home: None };
                return Err(Fault::new(format!("it comes from a directory service, and is not changed here: {notes}")));
            }
            None => {
                let namesake = self.host.accounts.local_group(&self.name)?.is_some();
                let edit = compare::creation(&self.name, desired, namesake);
                Drift { notes, edit, home: desired.home.clone() }
            }
        };
        if let Err(fault) = self.free(desired, &drift.notes) {
            return editing::failed(look, fault);
        }
        drift.edit.possible()?;
        self.host.accounts.untried(&drift.edit)?;
        Ok(Check::Drifted(drift))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let accounts = &self.host.accounts;
        let said = accounts.edit(&drift.edit, &work.stop).await;
        let said = said.and_then(|said| self.idle(said)?.good(drift.edit.program()));
        let said = accounts.tried(&drift.edit, said)?;
        tracing::debug!("user {}: {}", self.name, said.last_words());
        let made = self.host.accounts.local_user(&self.name)?;
        Ok(Applied::changed(match (drift.notes.as_slice(), made) {
            ([Note::Missing], Some(user)) => format!("created, uid {}", user.uid),
            ([Note::Missing], None) => return Err(Fault::new("it was made, but somebody else has removed it again")),
            ([Note::Present], _) => "removed".to_owned(),
            (notes, _) => notes.iter().map(Note::deed).collect::<Vec<_>>().join(", "),
        }))
    }
}

impl User {
    async fn remote(&self) -> Result<Option<crate::accounts::User>, Fault> {
        let (host, name) = (self.host.clone(), self.name.clone());
        aside(move || host.accounts.remote_user(&name)).await?
    }

    /// The wanted groups as numbers. Only one that the account files lack is waited for.
    async fn numbers(&self, desired: &Desired) -> Result<Numbers, Fault> {
        if let Some(numbers) = Numbers::quickly(desired, &self.host.accounts)? {
            return Ok(numbers);
        }
        let (host, desired) = (self.host.clone(), desired.clone());
        aside(move || Numbers::patiently(&desired, &host.accounts)).await?
    }

    /// Whether nobody else has the wanted number.
    fn free(&self, desired: &Desired, notes: &[Note]) -> Result<(), Fault> {
        let Some(uid) = desired.uid.filter(|_| !desired.shared_uid) else { return Ok(()) };
        let other = self.host.accounts.user_name(uid).filter(|other| *other != self.name);
        match other {
            Some(other) if notes.iter().any(|note| note.is_uid() || *note == Note::Missing) => {
                let why = format!("uid {uid} belongs to user {other}; allowduplicateuid would share it");
                Err(Fault::new(why))
            }
            _ => Ok(()),
        }
    }

    /// Fails where the user is logged in or runs something: it is not thrown out.
    fn idle(&self, said: Said) -> Result<Said, Fault> {
        if said.status.code() != Some(IN_USE) || !said.err.contains("currently") {
            return Ok(said);
        }
        let words = said.last_words();
        let words = words.split_once(": ").map_or(words.as_str(), |(_, words)| words);
        let remedy = format!("end what it runs (pkill -u {0}, or loginctl terminate-user {0})", self.name);
        Err(Fault::new(format!("{words}; {remedy}; nothing was changed, and it will be tried again")))
    }
}
