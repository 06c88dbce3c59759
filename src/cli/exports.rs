//! `mgmt exports`: who exports what, who collects it, and what is skipped and why.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;

use serde_json::Value;

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::Ask;
use crate::diagnostic::Escaped;

/// Runs it.
///
/// # Errors
/// There is no agent or mesh to ask, or it refuses, or output cannot be written.
pub fn run(args: &args::Exports, out: &mut dyn Write) -> Result<Exit, Failure> {
    let agent = find(&args.place)?;
    let forgets = args.forget.as_deref();
    let told = match forgets {
        Some(host) => agent.mesh(Ask::Forget { host: host.to_owned() })?,
        None => agent.mesh(Ask::Exports)?,
    };
    if args.json {
        print::json(&print::versioned(told), out)?;
    } else if let Some(host) = forgets {
        let count = &told["forgotten"];
        print::text(&format!("{count} exports of {} withdrawn\n", Escaped(host)), out)?;
    } else {
        print::text(&text(&told), out)?;
    }
    Ok(Exit::Done)
}

fn text(told: &Value) -> String {
    let word = |value: &Value| Escaped(value.as_str().unwrap_or("-")).to_string();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let hosts = |by: &Value| {
        let hosts: BTreeSet<_> = list(by).iter().map(|by| word(&by["host"])).collect();
        if hosts.is_empty() { "-".to_owned() } else { hosts.into_iter().collect::<Vec<_>>().join(" ") }
    };
    let mut rows = vec![["host", "resource", "bytes", "revision", "collected by"].map(str::to_owned).to_vec()];
    let mut notes = String::new();
    // Writing to a string does not fail.
    let mut note = |text: std::fmt::Arguments<'_>| _ = notes.write_fmt(text);
    for export in list(&told["exports"]) {
        let resource = format!("{}[{}]", word(&export["kind"]), word(&export["name"]));
        let host = word(&export["host"]);
        for by in list(&export["skipped"]) {
            note(format_args!("{} skips {resource} of {host}: {}\n", word(&by["host"]), word(&by["why"])));
        }
        for by in list(&export["collected"]).iter().filter(|by| by["why"].is_string()) {
            note(format_args!(
                "{} takes {resource} of {host} without all of it: {}\n",
                word(&by["host"]),
                word(&by["why"])
            ));
        }
        let (bytes, revision) = (export["bytes"].to_string(), export["revision"].to_string());
        rows.push(vec![host, resource, bytes, revision, hosts(&export["collected"])]);
    }
    for export in list(&told["not_in_the_store"]) {
        let resource = format!("{}[{}]", word(&export["kind"]), word(&export["name"]));
        rows.push(vec![word(&export["host"]), resource, "-".into(), "-".into(), hosts(&export["collected"])]);
    }
    for silent in list(&told["silent"]) {
        note(format_args!("{} does not say what it collects: {}\n", word(&silent["host"]), word(&silent["why"])));
    }
    if told["more"].as_u64().is_some_and(|more| more > 0) {
        note(format_args!("and {} more that were collected or skipped\n", told["more"]));
    }
    if rows.len() == 1 { format!("Nobody exports anything.\n{notes}") } else { print::table(&rows) + &notes }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn exports_are_a_table_with_notes() {
        let told = json!({
            "exports": [
                {"host": "a", "kind": "file", "name": "motd", "bytes": 70, "revision": 9,
                    "collected": [{"host": "b", "why": null}, {"host": "a", "why": "owner is not allowed"}], "skipped": []},
                {"host": "b", "kind": "exec", "name": "x", "bytes": 30, "revision": 12, "collected": [],
                    "skipped": [{"host": "a", "why": "no"}]},
            ],
            "not_in_the_store": [{"host": "lost", "kind": "file", "name": "old", "collected": [{"host": "a", "why": null}]}],
            "silent": [{"host": "c", "why": "gone"}],
            "more": 3,
        });
        expect![[r#"
            HOST  RESOURCE    BYTES  REVISION  COLLECTED BY
            a     file[motd]  70     9         a b
            b     exec[x]     30     12        -
            lost  file[old]   -      -         a
            a takes file[motd] of a without all of it: owner is not allowed
            a skips exec[x] of b: no
            c does not say what it collects: gone
            and 3 more that were collected or skipped
        "#]]
        .assert_eq(&text(&told));
        assert_eq!(text(&json!({"exports": []})), "Nobody exports anything.\n");
    }
}
