//! Changes of the account files, by the machine's own programs (`useradd` and its kin): one at a time, and again for as
//! long as somebody else holds their lock. Must not know what is changed, or why.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use mgmt_engine::resource::{Check, Fault, Look, Promise, Signal, Stop, Urgency, Watch};
use tokio::time::sleep;

use super::Accounts;
use crate::kind::{Params, Problem};
use crate::tools::{self, Said, Tool};
use crate::watches::Watches;

/// So long somebody else (`vipw`, another tool) may hold the lock. Each try of the programs waits up to 15 s itself.
const LOCKED_WITHIN: Duration = Duration::from_secs(60);
/// Between two tries.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);
/// What hangs longer than this is stuck in a home directory or a directory service. Killed between two of its renames it
/// would leave a user without its group, which the next look repairs.
const ENDED_WITHIN: Duration = Duration::from_secs(300);
/// The events of a run arrive within this time.
const ECHO_WITHIN: Duration = Duration::from_secs(2);
/// The longest name that the programs take.
const NAME_BYTES_MAX: usize = 32;

/// One run of one of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    program: &'static str,
    arguments: Vec<OsString>,
}

impl Edit {
    /// A run without arguments.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Self { program, arguments: Vec::new() }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Whether it could be run here.
    ///
    /// # Errors
    /// We are not root, or the program is missing.
    pub fn possible(&self) -> Result<(), Fault> {
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::new("only root may change users and groups"));
        }
        if tools::has(self.program) {
            return Ok(());
        }
        // busybox has `adduser`, which cannot change what exists.
        let why =
            format!("this machine has no '{}': install its package (passwd, shadow or shadow-utils)", self.program);
        Err(Fault::new(why))
    }

    /// The program's name.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    fn tool(&self) -> Tool {
        Tool::new(self.program).args(&self.arguments).within(ENDED_WITHIN)
    }
}

impl Accounts {
    /// Watches the account files for a user or group. The programs rename, lock and unlock: raises merge.
    ///
    /// # Errors
    /// The paths cannot be watched.
    pub fn watch(&self, watches: &Watches, signal: &Signal) -> Result<Watch, Fault> {
        let guards = FILES.iter().map(|file| watches.path(Path::new(file), signal)).collect::<Result<Vec<_>, _>>()?;
        Ok(Watch::Held(Box::new(guards)))
    }

    /// Whether it has not just failed. A program that fails may still have opened the files to write, and raised every
    /// watch on them: trying again for that alone would go on for ever.
    ///
    /// # Errors
    /// It has; with what was told then.
    pub fn untried(&self, edit: &Edit) -> Result<(), Fault> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        failures.retain(|(failed, ..)| now.since(*failed) < ECHO_WITHIN);
        let told = failures.iter().find(|(_, failed, _)| failed == edit);
        told.map_or(Ok(()), |(.., fault)| Err(fault.clone()))
    }

    /// Remembers how a run ended, if it was no good end.
    ///
    /// # Errors
    /// That one.
    pub fn tried<T>(&self, edit: &Edit, ended: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &ended {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.retain(|(_, failed, _)| failed != edit);
            failures.push((self.clock.now(), edit.clone(), fault.clone()));
        }
        ended
    }

    /// Runs it to its end, however that is. Not for as long as somebody else holds the lock of the files.
    ///
    /// # Errors
    /// The program is missing or hangs, or the lock was held for too long.
    pub async fn edit(&self, edit: &Edit, stop: &Stop) -> Result<Said, Fault> {
        let _one_at_a_time = self.editing.lock().await;
        let deadline = self.clock.now().after(LOCKED_WITHIN);
        loop {
            let said = edit.tool().ended().await?;
            if said.status.success() || !is_locked(&said) {
                return Ok(said);
            }
            if self.clock.now() >= deadline {
                let why = format!(
                    "the account files have been locked for {} s by somebody else (vipw?): {}",
                    LOCKED_WITHIN.as_secs(),
                    said.last_words()
                );
                return Err(Fault::new(why));
            }
            tracing::debug!("{} waits for the lock of the account files", edit.program);
            tokio::select! {
                biased;
                () = stop.reached(Urgency::Cancel) => {
                    return Err(Fault::new("ended while it waited for the lock of the account files"));
                }
                () = sleep(LOCKED_PAUSE) => {}
            }
        }
    }
}

