//! As whom a command runs, and what else it is given before its first instruction. Where that is anything but what we are,
//! the command goes through the program itself: a second copy of it changes what it is, while it has one thread, and then
//! becomes the command. No code runs between fork and exec.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use mgmt_engine::resource::Fault;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups, setpriority_process};
use rustix::stdio::dup2_stdin;
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

/// What a copy of this program does before it becomes a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Waits until a byte comes on its input, which is nothing from then on; ends if there comes none.
    pub(super) hold: bool,
    pub(super) nice: Option<i32>,
    pub(super) oom_score: Option<i32>,
    pub(super) switch: Option<Switch>,
}

impl Before {
    /// There is nothing to do: the command can be started as it is.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The arguments that make a copy of this program do this, and then become the program that follows them.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut all = vec![VERB.to_owned()];
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        if self.hold {
            option("--hold", "0".to_owned());
        }
        if let Some(nice) = self.nice {
            option("--nice", nice.to_string());
        }
        if let Some(score) = self.oom_score {
            option("--oom-score", score.to_string());
        }
        if let Some(Switch { uid, gid, groups }) = &self.switch {
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            option("--uid", uid.to_string());
            option("--gid", gid.to_string());
            option("--groups", groups.join(","));
        }
        all.push("--".to_owned());
        all
    }

    /// Reads arguments, and what follows them.
    fn parse(args: &[OsString]) -> Option<(Self, &[OsString])> {
        let (mut before, mut rest) = (Self::default(), args);
        let (mut uid, mut gid, mut groups) = (None, None, None);
        loop {
            let (name, after) = rest.split_first()?;
            if name == "--" {
                before.switch = match (uid, gid, groups) {
                    (None, None, None) => None,
                    (Some(uid), Some(gid), Some(groups)) => Some(Switch { uid, gid, groups }),
                    _ => return None,
                };
                return Some((before, after));
            }
            let (value, after) = after.split_first()?;
            let value = value.to_str()?;
            match name.to_str()? {
                "--hold" => before.hold = true,
                "--nice" => before.nice = Some(value.parse().ok()?),
                "--oom-score" => before.oom_score = Some(value.parse().ok()?),
                "--uid" => uid = Some(value.parse().ok()?),
                "--gid" => gid = Some(value.parse().ok()?),
                "--groups" => {
                    let numbers = value.split(',').filter(|group| !group.is_empty()).map(str::parse);
                    groups = Some(numbers.collect::<Result<Vec<u32>, _>>().ok()?);
                }
                _ => return None,
            }
            rest = after;
        }
    }

    /// Does it.
    fn carry_out(&self) -> Result<(), Fault> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Fault::new(format!("cannot {what}: {error}"));
        if self.hold {
            held().map_err(|error| failed("be let go", &error))?;
        }
        if let Some(score) = self.oom_score {
            std::fs::write("/proc/self/oom_score_adj", score.to_string())
                .map_err(|error| failed("set OOMScoreAdjust", &error))?;
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice).map_err(|error| failed("set Nice", &error))?;
        }
        let Some(Switch { uid, gid, groups }) = &self.switch else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        // Groups first: without root there is no way back.
        set_thread_groups(&groups).map_err(|error| failed("set groups", &error))?;
        set_thread_res_gid(gid, gid, gid).map_err(|error| failed(&format!("become group {gid:?}"), &error))?;
        set_thread_res_uid(uid, uid, uid).map_err(|error| failed(&format!("become user {uid:?}"), &error))
    }
}

/// Waits to be let go, and gives the input back that a command has otherwise.
fn held() -> io::Result<()> {
    io::stdin().read_exact(&mut [0])?;
    let nothing = match std::fs::File::open("/dev/null") {
        Ok(null) => OwnedFd::from(null),
        // In a root without devices.
        Err(_) => io::pipe()?.0.into(),
    };
    Ok(dup2_stdin(nothing)?)
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
    let usage = || {
        let how = "[--hold 0] [--nice N] [--oom-score N] [--uid N --gid N --groups N,…] -- PROGRAM …";
        Fault::new(format!("{VERB} is for the program's own use: {how}"))
    };
    let (before, rest) = Before::parse(args).ok_or_else(usage)?;
    let (program, rest) = rest.split_first().ok_or_else(usage)?;
    before.carry_out()?;
    let mut command = Command::new(program);
    command.args(rest);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_changes_nothing() {
        for args in [
            "",
            "--uid 1",
            "--uid x --gid 1 --groups 1 -- true",
            "--uid 1 --gid 1 --groups 1 --",
            "--uid 1 -- true",
            "--nice much -- true",
            "--what 1 -- true",
        ] {
            let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
            assert!(become_and_exec(&args).to_string().starts_with("__as is for the program's own use"));
        }
    }

    #[test]
    fn arguments_are_what_the_verb_reads() {
        let switch = Some(Switch { uid: 1, gid: 2, groups: vec![2, 3] });
        let before = Before { switch, ..Before::default() };
        assert_eq!(before.arguments().join(" "), "__as --uid 1 --gid 2 --groups 2,3 --");
        for before in [before, Before { hold: true, nice: Some(-3), oom_score: Some(7), switch: None }] {
            let arguments: Vec<OsString> =
                before.arguments().iter().skip(1).chain([&"x".into()]).map(Into::into).collect();
            assert_eq!(Before::parse(&arguments), Some((before, &[OsString::from("x")][..])));
        }
    }
}
