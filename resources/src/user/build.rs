//! The table entry of `user`, and its parameters turned into what is wanted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Desired, User, Want};
use crate::accounts::editing;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, normal};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "user",
    summary: "a user, with its number, groups, home directory and shell",
    notes: "\
The name of the resource is the name of the user. What is not given is not managed: a new user gets what the \
distribution's defaults say, an existing one keeps what it has. Passwords are not managed.

The changes are made by useradd, usermod and userdel, all that is wrong by one run, which lock the account files; who else \
holds that lock is awaited for a minute. A new user gets its home directory made if homedir is given, and otherwise if the \
distribution's defaults say so; after that it is a directory like any other. A new homedir of an existing user is written \
down, and nothing is moved. A new uid takes the files in the home directory with it, and no others.

A user that is removed leaves its home directory behind. One that is logged in or runs something is neither removed nor \
given another uid or homedir: that is a failure with the remedy, and tried again. A user of a directory service (found only \
by getent) counts as existing and is never changed; absent is about this machine's own files. The user root is never \
removed.

Watches /etc/passwd and /etc/group. A refresh does nothing.",
    example: "\
resources:
  group:
  - name: web
  user:
  - name: deploy
    uid: 3000
    group: web
    groups: [adm]
    homedir: /srv/deploy
    shell: /bin/sh
    state: exists
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field("state", Shape::Choice(&["exists", "absent"]), "exists", "Whether it shall exist."),
    field("uid", Shape::Count, "kept; a new user gets the next one", "Its number."),
    field(
        "group",
        Shape::Text,
        "kept; a new user gets the group of its name, or as the distribution has it",
        "Its primary group, by name or number.",
    ),
    field("gid", Shape::Count, "", "Its primary group by number; another way to give group."),
    field(
        "groups",
        Shape::Texts,
        "kept",
        "Its other groups, by name or number: exactly these. An empty list: none. They have to be in /etc/group.",
    ),
    field(
        "homedir",
        Shape::Path,
        "kept; a new user gets what the distribution says",
        "Its home directory. Made for a new user, filled from /etc/skel.",
    ),
    field("shell", Shape::Path, "kept; a new user gets what the distribution says", "Its login shell."),
    field("allowduplicateuid", Shape::Bool, "false", "The uid may belong to another user as well."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

pub(super) fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let name = context.called.to_owned();
    let absent = params.text("state").as_deref() == Some("absent");
    let desired = desired(params, &mut problems);
    if let Some(why) = editing::wrong_name(&name) {
        problems.push(Problem::new("", format!("the name of the resource is the user's, and {why}")));
    }
    if absent && name == "root" {
        problems.push(Problem::new("state", "the user root is never removed"));
    }
    if desired.shared_uid && desired.uid.is_none() {
        problems.push(Problem::new("allowduplicateuid", "is about uid, which is not given"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let facets = facets(&name, absent, &desired);
    let want = if absent { Want::Absent } else { Want::Exists(desired) };
    let resource = User { name, want, host: HostRef(Arc::clone(context.host)) };
    Ok(Built { resource: Arc::new(resource), facets, warnings: Vec::new() })
}

fn desired(params: &mut Params, problems: &mut Vec<Problem>) -> Desired {
    let uid = editing::number(params, "uid", problems);
    let gid = editing::number(params, "gid", problems);
    let group = params.filled("group").filter(|group| is_group("group", group, problems));
    if let (Some(gid), Some(group)) = (gid, group.as_ref().and_then(|group| group.parse::<u64>().ok()))
        && group != u64::from(gid)
    {
        problems.push(Problem::new("gid", format!("is not the number that group says ({group}): give one of them")));
    }
    let groups = params.has("groups").then(|| params.texts("groups").into_iter().collect::<BTreeSet<_>>());
    let groups = groups.map(|mut groups| {
        groups.retain(|group| is_group("groups", group, problems));
        groups
    });
    let home = path(params, "homedir", problems);
    let shell = path(params, "shell", problems);
    let shared_uid = params.bool("allowduplicateuid").unwrap_or(false);
    Desired { uid, shared_uid, group, gid, groups, home, shell }
}

/// A group's name or number.
fn is_group(field: &'static str, group: &str, problems: &mut Vec<Problem>) -> bool {
    let digits = !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = match (digits, group.parse::<u32>()) {
        (true, Ok(number)) if number != u32::MAX => None,
        (true, _) => Some(format!("{group} is no number of a group")),
        (false, _) => editing::wrong_name(group).map(|why| format!("a group's name {why}")),
    };
    let good = wrong.is_none();
    problems.extend(wrong.map(|why| Problem::new(field, why)));
    good
}

/// A path in the one spelling that the account file gets.
fn path(params: &mut Params, field: &'static str, problems: &mut Vec<Problem>) -> Option<PathBuf> {
    let text = params.filled(field)?;
    if !text.starts_with('/') || text.contains([':', '\n', '\0']) {
        problems
            .push(Problem::new(field, format!("{} has to be an absolute path without a colon", text.escape_debug())));
    }
    Some(normal(text.as_ref()))
}

/// Its groups come first, and so does what its home is made in. Where it goes, it leaves them first.
fn facets(name: &str, absent: bool, desired: &Desired) -> Facets {
    let claims = Some(format!("the user {name}"));
    let primary = desired.group.clone().or_else(|| desired.gid.map(|gid| gid.to_string()));
    // Without one of its own choice it gets, or is removed with, the group of its name.
    let primary = primary.unwrap_or_else(|| name.to_owned());
    let groups: BTreeSet<String> = std::iter::once(primary).chain(desired.groups.iter().flatten().cloned()).collect();
    if absent {
        let left = groups.into_iter().chain(std::iter::once(name.to_owned())).collect::<BTreeSet<_>>();
        return Facets { provides: left.into_iter().map(Anchor::Leaves).collect(), claims, ..Facets::default() };
    }
    let names = std::iter::once(name.to_owned()).chain(desired.uid.map(|uid| uid.to_string()));
    let mut provides: Vec<Anchor> = names.map(Anchor::User).collect();
    let mut wants: Vec<Anchor> = groups.into_iter().map(Anchor::Group).collect();
    if let Some(home) = &desired.home {
        provides.push(Anchor::Path(home.clone()));
        wants.push(Anchor::Parent(home.clone()));
        wants.push(Anchor::Shipped(home.clone()));
    }
    if let Some(shell) = &desired.shell {
        wants.push(Anchor::Path(shell.clone()));
        wants.push(Anchor::Shipped(shell.clone()));
    }
    Facets { provides, wants, claims, ..Facets::default() }
}
