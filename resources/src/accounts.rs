//! Users and groups without NSS: a static program must not load plugins of another libc. Parses the account files, and
//! asks `getent` as a child process for names they lack.
//!
//! Promises: a name found in the files costs two `stat`s at most and no allocation of note; the files are parsed again
//! only when they have changed; a child is given 5 seconds and its output is bounded. Must not know who asks, or why.

mod database;
pub mod editing;
mod getent;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mgmt_engine::clock::{Clock, Moment};
use mgmt_engine::resource::Fault;

use database::{Database, Groups, Users};

/// How long a name that `getent` did not know is taken as unknown without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(3);
/// How long an answer of `getent` is kept: a directory service changes seldom, and a re-check must be quick.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How many answers of `getent` are kept; past that, all are forgotten.
const ANSWERS_MAX: usize = 4096;

/// A user, with the groups it is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// Numbers of all groups, the primary one first, the others ascending.
    pub groups: Vec<u32>,
}

/// Looks up users and groups. A text of digits only is always a number, never a name.
#[derive(Debug)]
pub struct Accounts {
    users: Database<Users>,
    groups: Database<Groups>,
    /// `None` where names must come from the files alone.
    getent: Option<PathBuf>,
    clock: Clock,
    /// Held while a program of the machine changes the files: it would only wait for the lock of another.
    editing: tokio::sync::Mutex<()>,
    /// Changes that have just failed, with when and why. Kept for moments.
    failures: Mutex<Vec<(Moment, editing::Edit, Fault)>>,
    /// Answers of `getent`, by table and key, with the moment they were given. `None` is "unknown".
    answers: Mutex<Answers>,
}

type Answers = BTreeMap<(Table, String), (Moment, Option<String>)>;

