//! What stands against what is wanted of a user, and the run of `useradd` or `usermod` that makes one of the other. Pure,
//! but for names that are looked up.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

use super::Desired;
use crate::accounts::editing::Edit;
use crate::accounts::{Accounts, User};

/// The wanted groups by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) primary: Option<u32>,
    pub(super) supplementary: Option<BTreeSet<u32>>,
}

impl Numbers {
    /// By the account files and kept answers alone; `None` if somebody would have to be asked.
    pub(super) fn quickly(desired: &Desired, accounts: &Accounts) -> Result<Option<Self>, Fault> {
        let primary = match &desired.group {
            None => None,
            Some(group) => match accounts.gid_quickly(group)? {
                Some(gid) => Some(gid),
                None => return Ok(None),
            },
        };
        Self::with(desired, primary, accounts).map(Some)
    }

    /// By whatever it takes.
    pub(super) fn patiently(desired: &Desired, accounts: &Accounts) -> Result<Self, Fault> {
        let primary = desired.group.as_deref().map(|group| accounts.gid(group)).transpose()?;
        Self::with(desired, primary, accounts)
    }

    fn with(desired: &Desired, named: Option<u32>, accounts: &Accounts) -> Result<Self, Fault> {
        if let (Some(group), Some(is), Some(given)) = (&desired.group, named, desired.gid)
            && is != given
        {
            return Err(Fault::new(format!(
                "group {group} has the number {is}, and gid says {given}: give one of them"
            )));
        }
        let member = |group: &String| {
            // A member is written into the machine's own file, so the group has to be there.
            let gid = match group.parse() {
                Ok(number) => accounts.group_name(number).map(|_| number),
                Err(_) => accounts.local_group(group)?,
            };
            gid.ok_or_else(|| {
                Fault::new(format!("group {group} is not in /etc/group, so nobody can become its member"))
            })
        };
        let supplementary = match &desired.groups {
            None => None,
            Some(groups) => Some(groups.iter().map(member).collect::<Result<BTreeSet<u32>, Fault>>()?),
        };
        Ok(Self { primary: named.or(desired.gid), supplementary })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    Missing,
    Present,
    Uid { is: u32, wanted: u32 },
    Group { is: String, wanted: String },
    Groups { is: Vec<String>, wanted: Vec<String> },
    Home { is: PathBuf, wanted: PathBuf },
    Shell { is: PathBuf, wanted: PathBuf },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "missing"),
            Self::Present => write!(f, "exists, wanted absent"),
            Self::Uid { is, wanted } => write!(f, "uid is {is}, wanted {wanted}"),
            Self::Group { is, wanted } => write!(f, "group is {is}, wanted {wanted}"),
            Self::Groups { is, wanted } => write!(f, "groups are {}, wanted {}", list(is), list(wanted)),
            Self::Home { is, wanted } => write!(f, "homedir is {}, wanted {}", is.display(), wanted.display()),
            Self::Shell { is, wanted } => write!(f, "shell is {}, wanted {}", is.display(), wanted.display()),
        }
    }
}

impl Note {
    pub(super) fn is_uid(&self) -> bool {
        matches!(self, Self::Uid { .. })
    }

    /// What has been done about it.
    pub(super) fn deed(&self) -> String {
        match self {
            Self::Missing => "created".to_owned(),
            Self::Present => "removed".to_owned(),
            Self::Uid { wanted, .. } => format!("uid set to {wanted}"),
            Self::Group { wanted, .. } => format!("group set to {wanted}"),
            Self::Groups { wanted, .. } => format!("groups set to {}", list(wanted)),
            Self::Home { wanted, .. } => format!("homedir set to {}", wanted.display()),
            Self::Shell { wanted, .. } => format!("shell set to {}", wanted.display()),
        }
    }
}

fn list(groups: &[String]) -> String {
    if groups.is_empty() { "none".to_owned() } else { groups.join(" ") }
}

