//! `mgmt doctor`: what is wrong with this host's part in a mesh, or between it and another host.

use std::io::Write;
use std::net::SocketAddr;

use mgmt_consensus::authority::token::Token;
use serde_json::{Value, json};

use super::{Exit, Failure, args, print};
use crate::control::mesh::Ask;
use crate::control::{Question, find};
use crate::diagnostic::Escaped;
use crate::mesh::doctor::{self, Beliefs, Finding, Seen};
use crate::mesh::papers::Papers;
use crate::mesh::place::Place;
use crate::mesh::registrar;
use crate::mesh::seeds::{self, Resolver};
use crate::state::Home;

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;

/// Runs it.
///
/// # Errors
/// The arguments are wrong, or output cannot be written. What is wrong with the mesh is data.
pub fn run(args: &args::Doctor, out: &mut dyn Write) -> Result<Exit, Failure> {
    let home = Home::of(&args.place)?;
    let findings = match &args.host {
        Some(host) => other(args, host, &home)?,
        None => doctor::own(&home.directory(), &status(args)),
    };
    let ill = findings.iter().any(|finding| !finding.ok);
    if args.json {
        print::json(&print::versioned(json!({"ok": !ill, "findings": findings})), out)?;
    } else {
        for Finding { check, ok, found, remedy } in &findings {
            let mark = if *ok { "ok   " } else { "WRONG" };
            let mut line = format!("{mark} {check:<12} {}\n", Escaped(found));
            if let Some(remedy) = remedy {
                line += &format!("{:19}{}\n", "", Escaped(remedy));
            }
            print::text(&line, out)?;
        }
    }
    Ok(if ill { Exit::Failed } else { Exit::Done })
}

fn status(args: &args::Doctor) -> Result<Value, String> {
    let mut status = Value::Null;
    let asked = find(&args.place).and_then(|client| {
        client.ask(&Question::Status { all: false, local: true }, |answer: Value| {
            status = answer;
            Ok(false)
        })
    });
    asked.map(|()| status).map_err(|failure| failure.message)
}

fn other(args: &args::Doctor, host: &str, home: &Home) -> Result<Vec<Finding>, Failure> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => Some(
            std::fs::read_to_string(file)
                .map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", file.display())))?,
        ),
        (None, None) => None,
    };
    let token = token.map(|text| text.trim().parse::<Token>()).transpose();
    let token = token.map_err(|e| Failure::new(Exit::Usage, e))?;
    let place = home.directory().join("mesh").exists().then(|| Place::open(&home.directory()));
    let place = place.and_then(Result::ok);
    // Without papers that can be read this host believes nobody; why they cannot be is what the other form says.
    let papers = place.as_ref().and_then(|place| Papers::load(place).ok().flatten());
    let beliefs = match (&token, &papers) {
        (Some(token), _) => Beliefs::of_token(token),
        (None, Some(papers)) => Beliefs::of(papers),
        (None, None) => Beliefs::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Unavailable, format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let addresses = addresses(args, host, place.as_ref()).await?;
        let tries = addresses.iter().map(|to| async { (*to, doctor::reach(*to).await) });
        let seen = futures_util::future::join_all(tries).await;
        // One that answers is enough; what stands in the way is told of all if none does.
        let answered = seen.iter().find(|(_, seen)| matches!(seen, Seen::Answered { .. }));
        let Some((to, found)) = answered else {
            return Ok(seen.iter().flat_map(|(to, seen)| doctor::judge(*to, seen, &beliefs)).collect());
        };
        let mut findings = doctor::judge(*to, found, &beliefs);
        if let (Some(token), Seen::Answered { who, .. }) = (&token, found) {
            findings.push(doctor::ask_of_token(*to, token, &who.host).await);
        }
        Ok(findings)
    })
}

/// Where a host is: a member that this one remembers, or an address, or a name that is looked up.
async fn addresses(args: &args::Doctor, host: &str, place: Option<&Place>) -> Result<Vec<SocketAddr>, Failure> {
    if let Some(address) = member(args, host) {
        return Ok(vec![address]);
    }
    let remembered = place.map(registrar::remembered).unwrap_or_default();
    let member = remembered.into_values().find(|listed| listed.host == host);
    if let Some(listed) = member.filter(|listed| !listed.addresses.is_empty()) {
        return Ok(listed.addresses.into_iter().take(ADDRESSES_MAX).collect());
    }
    let seeds = seeds::parse(&[host.to_owned()]).map_err(|e| Failure::new(Exit::Usage, e))?;
    let resolved = Resolver::new().resolve(&seeds).await;
    if resolved.addresses.is_empty() {
        return Err(Failure::new(Exit::Usage, resolved.missing.join("; ")));
    }
    Ok(resolved.addresses.into_iter().take(ADDRESSES_MAX).collect())
}

/// Where the agent says that a member is, if one runs.
fn member(args: &args::Doctor, host: &str) -> Option<SocketAddr> {
    let members = find(&args.place).ok()?.mesh(Ask::Members).ok()?;
    let member = members["members"].as_array()?.iter().find(|member| member["host"] == host)?;
    member["address"].as_str()?.parse().ok()
}
