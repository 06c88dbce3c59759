//! `mgmt token`: what lets hosts join.

use std::io::Write;

use serde_json::Value;

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::Ask;

/// Runs one of its verbs.
///
/// # Errors
/// There is no agent or mesh to ask, it could not do it, or output cannot be written.
pub fn run(verb: &args::Token, out: &mut dyn Write) -> Result<Exit, Failure> {
    match verb {
        args::Token::Create(args) => create(args, out),
        args::Token::List(args) => {
            let tokens = find(&args.place)?.mesh(Ask::TokenList)?;
            if args.json {
                print::json(&print::versioned(tokens), out)?;
            } else {
                print::text(&table(&tokens), out)?;
            }
            Ok(Exit::Done)
        }
        args::Token::Revoke(args) => {
            find(&args.place)?.mesh(Ask::TokenRevoke { id: args.id.clone() })?;
            Ok(Exit::Done)
        }
    }
}

/// A role as it is called everywhere.
pub(super) fn word(role: args::Role) -> String {
    match role {
        args::Role::Agent => "agent",
        args::Role::Master => "master",
        args::Role::Admin => "admin",
    }
    .to_owned()
}

fn create(args: &args::CreateToken, out: &mut dyn Write) -> Result<Exit, Failure> {
    let asked = Ask::TokenCreate {
        role: word(args.role),
        ttl_s: args.ttl.as_secs(),
        uses: args.uses,
        host: args.host.clone().or_else(|| args.replace.clone()),
        replace: args.replace.is_some(),
    };
    let token = find(&args.place)?.mesh(asked)?;
    if args.json {
        print::json(&print::versioned(token), out)?;
    } else {
        print::text(&format!("{}\n", token["token"].as_str().unwrap_or_default()), out)?;
    }
    Ok(Exit::Done)
}

fn table(tokens: &Value) -> String {
    let mut rows = vec![["id", "role", "host", "used", "expires", "state"].map(str::to_owned).to_vec()];
    for token in tokens["tokens"].as_array().into_iter().flatten() {
        let text = |name: &str| token[name].as_str().unwrap_or("any").to_owned();
        let host = if token["replace"] == true { format!("{} (replaces)", text("host")) } else { text("host") };
        let uses = token["uses"].as_u64().map_or_else(String::new, |uses| format!(" of {uses}"));
        let used = format!("{}{uses}", token["used"]);
        rows.push(vec![text("id"), text("role"), host, used, text("expires"), text("state")]);
    }
    if rows.len() == 1 { "There are no tokens.\n".to_owned() } else { print::table(&rows) }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_a_table() {
        let tokens = json!({"tokens": [
            {"id": "abc", "role": "agent", "host": null, "replace": false, "uses": 3, "used": 1, "expires": "2026-11-22T22:00:00.000Z", "state": "good"},
            {"id": "xyz", "role": "master", "host": "b", "replace": true, "uses": 1, "used": 1, "expires": "2026-11-22T22:00:00.000Z", "state": "used up"},
        ]});
        expect![[r#"
            ID   ROLE    HOST          USED    EXPIRES                   STATE
            abc  agent   any           1 of 3  2026-11-22T22:00:00.000Z  good
            xyz  master  b (replaces)  1 of 1  2026-11-22T22:00:00.000Z  used up
        "#]]
        .assert_eq(&table(&tokens));
        assert_eq!(table(&json!({"tokens": []})), "There are no tokens.\n");
    }
}