/// `useradd: cannot lock /etc/passwd; try again later.`
fn is_locked(said: &Said) -> bool {
    said.err.contains("cannot lock /etc/")
}

/// The programs change these, whatever else they do.
#[must_use]
pub fn promises() -> Vec<(PathBuf, Promise)> {
    FILES.iter().map(|file| (PathBuf::from(file), Promise::File)).collect()
}

/// The account files that hold users and groups.
pub const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Somebody has not been found, or is in the way. That is a failure, but not in a plan where another resource would have
/// changed the accounts by then.
///
/// # Errors
/// Nobody would have.
pub fn failed<D>(look: &Look, fault: Fault) -> Result<Check<D>, Fault> {
    match foreseen(look) {
        Some(who) => Ok(Check::Unknown(format!("{who} would change first"))),
        None => Err(fault),
    }
}

/// Who else would change the accounts first.
pub(crate) fn foreseen(look: &Look) -> Option<&str> {
    FILES.iter().find_map(|file| look.promises.of(Path::new(file))).map(|(_, _, who)| who)
}

/// Takes the number of a user or group.
pub(crate) fn number(params: &mut Params, field: &'static str, problems: &mut Vec<Problem>) -> Option<u32> {
    let given = params.count(field)?;
    // The largest one means "leave as it is" to chown, so it can be nobody's.
    let number = u32::try_from(given).ok().filter(|number| *number != u32::MAX);
    if number.is_none() {
        problems.push(Problem::new(field, format!("has to be less than {}", u32::MAX)));
    }
    number
}

/// What is wrong with the name of a user or group, if anything is. What the programs take differs from one machine to
/// the next; this is what no account file could hold, or what would be taken for something else.
#[must_use]
pub fn wrong_name(name: &str) -> Option<String> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | ',' | '/');
    let why = match name {
        "" => "is empty".to_owned(),
        _ if digits => "has digits only, and would be taken for a number".to_owned(),
        _ if name.starts_with(['-', '+', '~']) => format!("'{name}' starts with '{}'", &name[..1]),
        _ if name.contains(wrong) => format!("'{}' has a blank, a colon, a comma or a slash", name.escape_debug()),
        _ if name.len() > NAME_BYTES_MAX => format!("'{name}' is longer than {NAME_BYTES_MAX} bytes"),
        _ => return None,
    };
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_file_could_hold_are_told() {
        for good in ["web", "_apt", "www-data", "Debian-exim", "samba$", "a.b", "7zip"] {
            assert_eq!(wrong_name(good), None, "{good}");
        }
        for bad in ["", "42", "-x", "a:b", "a b", "a,b", "a/b", "a\nb", &"x".repeat(33)] {
            assert!(wrong_name(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_failure_is_not_tried_again_for_its_own_events() {
        let accounts = Accounts::below(Path::new("/nonexistent"));
        let (edit, other) = (Edit::new("a").arg("x"), Edit::new("a").arg("y"));
        assert_eq!(accounts.tried(&edit, Ok(1)), Ok(1));
        assert_eq!(accounts.untried(&edit), Ok(()));
        let fault = Fault::new("no");
        assert_eq!(accounts.tried::<()>(&edit, Err(fault.clone())), Err(fault.clone()));
        assert_eq!((accounts.untried(&edit), accounts.untried(&other)), (Err(fault), Ok(())));
    }

    #[test]
    fn what_the_machine_lacks_is_said() {
        let fault = Edit::new("no-such-tool").possible().unwrap_err().to_string();
        assert!(fault.contains("no-such-tool") || fault.contains("root"), "{fault}");
    }
}
