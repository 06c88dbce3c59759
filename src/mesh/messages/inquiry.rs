//! What members ask of each other about themselves, over the group's own connections, and what they answer. Only to be
//! read: whoever may be a member may ask, so nothing that is secret is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::join::Kind;
use super::{MessageError, VERSION, read_within, write_within};
use crate::events::{Page, Position};
use crate::mesh::standing::Standing;

/// A question.
pub const QUESTION_BYTES_MAX: usize = 4 << 10;
/// An answer: what the group lets through, so that a page of events in which every letter is escaped still fits.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What is asked. All kinds are objects, so that a newer version can add to each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inquiry {
    /// How is your host? → [`Answer::Status`]
    Status {},
    /// Are you converged, and as of which revision? → [`Answer::Standing`]
    Standing {},
    /// What has happened on your host? → [`Answer::Events`]
    Events(Since),
    /// What do you take of others' exports, and what not? → [`Answer::Collected`]
    Collected {},
    /// My run ends here, in order: do not wait for me. → [`Answer::Noted`]
    Farewell {},
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Since {
    /// Those after so many of this run; of another run than the present one: all of the present one.
    pub after: Option<Position>,
    /// Without that, the last so many.
    pub last: u32,
    /// If there are none, wait so long for one. It may be shorter: who asks many at once is answered at once.
    pub wait_ms: u32,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How this host is.
    Status(Box<HostStatus>),
    /// Whether it is converged.
    Standing(Standing),
    /// What has happened on it.
    Events(Page),
    /// What it collects.
    Collected(Collected),
    /// It is known now.
    Noted {},
    /// No.
    Refused {
        /// In words.
        why: String,
        /// For programs.
        kind: Kind,
    },
}

/// How a host is, in its own words. What a version does not tell, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStatus {
    /// The version of the program.
    pub version: String,
    /// When it was started.
    pub started: String,
    /// `master` or `learner`, as far as it knows.
    pub role: String,
    /// Whether it leads.
    pub leads: bool,
    /// The revision of the store up to which it has applied everything.
    pub revision: u64,
    /// The revision to which its graph corresponds.
    pub settled: u64,
    /// The name of its graph.
    pub graph: String,
    /// How many resources it has.
    pub vertices: u64,
    /// How many edges.
    pub edges: u64,
    /// Why the graph file as it is now is not what runs.
    pub graph_error: Option<String>,
    /// Whether it is converged.
    pub converged: bool,
    /// Since when, in RFC 3339.
    pub converged_since: Option<String>,
    /// Repairs since it was started.
    pub changes: u64,
    /// Failures, retried ones included.
    pub failures: u64,
    /// How many resources stand how.
    pub counts: BTreeMap<String, u64>,
    /// The first of those that are failed or contested.
    pub troubles: Vec<Trouble>,
    /// How many more there are of those.
    pub more_troubles: u64,
}

/// What a host takes of others' exports, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collected {
    /// What it takes, the first of it.
    pub taken: Vec<Row>,
    /// What it skips, the first of it.
    pub skipped: Vec<Row>,
    /// How many more there are of both.
    pub more: u64,
}

/// An export that a host takes or skips.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Who exports it.
    pub host: String,
    /// The kind of resource.
    pub kind: String,
    /// Its name there.
    pub name: String,
    /// What was left out of it, or why it is skipped.
    pub why: String,
}

/// A resource that is not as wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// Which.
    pub resource: String,
    /// How it stands.
    pub standing: String,
    /// What went wrong last.
    pub fault: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Sent {
    v: u32,
    inquiry: Inquiry,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    v: u32,
    answer: Answer,
}

/// What tells an inquiry from everything else that one member hands to another, in any version.
#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "inquiry")]
    _inquiry: IgnoredAny,
}

/// Whether a message is an inquiry, understood or not. A longer one than any inquiry is none.
#[must_use]
pub fn is_inquiry(message: &[u8]) -> bool {
    message.len() <= QUESTION_BYTES_MAX && serde_json::from_slice::<Outline>(message).is_ok()
}

impl Inquiry {
    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    pub fn write(self) -> Result<Bytes, MessageError> {
        write_within(&Sent { v: VERSION, inquiry: self }, QUESTION_BYTES_MAX)
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read_within::<Sent>(bytes, QUESTION_BYTES_MAX).map(|sent| sent.inquiry)
    }
}

impl Answer {
    /// No, and why.
    #[must_use]
    pub fn refused(kind: Kind, why: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), kind }
    }

    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    pub fn write(self) -> Result<Bytes, MessageError> {
        write_within(&Answered { v: VERSION, answer: self }, ANSWER_BYTES_MAX)
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`]: also what a program says that is older than inquiries.
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read_within::<Answered>(bytes, ANSWER_BYTES_MAX).map(|answered| answered.answer)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::hand::{Hand, Handed};
    use super::*;

    #[test]
    fn inquiries_are_told_from_what_is_handed_over() {
        let position = Position { run: 7, seen: 9 };
        let events = Inquiry::Events(Since { after: Some(position), last: 3, wait_ms: 5000 });
        let mut said = Vec::new();
        for inquiry in [Inquiry::Status {}, Inquiry::Standing {}, events, Inquiry::Farewell {}] {
            let bytes = inquiry.clone().write().unwrap();
            assert!(is_inquiry(&bytes));
            assert_eq!(Inquiry::read(&bytes), Ok(inquiry));
            said.push(String::from_utf8(bytes.to_vec()).unwrap());
        }
        expect![[r#"
            {"v":1,"inquiry":{"status":{}}}
            {"v":1,"inquiry":{"standing":{}}}
            {"v":1,"inquiry":{"events":{"after":{"run":7,"seen":9},"last":3,"wait_ms":5000}}}
            {"v":1,"inquiry":{"farewell":{}}}"#]]
        .assert_eq(&said.join("\n"));
        assert!(is_inquiry(br#"{"v":2,"inquiry":{"horoscope":[1]}}"#), "of a version to come");
        assert!(!is_inquiry(&Hand::Fetch.write().unwrap()));
        for other in [&b""[..], b"{}", b"[]", b"{\"inquiry\"", b"\xff"] {
            assert!(!is_inquiry(other), "{other:?}");
        }
        assert!(!is_inquiry(format!("{{\"v\":1,\"inquiry\":\"{}\"}}", "x".repeat(QUESTION_BYTES_MAX)).as_bytes()));
    }

    #[test]
    fn what_older_and_newer_programs_say_is_not_misunderstood() {
        assert!(Inquiry::read(br#"{"v":1,"inquiry":{"status":{"more":1}}}"#).is_ok(), "a newer one asks for more");
        assert!(Inquiry::read(br#"{"v":1,"inquiry":{"horoscope":{}}}"#).is_err());
        // What a program answers that takes every message for something that is handed over.
        let old = Handed::refused(Kind::Malformed, "missing field `hand`").write().unwrap();
        assert!(Answer::read(&old).is_err());
        let newer = br#"{"v":1,"answer":{"status":{"version":"9","horoscope":"good","troubles":[{"resource":"a"}]}}}"#;
        let Answer::Status(status) = Answer::read(newer).unwrap() else { panic!("it is a status") };
        assert_eq!((status.version.as_str(), status.troubles[0].resource.as_str()), ("9", "a"));
        assert!(!status.converged, "what is not told is not claimed");
    }
}
