//! Why the store did not do it, as a sentence that says what would help, and as an exit code.

use mgmt_store::outcome::{Denied, Refusal};
use mgmt_store::{CallError, Role};

use crate::cli::{Exit, Failure};

/// Who asked, and for what: the words of the sentence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The host with whose rights it was asked.
    pub(crate) host: &'a str,
    /// What its certificate says.
    pub(crate) role: Role,
    /// A key or prefix that was to be written, as people name it.
    pub(crate) key: Option<&'a str>,
}

/// The sentence and the exit code.
pub(crate) fn failure(error: CallError, asked: Asked<'_>) -> Failure {
    let Asked { host, role, key } = asked;
    let exit = match error {
        CallError::Refused(refusal) => match refusal {
            Refusal::NotAllowed(denied) => return Failure::new(Exit::NotAllowed, denial(denied, host, role, key)),
            Refusal::Malformed | Refusal::TooLarge(_) => Exit::Usage,
            Refusal::NotFound(_) | Refusal::Conflict(_) => Exit::Failed,
            Refusal::QuotaExceeded(_) | Refusal::Busy { .. } | Refusal::NoSpace => Exit::TryAgain,
        },
        CallError::Unavailable | CallError::Unknown => Exit::TryAgain,
        CallError::Stopped => Exit::Unavailable,
        CallError::Strange => Exit::Bug,
    };
    let hint = match error {
        CallError::Unavailable => "; there is no quorum now: see mgmt members",
        CallError::Unknown => "; look before it is done again",
        CallError::Stopped => "; see mgmt status",
        CallError::Refused(Refusal::NoSpace) => "; delete what is not needed any more",
        _ => "",
    };
    Failure::new(exit, format!("{error}{hint}"))
}

fn denial(denied: Denied, host: &str, role: Role, key: Option<&str>) -> String {
    let remedy = match (denied, key) {
        (Denied::Prefix, Some(key)) => {
            format!("ask an admin for: mgmt cluster allow {host} {}", super::cluster::quoted(key))
        }
        (Denied::Role | Denied::Prefix, _) => "it takes an admin: ask on a host whose role is admin".to_owned(),
        (Denied::Owner, _) => "that host, or an admin, may".to_owned(),
        (Denied::Member, _) => "this host was removed, or another peer has its name: see mgmt members".to_owned(),
        (Denied::Space, _) => "it is changed by verbs of its own".to_owned(),
    };
    format!("not allowed: {denied}, and {host} is {}; {remedy}", with_article(role))
}

fn with_article(role: Role) -> String {
    let article = if role == Role::Master { "a" } else { "an" };
    format!("{article} {role}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use mgmt_store::outcome::{Clash, Large, Missing, Quota};

    use super::*;

    #[test]
    fn every_refusal_is_a_sentence_with_an_exit_code() {
        let refused = |refusal| CallError::Refused(refusal);
        let errors = [
            refused(Refusal::NotAllowed(Denied::Prefix)),
            refused(Refusal::NotAllowed(Denied::Role)),
            refused(Refusal::NotAllowed(Denied::Owner)),
            refused(Refusal::NotAllowed(Denied::Member)),
            refused(Refusal::NotAllowed(Denied::Space)),
            refused(Refusal::Malformed),
            refused(Refusal::TooLarge(Large::Value)),
            refused(Refusal::NotFound(Missing::Peer)),
            refused(Refusal::Conflict(Clash::LastAdmin)),
            refused(Refusal::QuotaExceeded(Quota::Leases)),
            refused(Refusal::Busy { wait_ms: 7 }),
            refused(Refusal::NoSpace),
            CallError::Unavailable,
            CallError::Unknown,
            CallError::Stopped,
            CallError::Strange,
        ];
        let shown = |error| {
            let failure = failure(error, Asked { host: "web1", role: Role::Agent, key: Some("app/x y") });
            format!("{} {}\n", failure.exit as u8, failure.message)
        };
        expect![[r#"
            77 not allowed: no rule allows this host this key, and web1 is an agent; ask an admin for: mgmt cluster allow web1 'app/x y'
            77 not allowed: this role may not do that, and web1 is an agent; it takes an admin: ask on a host whose role is admin
            77 not allowed: it belongs to another host, and web1 is an agent; that host, or an admin, may
            77 not allowed: this peer is not in the registry, and web1 is an agent; this host was removed, or another peer has its name: see mgmt members
            77 not allowed: this part of the store is not written by key, and web1 is an agent; it is changed by verbs of its own
            64 the command makes no sense
            64 the value is too large
            1 no such host
            1 the last admin stays
            75 no more leases allowed
            75 too many proposals of this host; the next in 7 ms
            75 the store is full; delete what is not needed any more
            75 no leader could be reached; nothing was done; there is no quorum now: see mgmt members
            75 the outcome is unknown: it may have been done; look before it is done again
            69 this host's part of the group has stopped; nothing was done; see mgmt status
            70 the answer cannot be understood
        "#]]
        .assert_eq(&errors.map(shown).concat());
    }
}
