//! `msg`: sends a message to the log once, and again on each refresh.

mod journal;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mgmt_engine::resource::{Applied, Cause, Check, Drift, Fault, Look, Promise, Resource, Work};

use self::journal::Message;
use crate::kind::{Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};

/// The longest body. A datagram of the usual size takes it whole.
const BODY_BYTES_MAX: usize = 48 * 1024;

/// By number, as syslog has them.
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "msg",
    summary: "sends a message to the journal or syslog",
    notes: "\
Sends its message once after the start of the program, or after a new graph brought it, and again on each refresh (a \
notify edge whose source changed). Where no journal runs the message goes to the log of mgmt itself. Nothing is watched.",
    example: "\
resources:
  file:
  - name: motd
    path: /etc/motd
    content: hello
    notify: [\"msg[changed]\"]
  msg:
  - name: changed
    body: the message of the day was changed
    priority: info
",
    fields: &[
        Field { name: "body", shape: Shape::Text, default: "the name", doc: "The message, at most 48 KiB." },
        Field {
            name: "priority",
            shape: Shape::Text,
            default: "notice",
            doc: "emerg, alert, crit, err, warning, notice, info, debug, or their number from 0 to 7.",
        },
        Field {
            name: "fields",
            shape: Shape::Map,
            default: "",
            doc: "More fields for the journal. Their names have capitals, digits and underscores, and start with no \
                  underscore.",
        },
        Field { name: "journal", shape: Shape::Bool, default: "true", doc: "Send it to the journal." },
        Field { name: "syslog", shape: Shape::Bool, default: "false", doc: "Send it to syslog (/dev/log)." },
    ],
    build,
};

#[derive(Debug, PartialEq)]
struct Msg {
    name: String,
    body: String,
    priority: u8,
    fields: BTreeMap<String, String>,
    journal: bool,
    syslog: bool,
    sensitive: bool,
    sockets: Sockets,
    sent: Sent,
}

/// Where the daemons listen.
#[derive(Debug, PartialEq, Eq)]
struct Sockets {
    journal: PathBuf,
    syslog: PathBuf,
}

/// Whether it has been sent in this life. Always equal: it is no parameter.
#[derive(Debug, Default)]
struct Sent(AtomicBool);

impl PartialEq for Sent {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The message has not been sent.
#[derive(Debug, PartialEq, Eq)]
struct Unsent;

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("has not been sent")
    }
}

impl Drift for Unsent {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        Vec::new()
    }
}

impl Resource for Msg {
    type Drift = Unsent;

    async fn check(&self, look: &Look) -> Result<Check<Unsent>, Fault> {
        let fresh = matches!(look.cause, Cause::First | Cause::Reload);
        Ok(if fresh && !self.sent.0.load(Ordering::Relaxed) { Check::Drifted(Unsent) } else { Check::Converged })
    }

    async fn apply(&self, _: Unsent, _: &Work) -> Result<Applied, Fault> {
        self.send().await
    }

    fn on_refresh(&self) -> Option<&'static str> {
        Some("would be sent again")
    }

    async fn refresh(&self, _: &Work) -> Result<Applied, Fault> {
        self.send().await
    }
}

impl Msg {
    async fn send(&self) -> Result<Applied, Fault> {
        let message = Message { name: &self.name, body: &self.body, priority: self.priority, fields: &self.fields };
        if self.syslog {
            let sent = journal::syslog(&self.sockets.syslog, &message).await;
            sent.map_err(|error| Fault::path("send to", &self.sockets.syslog, error))?;
        }
        let journaled = self.journal && self.to_journal(&message).await?;
        if !journaled && (self.journal || !self.syslog) {
            self.to_log();
        }
        self.sent.0.store(true, Ordering::Relaxed);
        Ok(Applied::Changed { deed: "sent".into(), refreshed: true })
    }

    /// Whether a journal took it; there need not be one.
    async fn to_journal(&self, message: &Message<'_>) -> Result<bool, Fault> {
        match journal::journal(&self.sockets.journal, message).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(false)
            }
            Err(error) => Err(Fault::path("send to", &self.sockets.journal, error)),
        }
    }

    fn to_log(&self) {
        let id = format!("msg[{}]", self.name);
        let body = if self.sensitive { "(hidden)".to_owned() } else { journal::one_line(&self.body) };
        match self.priority {
            0..=3 => tracing::error!(target: "msg", id, "{body}"),
            4 => tracing::warn!(target: "msg", id, "{body}"),
            5..=6 => tracing::info!(target: "msg", id, "{body}"),
            _ => tracing::debug!(target: "msg", id, "{body}"),
        }
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let body = params.text("body").unwrap_or_else(|| context.called.to_owned());
    if body.len() > BODY_BYTES_MAX {
        problems.push(Problem::new("body", format!("has {} bytes, and may have {BODY_BYTES_MAX}", body.len())));
    }
    let priority = params.filled("priority").unwrap_or_else(|| "notice".to_owned());
    let number = priority_number(&priority);
    if number.is_none() {
        let known = PRIORITIES.join(", ");
        problems.push(Problem::new("priority", format!("'{priority}' is none of {known}, or 0 to 7")));
    }
    let fields = params.map("fields");
    for key in fields.keys().filter(|key| !is_field(key)) {
        let rule = "needs capitals, digits and underscores, and may not start with an underscore";
        problems.push(Problem::new("fields", format!("'{key}' {rule}")));
    }
    let (journal, syslog) = (params.bool("journal").unwrap_or(true), params.bool("syslog").unwrap_or(false));
    let Some(priority) = number.filter(|_| problems.is_empty()) else { return Err(problems) };
    let sockets = Sockets { journal: "/run/systemd/journal/socket".into(), syslog: "/dev/log".into() };
    let name = context.name.to_owned();
    let resource = Msg {
        name,
        body,
        priority,
        fields,
        journal,
        syslog,
        sensitive: context.sensitive,
        sockets,
        sent: Sent::default(),
    };
    Ok(Built { resource: Arc::new(resource), facets: Facets::default(), warnings: Vec::new() })
}

/// Old files write them with a capital, and some write the words in full.
fn priority_number(text: &str) -> Option<u8> {
    let text = text.to_ascii_lowercase();
    let text = match text.as_str() {
        "emergency" | "panic" => "emerg",
        "critical" => "crit",
        "error" => "err",
        "warn" => "warning",
        other => other,
    };
    (0..8).zip(PRIORITIES).find(|(number, name)| *name == text || number.to_string() == text).map(|(number, _)| number)
}

/// journald drops fields that are named otherwise.
fn is_field(key: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !key.is_empty() && key.len() <= 64 && !key.starts_with('_') && key.bytes().all(good)
}

#[cfg(test)]
mod tests;
