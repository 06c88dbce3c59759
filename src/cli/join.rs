//! `mgmt join`: makes this host a member of a mesh.

use std::io::{Read as _, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mgmt_consensus::authority::token::Token;
use mgmt_engine::Clock;
use mgmt_store::record::Versions;

use super::{Exit, Failure, args, print};
use crate::mesh::start::{Flags, Graph};
use crate::mesh::{self, once, seeds};
use crate::state::{Home, State, default_prefix};

/// Longest thing that is taken for a token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Runs it.
///
/// # Errors
/// It was not let in, or nobody was reached.
pub fn run(args: &args::Join, out: &mut dyn Write, clock: Clock, versions: Versions) -> Result<Exit, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error.to_string());
    let token = if args.token == "-" { from_stdin()? } else { args.token.clone() };
    token.parse::<Token>().map_err(|e| usage(&e))?;
    let seeds = seeds::parse(&args.seeds).map_err(|e| usage(&e))?;
    let home = Home::of(&args.place)?;
    let state = State::take(&home, None)?;
    let settings = settings(&home, &state, once::flags(seeds, Some(token), false), None, (clock, versions))?;
    once::nobody_yet(&settings)?;
    let cluster = once::once(settings, args.patience, async |node| Ok(node.identity.cluster))?;
    let said = format!(
        "{} is a member of cluster {cluster}; it goes on with: mgmt run FILE, or mgmt run empty\n",
        home.hostname
    );
    print::text(&said, out)?;
    Ok(Exit::Done)
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|e| Failure::new(Exit::Disk, format!("cannot read standard input: {e}")))?;
    Ok(text.trim().to_owned())
}

/// A part in a mesh for a moment.
pub(super) fn settings(
    home: &Home,
    state: &State,
    flags: Flags,
    listen: Option<SocketAddr>,
    (clock, versions): (Clock, Versions),
) -> Result<mesh::Settings, Failure> {
    Ok(mesh::Settings {
        prefix: home.prefix.clone(),
        usual: default_prefix(),
        state: state.directory().to_owned(),
        host: mgmt_store::HostName::parse(&home.hostname).map_err(|e| Failure::new(Exit::Usage, e))?,
        flags,
        graph: Graph::None,
        listen,
        zone: Vec::<Arc<str>>::new(),
        leave_on_exit: false,
        transient: false,
        private: false,
        clock,
        versions,
    })
}
