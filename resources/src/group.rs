//! `group`: a group of the machine's own account files, with its number, or its absence.
//!
//! Must not know who its members are: that is said of users.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mgmt_engine::resource::{self, Applied, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};

use crate::accounts::editing::{self, Edit};
use crate::aside::aside;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "group",
    summary: "a group of users, with its number",
    notes: "\
The name of the resource is the name of the group. It is made, changed and removed by groupadd, groupmod and groupdel, \
which lock the account files; who else holds that lock is awaited for a minute. Its members are told by user resources.

A number that another group has is a failure. Files keep the number of their group when it changes. A group that is the \
primary one of some user is not removed. A group of a directory service (found only by getent) counts as existing and is \
never changed; absent is about this machine's own files. The group root is never removed.

Watches /etc/group and /etc/passwd. A refresh does nothing.",
    example: "\
resources:
  group:
  - name: web
    gid: 2000
    state: exists
  user:
  - name: deploy
    groups: [web]
",
    fields: &[
        Field {
            name: "state",
            shape: Shape::Choice(&["exists", "absent"]),
            default: "exists",
            doc: "Whether it shall exist.",
        },
        Field {
            name: "gid",
            shape: Shape::Count,
            default: "kept; a new group gets the next one",
            doc: "Its number. With absent, ignored.",
        },
    ],
    build,
};

#[derive(Debug, PartialEq)]
struct Group {
    name: String,
    want: Want,
    host: HostRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Exists { gid: Option<u32> },
    Absent,
}

/// What is wrong, and the run that puts it right.
#[derive(Debug, PartialEq, Eq)]
struct Drift {
    wrong: Wrong,
    edit: Edit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Missing,
    Present,
    Number { is: u32, wanted: u32 },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wrong {
            Wrong::Missing => write!(f, "missing"),
            Wrong::Present => write!(f, "exists, wanted absent"),
            Wrong::Number { is, wanted } => write!(f, "gid is {is}, wanted {wanted}"),
        }
    }
}

impl resource::Drift for Drift {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        editing::promises()
    }
}

impl Resource for Group {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        self.host.accounts.watch(&self.host.watches, signal)
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let standing = self.host.accounts.local_group(&self.name)?;
        let wrong = match (self.want, standing) {
            (Want::Exists { gid }, None) => match self.remote().await? {
                None => Wrong::Missing,
                Some(is) if gid.is_none_or(|wanted| wanted == is) => return Ok(Check::Converged),
                Some(is) => {
                    let why = format!("it comes from a directory service with gid {is}, and is not changed here");
                    return Err(Fault::new(why));
                }
            },
            (Want::Exists { gid: Some(wanted) }, Some(is)) if is != wanted => Wrong::Number { is, wanted },
            (Want::Absent, Some(_)) => Wrong::Present,
            _ => return Ok(Check::Converged),
        };
        if let Err(fault) = self.free(wrong, standing) {
            return editing::failed(look, fault);
        }
        let edit = self.edit(wrong);
        edit.possible()?;
        self.host.accounts.untried(&edit)?;
        Ok(Check::Drifted(Drift { wrong, edit }))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let accounts = &self.host.accounts;
        let said = accounts.edit(&drift.edit, &work.stop).await.and_then(|said| said.good(drift.edit.program()));
        let said = accounts.tried(&drift.edit, said)?;
        tracing::debug!("group {}: {}", self.name, said.last_words());
        Ok(Applied::changed(match drift.wrong {
            Wrong::Present => "removed".to_owned(),
            Wrong::Number { wanted, .. } => format!("gid set to {wanted}"),
            Wrong::Missing => match self.host.accounts.local_group(&self.name)? {
                Some(gid) => format!("created, gid {gid}"),
                None => return Err(Fault::new("it was made, but somebody else has removed it again")),
            },
        }))
    }
}

impl Group {
    async fn remote(&self) -> Result<Option<u32>, Fault> {
        let (host, name) = (self.host.clone(), self.name.clone());
        aside(move || host.accounts.remote_group(&name)).await?
    }