/// A table of `getent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Users,
    Groups,
    /// The groups of a user: its name, then numbers.
    Memberships,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Users => "passwd",
            Self::Groups => "group",
            Self::Memberships => "initgroups",
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// The accounts of this machine.
    pub fn new() -> Self {
        Self { getent: getent::find(), ..Self::below(Path::new("/")) }
    }

    /// The accounts in `etc` below another root directory, without `getent`.
    pub fn below(root: &Path) -> Self {
        Self {
            users: Database::new(root.join("etc/passwd")),
            groups: Database::new(root.join("etc/group")),
            getent: None,
            clock: Clock::start(),
            editing: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// A user's number. May wait for a child: not for the engine's worker threads.
    ///
    /// # Errors
    /// The user is unknown, or cannot be looked up.
    pub fn uid(&self, name_or_number: &str) -> Result<u32, Fault> {
        match self.uid_quickly(name_or_number)? {
            Some(uid) => Ok(uid),
            None => Ok(self.user(name_or_number)?.uid),
        }
    }

    /// A group's number. May wait for a child: not for the engine's worker threads.
    ///
    /// # Errors
    /// The group is unknown, or cannot be looked up.
    pub fn gid(&self, name_or_number: &str) -> Result<u32, Fault> {
        if let Some(gid) = self.gid_quickly(name_or_number)? {
            return Ok(gid);
        }
        let line = self.ask(Table::Groups, name_or_number)?;
        let line = line.ok_or_else(|| Fault::new(format!("group {name_or_number} does not exist")))?;
        Ok(database::group(&line).ok_or_else(|| nonsense(Table::Groups, &line))?.gid)
    }

    /// A user's number if the files or a kept answer tell it; `None` means that [`Accounts::uid`] would start a child.
    ///
    /// # Errors
    /// A file cannot be read, or the user is known to be unknown.
    pub fn uid_quickly(&self, name_or_number: &str) -> Result<Option<u32>, Fault> {
        if let Some(number) = number(name_or_number)? {
            return Ok(Some(number));
        }
        let found = self.users.read()?.by_name.get(name_or_number).map(|user| user.uid);
        if found.is_some() {
            return Ok(found);
        }
        match self.kept(Table::Users, name_or_number) {
            None => Ok(None),
            Some(None) => Err(Fault::new(format!("user {name_or_number} does not exist"))),
            Some(Some(line)) => Ok(Some(database::user(&line).ok_or_else(|| nonsense(Table::Users, &line))?.uid)),
        }
    }

    /// A group's number if the files or a kept answer tell it; `None` means that [`Accounts::gid`] would start a child.
    ///
    /// # Errors
    /// A file cannot be read, or the group is known to be unknown.
    pub fn gid_quickly(&self, name_or_number: &str) -> Result<Option<u32>, Fault> {
        if let Some(number) = number(name_or_number)? {
            return Ok(Some(number));
        }
        let found = self.groups.read()?.by_name.get(name_or_number).map(|group| group.gid);
        match (found, self.kept(Table::Groups, name_or_number)) {
            (Some(gid), _) => Ok(Some(gid)),
            (None, None) => Ok(None),
            (None, Some(None)) => Err(Fault::new(format!("group {name_or_number} does not exist"))),
            (None, Some(Some(line))) => {
                Ok(Some(database::group(&line).ok_or_else(|| nonsense(Table::Groups, &line))?.gid))
            }
        }
    }

    /// A user with everything known of it. May wait for a child: not for the engine's worker threads.
    ///
    /// # Errors
    /// The user is unknown, or cannot be looked up.
    pub fn user(&self, name_or_number: &str) -> Result<User, Fault> {
        let users = self.users.read()?;
        let found = match number(name_or_number)? {
            Some(uid) => users.name_of.get(&uid).and_then(|name| users.by_name.get(name)).cloned(),
            None => users.by_name.get(name_or_number).cloned(),
        };
        let known = found.is_some();
        let mut user = match found {
            Some(user) => user,
            None => {
                let line = self.ask(Table::Users, name_or_number)?;
                let line = line.ok_or_else(|| Fault::new(format!("user {name_or_number} does not exist")))?;
                database::user(&line).ok_or_else(|| nonsense(Table::Users, &line))?
            }
        };
        let mut others = self.memberships(&user, known)?;
        user.groups.push(user.gid);
        others.retain(|gid| *gid != user.gid);
        others.sort_unstable();
        others.dedup();
        user.groups.extend(others);
        Ok(user)
    }

    /// Numbers of the groups that list this user. For one that the files do not have (`known`), the directory service
    /// is asked as well.
    fn memberships(&self, user: &User, known: bool) -> Result<Vec<u32>, Fault> {
        let groups = self.groups.read()?;
        let member = groups.by_name.values().filter(|group| group.members.contains(&user.name));
        let mut numbers: Vec<u32> = member.map(|group| group.gid).collect();
        if !known && let Some(line) = self.ask(Table::Memberships, &user.name)? {
            numbers.extend(line.split_ascii_whitespace().skip(1).filter_map(|number| number.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    /// A user that the machine's own files have, with the groups that list it there.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn local_user(&self, name: &str) -> Result<Option<User>, Fault> {
        let Some(mut user) = self.users.read()?.by_name.get(name).cloned() else { return Ok(None) };
        let mut others = self.memberships(&user, true)?;
        others.retain(|gid| *gid != user.gid);
        others.sort_unstable();
        others.dedup();
        user.groups.push(user.gid);
        user.groups.extend(others);
        Ok(Some(user))
    }

    /// The number of a group that the machine's own files have.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn local_group(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(self.groups.read()?.by_name.get(name).map(|group| group.gid))
    }

    /// A user in the machine's own files whose primary group this is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn local_user_in(&self, gid: u32) -> Result<Option<String>, Fault> {
        Ok(self.users.read()?.by_name.values().find(|user| user.gid == gid).map(|user| user.name.clone()))
    }

    /// A user that only a directory service may have. May wait for a child: not for the engine's worker threads.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn remote_user(&self, name: &str) -> Result<Option<User>, Fault> {
        match self.ask(Table::Users, name)? {
            None => Ok(None),
            Some(_) => self.user(name).map(Some),
        }
    }

    /// The number of a group that only a directory service may have. May wait for a child: not for the engine's worker
    /// threads.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub fn remote_group(&self, name: &str) -> Result<Option<u32>, Fault> {
        let Some(line) = self.ask(Table::Groups, name)? else { return Ok(None) };
        database::group(&line).map(|group| Some(group.gid)).ok_or_else(|| nonsense(Table::Groups, &line))
    }

    /// The name of a user in the account file, for people.
    pub fn user_name(&self, uid: u32) -> Option<String> {
        self.users.read().ok()?.name_of.get(&uid).cloned()
    }

    /// The name of a group in the account file, for people.
    pub fn group_name(&self, gid: u32) -> Option<String> {
        self.groups.read().ok()?.name_of.get(&gid).cloned()
    }

    /// Asks `getent`, or what it said a short while ago.
    fn ask(&self, table: Table, key: &str) -> Result<Option<String>, Fault> {
        if let Some(answer) = self.kept(table, key) {
            return Ok(answer);
        }
        let answer = match &self.getent {
            Some(program) => getent::ask(program, table.name(), key, &self.clock)?,
            None => None,
        };
        let mut answers = self.answers();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert((table, key.to_owned()), (self.clock.now(), answer.clone()));
        Ok(answer)
    }

    /// A fresh enough answer of `getent`. Without `getent` every name that the files lack is known to be unknown.
    fn kept(&self, table: Table, key: &str) -> Option<Option<String>> {
        if self.getent.is_none() {
            return Some(None);
        }
        let answers = self.answers();
        let (given, answer) = answers.get(&(table, key.to_owned()))?;
        let keep = if answer.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        (self.clock.now().since(*given) < keep).then(|| answer.clone())
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nonsense(table: Table, line: &str) -> Fault {
    Fault::new(format!("getent {} answered a line that is no account: {line:?}", table.name()))
}

/// The number a text of digits stands for; `None` for a name.
fn number(text: &str) -> Result<Option<u32>, Fault> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // The largest number means "leave as it is" to chown, so it names nobody.
    match text.parse::<u32>() {
        Ok(number) if number != u32::MAX => Ok(Some(number)),
        _ => Err(Fault::new(format!("{text} is no user or group number"))),
    }
}

/// A parsed file that is shared until it changes.
type Shared<T> = Arc<T>;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn accounts(passwd: &str, group: &str) -> (tempfile::TempDir, Accounts) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), group).unwrap();
        let accounts = Accounts::below(root.path());
        (root, accounts)
    }

    #[test]
    fn names_and_numbers_are_found() {
        let (_root, accounts) = accounts(
            "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:34::/var/www:\nbroken:x:no:1::/:/bin/sh\n",
            "root:x:0:\nwww:x:34:other\nlogs:x:50:other,web\nadm:x:4:web\n",
        );
        assert_eq!(accounts.uid("web"), Ok(33));
        assert_eq!(accounts.uid("4711"), Ok(4711));
        assert_eq!(accounts.gid("logs"), Ok(50));
        assert_eq!(accounts.uid("nobody-here").unwrap_err().to_string(), "user nobody-here does not exist");
        assert_eq!(accounts.gid("nobody-here").unwrap_err().to_string(), "group nobody-here does not exist");
        assert!(accounts.uid("broken").is_err());
        assert!(accounts.uid("4294967295").is_err(), "chown takes this number as \"unchanged\"");
        assert!(accounts.uid("99999999999").is_err());
        assert_eq!(accounts.user_name(33).as_deref(), Some("web"));
        assert_eq!(accounts.group_name(4).as_deref(), Some("adm"));
        assert_eq!(accounts.user_name(7), None);
        let web = accounts.user("33").unwrap();
        assert_eq!((web.name.as_str(), web.groups.as_slice()), ("web", [34, 4, 50].as_slice()));
        assert_eq!(web.shell, Path::new("/bin/sh"), "an empty shell means this one");
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let (root, accounts) = accounts("", "");
        assert!(accounts.uid("new").is_err());
        fs::write(root.path().join("etc/passwd"), "new:x:5:5::/:/bin/sh\n").unwrap();
        assert_eq!(accounts.uid("new"), Ok(5));
    }

    #[test]
    fn a_missing_file_knows_nobody() {
        let root = tempfile::tempdir().unwrap();
        let accounts = Accounts::below(root.path());
        assert!(accounts.uid("root").is_err());
        assert_eq!(accounts.uid("0"), Ok(0));
    }

    #[test]
    fn a_quick_answer_starts_no_child() {
        let (root, accounts) = accounts("", "");
        let accounts = Accounts { getent: Some(root.path().join("none")), ..accounts };
        let line = Some("ldap:*:7:8::/:/bin/sh".to_owned());
        accounts.answers().insert((Table::Users, "ldap".to_owned()), (accounts.clock.now(), line));
        // Its groups are not known any more, and asking for them would fail here.
        assert_eq!(accounts.uid_quickly("ldap"), Ok(Some(7)));
    }

    #[test]
    fn getent_is_asked_for_what_the_files_lack() {
        if getent::find().is_none() {
            println!("skipped: no getent here");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let accounts = Accounts { getent: getent::find(), ..Accounts::below(root.path()) };
        assert_eq!(accounts.uid_quickly("root"), Ok(None), "this would start a child");
        assert_eq!(accounts.uid("root"), Ok(0));
        assert_eq!(accounts.uid_quickly("root"), Ok(Some(0)), "the answer is kept");
        assert_eq!(accounts.gid("root"), Ok(0));
        assert!(accounts.uid("nobody-of-this-name").is_err());
        assert!(accounts.uid_quickly("nobody-of-this-name").is_err(), "so is a negative one");
    }
}
