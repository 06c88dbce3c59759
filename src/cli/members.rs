//! `mgmt members`: who is in the mesh, and how they stand.

use std::io::Write;

use serde_json::Value;

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::Ask;

/// Runs it.
///
/// # Errors
/// There is no agent or mesh to ask, or output cannot be written.
pub fn run(args: &args::Members, out: &mut dyn Write) -> Result<Exit, Failure> {
    let members = find(&args.place)?.mesh(Ask::Members)?;
    if args.json {
        print::json(&print::versioned(members), out)?;
    } else {
        print::text(&text(&members), out)?;
    }
    Ok(Exit::Done)
}

fn text(members: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let columns = ["host", "role", "state", "address", "zone", "revision", "peer"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for member in members["members"].as_array().into_iter().flatten() {
        let mut row: Vec<_> = columns.iter().map(|column| word(&member[*column])).collect();
        if member["host"] == members["leader"] && members["leader"].is_string() {
            row[1] = "master, leads".to_owned();
        }
        rows.push(row);
    }
    let mut text = print::table(&rows);
    if members["leader"].is_null() {
        text += "No leader is known: states are those of this host's last contact.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_a_table() {
        let members = json!({"leader": "a", "members": [
            {"host": "a", "peer": "0f", "role": "master", "state": "up", "address": "10.0.0.1:6468", "zone": "eu/1", "revision": 7},
            {"host": "b", "peer": "1e", "role": "learner", "state": "down", "address": null, "zone": "", "revision": null},
        ]});
        expect![[r#"
            HOST  ROLE           STATE  ADDRESS        ZONE  REVISION  PEER
            a     master, leads  up     10.0.0.1:6468  eu/1  7         0f
            b     learner        down   -              -     -         1e
        "#]]
        .assert_eq(&text(&members));
        let alone = text(&json!({"leader": null, "members": []}));
        assert!(alone.contains("No leader is known"), "{alone}");
    }
}