    /// Whether nobody is in the way: with the wanted number, or with this group as its primary one.
    fn free(&self, wrong: Wrong, standing: Option<u32>) -> Result<(), Fault> {
        let accounts = &self.host.accounts;
        let wanted = match (wrong, self.want, standing) {
            (Wrong::Present, _, Some(gid)) => {
                return match accounts.local_user_in(gid)? {
                    Some(user) => Err(Fault::new(format!("it is the primary group of user {user}, and stays"))),
                    None => Ok(()),
                };
            }
            (_, Want::Exists { gid: Some(gid) }, _) => gid,
            _ => return Ok(()),
        };
        match accounts.group_name(wanted) {
            Some(other) => Err(Fault::new(format!("gid {wanted} belongs to group {other}"))),
            None => Ok(()),
        }
    }

    fn edit(&self, wrong: Wrong) -> Edit {
        let edit = match (wrong, self.want) {
            (Wrong::Present, _) => Edit::new("groupdel"),
            (Wrong::Number { wanted, .. }, _) => Edit::new("groupmod").arg("-g").arg(wanted.to_string()),
            (Wrong::Missing, Want::Exists { gid: Some(gid) }) => Edit::new("groupadd").arg("-g").arg(gid.to_string()),
            (Wrong::Missing, _) => Edit::new("groupadd"),
        };
        edit.arg("--").arg(&self.name)
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let absent = params.text("state").as_deref() == Some("absent");
    let gid = editing::number(params, "gid", &mut problems);
    if let Some(why) = editing::wrong_name(context.called) {
        problems.push(Problem::new("", format!("the name of the resource is the group's, and {why}")));
    }
    if absent && context.called == "root" {
        problems.push(Problem::new("state", "the group root is never removed"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let name = context.called.to_owned();
    let claims = Some(format!("the group {name}"));
    let facets = match absent {
        true => Facets { wants: vec![Anchor::Leaves(name.clone())], claims, ..Facets::default() },
        false => {
            let names = std::iter::once(name.clone()).chain(gid.map(|gid| gid.to_string()));
            Facets { provides: names.map(Anchor::Group).collect(), claims, ..Facets::default() }
        }
    };
    let want = if absent { Want::Absent } else { Want::Exists { gid } };
    let resource = Group { name, want, host: HostRef(Arc::clone(context.host)) };
    Ok(Built { resource: Arc::new(resource), facets, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Host;
    use crate::kind::Value;
    use crate::watches::Watches;

    fn built(name: &str, pairs: &[(&'static str, Value)]) -> Result<Built, Vec<Problem>> {
        let mut params = Params::default();
        pairs.iter().for_each(|(field, value)| params.set(field, value.clone()));
        let host = Arc::new(Host::with(Watches::shared()));
        build(&mut params, &Context::of(&host, name))
    }

    #[test]
    fn users_come_after_it_and_leave_it_first() {
        let facets = built("web", &[("gid", Value::Count(7))]).unwrap().facets;
        assert_eq!(facets.provides, ["web", "7"].map(|name| Anchor::Group(name.to_owned())));
        let facets = built("web", &[("state", Value::Text("absent".to_owned()))]).unwrap().facets;
        assert_eq!((facets.provides, facets.wants), (vec![], vec![Anchor::Leaves("web".to_owned())]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |name, pairs: &[_]| built(name, pairs).unwrap_err().remove(0).message;
        assert_eq!(refused("root", &[("state", Value::Text("absent".to_owned()))]), "the group root is never removed");
        assert_eq!(refused("a", &[("gid", Value::Count(1 << 32))]), "has to be less than 4294967295");
        assert!(refused("12", &[]).ends_with("has digits only, and would be taken for a number"));
    }

    #[test]
    fn one_run_puts_it_right() {
        let group = |want| Group { name: "web".into(), want, host: HostRef(Arc::new(Host::with(Watches::shared()))) };
        let with = group(Want::Exists { gid: Some(7) });
        let run = |program, words: &[&str]| words.iter().fold(Edit::new(program), |edit, word| edit.arg(word));
        assert_eq!(with.edit(Wrong::Missing), run("groupadd", &["-g", "7", "--", "web"]));
        assert_eq!(with.edit(Wrong::Number { is: 8, wanted: 7 }), run("groupmod", &["-g", "7", "--", "web"]));
        assert_eq!(group(Want::Exists { gid: None }).edit(Wrong::Missing), run("groupadd", &["--", "web"]));
        assert_eq!(group(Want::Absent).edit(Wrong::Present), run("groupdel", &["--", "web"]));
    }
}