/// What is wrong with a user that exists.
pub(super) fn notes(desired: &Desired, numbers: &Numbers, user: &User, accounts: &Accounts) -> Vec<Note> {
    let mut notes = Vec::new();
    let name = |gid: u32| accounts.group_name(gid).unwrap_or_else(|| gid.to_string());
    if let Some(wanted) = desired.uid.filter(|uid| *uid != user.uid) {
        notes.push(Note::Uid { is: user.uid, wanted });
    }
    if let Some(wanted) = numbers.primary.filter(|gid| *gid != user.gid) {
        notes.push(Note::Group { is: name(user.gid), wanted: desired.group.clone().unwrap_or_else(|| name(wanted)) });
    }
    if let Some(wanted) = &numbers.supplementary {
        // Whether its primary group lists it as well makes no difference to anybody.
        let primary = numbers.primary.unwrap_or(user.gid);
        let rest =
            |gids: &mut dyn Iterator<Item = u32>| -> BTreeSet<u32> { gids.filter(|gid| *gid != primary).collect() };
        let is = rest(&mut user.groups.iter().copied().filter(|gid| *gid != user.gid));
        let wanted = rest(&mut wanted.iter().copied());
        if is != wanted {
            let names = |gids: BTreeSet<u32>| gids.into_iter().map(name).collect();
            notes.push(Note::Groups { is: names(is), wanted: names(wanted) });
        }
    }
    let unlike = |wanted: &Option<PathBuf>, is: &Path| wanted.clone().filter(|wanted| wanted != is);
    if let Some(wanted) = unlike(&desired.home, &user.home) {
        notes.push(Note::Home { is: user.home.clone(), wanted });
    }
    if let Some(wanted) = unlike(&desired.shell, &user.shell) {
        notes.push(Note::Shell { is: user.shell.clone(), wanted });
    }
    notes
}

/// Makes the user. `namesake`: there is a group of its name, which the programs would not take unasked.
pub(super) fn creation(name: &str, desired: &Desired, namesake: bool) -> Edit {
    let mut edit = number(Edit::new("useradd"), desired);
    let primary = primary(desired).or_else(|| namesake.then(|| name.to_owned()));
    if let Some(primary) = primary {
        edit = edit.arg("-g").arg(primary);
    }
    if let Some(groups) = desired.groups.as_ref().filter(|groups| !groups.is_empty()) {
        edit = edit.arg("-G").arg(comma(groups));
    }
    if let Some(home) = &desired.home {
        edit = edit.arg("-m").arg("-d").arg(home);
    }
    if let Some(shell) = &desired.shell {
        edit = edit.arg("-s").arg(shell);
    }
    edit.arg("--").arg(name)
}

/// Changes what is wrong, and nothing else.
pub(super) fn modification(name: &str, desired: &Desired, notes: &[Note]) -> Edit {
    let mut edit = Edit::new("usermod");
    for note in notes {
        edit = match note {
            Note::Missing | Note::Present => edit,
            Note::Uid { .. } => number(edit, desired),
            Note::Group { wanted, .. } => edit.arg("-g").arg(primary(desired).unwrap_or_else(|| wanted.clone())),
            Note::Groups { .. } => edit.arg("-G").arg(comma(desired.groups.iter().flatten())),
            Note::Home { wanted, .. } => edit.arg("-d").arg(wanted),
            Note::Shell { wanted, .. } => edit.arg("-s").arg(wanted),
        };
    }
    edit.arg("--").arg(name)
}

fn number(edit: Edit, desired: &Desired) -> Edit {
    match desired.uid {
        None => edit,
        Some(uid) if desired.shared_uid => edit.arg("-o").arg("-u").arg(uid.to_string()),
        Some(uid) => edit.arg("-u").arg(uid.to_string()),
    }
}

fn primary(desired: &Desired) -> Option<String> {
    desired.group.clone().or_else(|| desired.gid.map(|gid| gid.to_string()))
}

fn comma<'g>(groups: impl IntoIterator<Item = &'g String>) -> String {
    groups.into_iter().map(String::as_str).collect::<Vec<_>>().join(",")
}
