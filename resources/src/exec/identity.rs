//! As whom a command runs. Another user's command goes through the program itself: a second copy of it changes its own
//! identity, while it has one thread, and then becomes the command. No code runs between fork and exec.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use mgmt_engine::resource::Fault;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::accounts::{Accounts, User};
use crate::host::HostRef;

/// The hidden first argument that [`become_and_exec`] answers to.
pub const VERB: &str = "__as";

/// As whom, and what its environment says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) home: String,
    pub(super) name: String,
    /// What has to change first; `None` if that is who we are.
    pub(super) switch: Option<Switch>,
}

/// The numbers to take on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switch {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// Looks up `user` and `group`; neither: ourselves.
    ///
    /// # Errors
    /// They do not exist, or we may not become them.
    pub(super) async fn find(user: Option<&str>, group: Option<&str>, host: &HostRef) -> Result<Self, Fault> {
        if user.is_none() && group.is_none() {
            let (name, home) = ourselves(&host.accounts).clone();
            return Ok(Self { home, name, switch: None });
        }
        let (user, group, host) = (user.map(str::to_owned), group.map(str::to_owned), host.clone());
        // A name that the account files lack is asked for with a child process.
        let found = tokio::task::spawn_blocking(move || look_up(user.as_deref(), group.as_deref(), &host.accounts));
        found.await.map_err(|error| Fault::new(format!("the look-up of a user broke: {error}")))?
    }
}

impl Switch {
    /// The arguments that make a copy of this program run `program` as somebody else.
    pub(super) fn arguments(&self) -> [String; 8] {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        [
            VERB.to_owned(),
            "--uid".to_owned(),
            self.uid.to_string(),
            "--gid".to_owned(),
            self.gid.to_string(),
            "--groups".to_owned(),
            groups.join(","),
            "--".to_owned(),
        ]
    }
}

fn look_up(user: Option<&str>, group: Option<&str>, accounts: &Accounts) -> Result<Identity, Fault> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let user = user.map(|user| accounts.user(user)).transpose()?;
    let group = group.map(|group| accounts.gid(group)).transpose()?;
    let wanted = Switch {
        uid: user.as_ref().map_or(uid, |user| user.uid),
        gid: group.or(user.as_ref().map(|user| user.gid)).unwrap_or(gid),
        groups: match &user {
            Some(user) => user.groups.clone(),
            None => our_groups()?,
        },
    };
    let switch = ((wanted.uid, wanted.gid) != (uid, gid)).then_some(wanted);
    if switch.is_some() && uid != 0 {
        return Err(Fault::new("running as another user or group needs root"));
    }
    let (name, home) = match user {
        Some(User { name, home, .. }) => (name, home.to_string_lossy().into_owned()),
        None => ourselves(accounts).clone(),
    };
    Ok(Identity { home, name, switch })
}

fn our_groups() -> Result<Vec<u32>, Fault> {
    let groups = getgroups().map_err(|error| Fault::new(format!("cannot read our own groups: {error}")))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Our own name and home, looked up once: from the account files, and only where they know nothing from the environment,
/// so that the same graph runs the same way from a shell and from a service.
fn ourselves(accounts: &Accounts) -> &'static (String, String) {
    static OURSELVES: OnceLock<(String, String)> = OnceLock::new();
    OURSELVES.get_or_init(|| {
        let uid = geteuid().as_raw();
        if let Ok(user) = accounts.user(&uid.to_string()) {
            return (user.name, user.home.to_string_lossy().into_owned());
        }
        let (name, home) = if uid == 0 { ("root".to_owned(), "/root") } else { (uid.to_string(), "/") };
        (std::env::var("USER").unwrap_or(name), std::env::var("HOME").unwrap_or_else(|_| home.to_owned()))
    })
}

/// Takes on an identity and becomes a program: what follows [`VERB`] on the command line. Returns only if that failed.
///
/// Has to be called while the process has one thread, before anything else.
pub fn become_and_exec(args: &[OsString]) -> Fault {
    match prepare(args) {
        Ok(mut command) => {
            let error = command.exec();
            Fault::new(format!("cannot run {}: {error}", command.get_program().display()))
        }
        Err(fault) => fault,
    }
}

fn prepare(args: &[OsString]) -> Result<Command, Fault> {
    let usage =
        || Fault::new(format!("{VERB} is for the program's own use: --uid N --gid N --groups N,… -- PROGRAM …"));
    let text = |at: usize| args.get(at).and_then(|arg| arg.to_str()).ok_or_else(usage);
    let number = |text: &str| text.parse::<u32>().map_err(|_| usage());
    if (text(0)?, text(2)?, text(4)?, text(6)?) != ("--uid", "--gid", "--groups", "--") {
        return Err(usage());
    }
    let (uid, gid) = (Uid::from_raw(number(text(1)?)?), Gid::from_raw(number(text(3)?)?));
    let groups: Result<Vec<Gid>, Fault> =
        text(5)?.split(',').filter(|group| !group.is_empty()).map(|group| number(group).map(Gid::from_raw)).collect();
    let (program, rest) = args[7..].split_first().ok_or_else(usage)?;
    // Groups first: without root there is no way back.
    set_thread_groups(&groups?).map_err(|error| Fault::new(format!("cannot set groups: {error}")))?;
    set_thread_res_gid(gid, gid, gid).map_err(|error| Fault::new(format!("cannot become group {gid:?}: {error}")))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| Fault::new(format!("cannot become user {uid:?}: {error}")))?;
    let mut command = Command::new(program);
    command.args(rest);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_changes_nothing() {
        for args in ["", "--uid 1", "--uid x --gid 1 --groups 1 -- true", "--uid 1 --gid 1 --groups 1 --"] {
            let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
            assert!(become_and_exec(&args).to_string().starts_with("__as is for the program's own use"));
        }
    }

    #[test]
    fn arguments_are_what_the_verb_reads() {
        let arguments = Switch { uid: 1, gid: 2, groups: vec![2, 3] }.arguments();
        assert_eq!(arguments.join(" "), "__as --uid 1 --gid 2 --groups 2,3 --");
    }
}
