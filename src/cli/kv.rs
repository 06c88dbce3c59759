//! `mgmt kv`: keys that all hosts share.

mod pipe;

use std::io::{IsTerminal as _, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use mgmt_store::limits::VALUE_BYTES_MAX;
use serde_json::Value;

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::{Ask, Blob};
use crate::diagnostic::Escaped;

/// Older than this is worth a word.
const AGE_MS_FRESH: u64 = 1_500;

/// Runs one of its verbs.
///
/// # Errors
/// There is no agent or mesh to ask, it could not do it, or output cannot be written.
pub fn run(verb: &args::Kv, out: &mut dyn Write) -> Result<Exit, Failure> {
    match verb {
        args::Kv::Get(args) => get(args, out),
        args::Kv::Put(args) => put(args, out),
        args::Kv::Delete(args) => delete(args, out),
        args::Kv::List(args) => list(args, out),
        args::Kv::Watch(args) => watch(args, out),
        args::Kv::Pipe(args) => pipe::run(args),
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn latest(newness: args::Newness) -> Option<u64> {
    newness.latest.then(|| millis(newness.timeout))
}

fn get(args: &args::Get, out: &mut dyn Write) -> Result<Exit, Failure> {
    let asked = Ask::Get { key: args.key.clone(), latest_ms: latest(args.newness) };
    let found = find(&args.place)?.mesh(asked)?;
    say_age(&found);
    let value = value(&found);
    if args.json {
        print::json(&print::versioned(found), out)?;
    } else if let Some(bytes) = &value {
        let output = |e| Failure::output(&e);
        out.write_all(bytes).map_err(output)?;
        if std::io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
            out.write_all(b"\n").map_err(output)?;
        }
        out.flush().map_err(output)?;
    }
    match value {
        Some(_) => Ok(Exit::Done),
        None => Err(Failure::new(Exit::Failed, format!("there is no key {}", Escaped(&args.key)))),
    }
}

/// The bytes of an entry as it was answered.
fn value(entry: &Value) -> Option<Vec<u8>> {
    match (&entry["value"], &entry["value_hex"]) {
        (Value::String(text), _) => Some(text.clone().into_bytes()),
        (_, Value::String(digits)) => Blob::Hex(digits.clone()).bytes(),
        _ => None,
    }
}

/// A value in a line for people.
fn shown(entry: &Value) -> String {
    value(entry).map(|bytes| Escaped(&String::from_utf8_lossy(&bytes)).to_string()).unwrap_or_default()
}

/// What is read without a quorum may be old: that is said, and where it goes, it harms no data.
#[expect(clippy::print_stderr, reason = "said beside the data, not in the log")]
fn say_age(found: &Value) {
    let revision = &found["revision"];
    match found["age_ms"].as_u64() {
        Some(age) if age <= AGE_MS_FRESH => {}
        Some(age) => eprintln!(
            "mgmt: no leader is heard: this is as of revision {revision}, {:.1} s ago",
            Duration::from_millis(age).as_secs_f64()
        ),
        None => eprintln!("mgmt: no leader was heard yet: this is as of revision {revision}, from this host's disk"),
    }
}

fn put(args: &args::Put, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bytes = if args.value == "-" { from_stdin()? } else { args.value.as_bytes().to_vec() };
    let lease_s = args.lease.map(whole_seconds).transpose()?;
    let asked = Ask::Put { key: args.key.clone(), value: Blob::of(&bytes), lease_s, limit_ms: millis(args.timeout) };
    let done = find(&args.place)?.mesh(asked)?;
    done_with(args.json, done, out)
}

/// A time that is counted in seconds.
pub(super) fn whole_seconds(time: Duration) -> Result<u32, Failure> {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(seconds).map_err(|_| Failure::new(Exit::Usage, "that is too long"))
}

fn from_stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().take(limit).read_to_end(&mut bytes);
    read.map_err(|e| Failure::new(Exit::Disk, format!("cannot read standard input: {e}")))?;
    Ok(bytes)
}

/// Changes say nothing to people: that they were made is told by the exit code.
fn done_with(json: bool, done: Value, out: &mut dyn Write) -> Result<Exit, Failure> {
    if json {
        print::json(&print::versioned(done), out)?;
    }
    Ok(Exit::Done)
}

fn delete(args: &args::Delete, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (key, all) = match (&args.key, &args.starting_with) {
        (Some(key), _) => (key.clone(), false),
        (None, start) => (start.clone().unwrap_or_default(), true),
    };
    let asked = Ask::Delete { key: key.clone(), all, limit_ms: millis(args.timeout) };
    let done = find(&args.place)?.mesh(asked)?;
    let none = done["deleted"] == 0 && !all;
    done_with(args.json, done, out)?;
    if none {
        return Err(Failure::new(Exit::Failed, format!("there is no key {}", Escaped(&key))));
    }
    Ok(Exit::Done)
}

fn list(args: &args::List, out: &mut dyn Write) -> Result<Exit, Failure> {
    let asked = Ask::List { start: args.start.clone(), latest_ms: latest(args.newness), values: !args.keys };
    let mut talk = find(&args.place)?.converse(asked)?;
    let (mut keys, mut head) = (Vec::new(), None);
    while let Some(mut page) = talk.next()? {
        let entries = page["keys"].take();
        let head = head.get_or_insert(page);
        let Value::Array(entries) = entries else { continue };
        if args.json {
            keys.extend(entries);
            continue;
        }
        if keys.is_empty() {
            say_age(head);
            keys.push(Value::Null);
        }
        for entry in entries {
            let key = Escaped(entry["key"].as_str().unwrap_or_default()).to_string();
            let line = if args.keys { format!("{key}\n") } else { format!("{key} {}\n", shown(&entry)) };
            print::text(&line, out)?;
        }
    }
    if args.json {
        let mut whole = print::versioned(head.unwrap_or_default());
        whole["keys"] = keys.into();
        print::json(&whole, out)?;
    }
    Ok(Exit::Done)
}

fn watch(args: &args::Watch, out: &mut dyn Write) -> Result<Exit, Failure> {
    let after = args.from.map(|from| from.saturating_sub(1));
    let mut talk = find(&args.place)?.converse(Ask::Watch { start: args.start.clone(), after })?;
    while let Some(event) = talk.next()? {
        if args.json {
            let line = format!("{}\n", print::versioned(event));
            print::text(&line, out)?;
            continue;
        }
        let (revision, key) = (&event["revision"], Escaped(event["key"].as_str().unwrap_or_default()));
        match event["event"].as_str() {
            Some("put") => print::text(&format!("{revision} put {key} {}\n", shown(&event)), out)?,
            Some("delete") => print::text(&format!("{revision} delete {key}\n"), out)?,
            // How far it is: for programs.
            _ => {}
        }
    }
    Err(Failure::new(Exit::Unavailable, "the agent has ended"))
}
