//! `mgmt cluster`: founds, changes, repairs and leaves a mesh.

use std::io::Write;
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_store::record::Versions;
use serde_json::{Value, json};

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::Ask;
use crate::mesh::answers::create_token;
use crate::mesh::registrar::reachable;
use crate::mesh::{once, recovery};
use crate::state::{Home, State};

/// How long founding may take.
const FOUNDING: Duration = Duration::from_secs(30);

/// Runs one of its verbs.
///
/// # Errors
/// There is no agent or mesh to ask, it could not do it, or output cannot be written.
pub fn run(verb: &args::Cluster, out: &mut dyn Write, clock: Clock, versions: Versions) -> Result<Exit, Failure> {
    let (place, asked) = match verb {
        args::Cluster::Init(args) => return init(args, out, (clock, versions)),
        args::Cluster::Recover(args) => return recover(args, out),
        args::Cluster::Size(args) => return size(args, out),
        args::Cluster::Rules(args) => return rules(args, out),
        args::Cluster::Leave(args) => (&args.place, Ask::Leave { yes: args.yes }),
        args::Cluster::Remove(args) => (&args.place, Ask::Remove { host: args.host.clone() }),
        args::Cluster::Transfer(args) => (&args.place, Ask::Transfer { host: args.host.clone() }),
        args::Cluster::RotateCa(args) => (&args.place, Ask::RotateCa),
        args::Cluster::Allow(args) => {
            (&args.place, Ask::Allow { pattern: args.pattern.clone(), prefix: args.prefix.clone() })
        }
        args::Cluster::Disallow(args) => {
            (&args.place, Ask::Disallow { pattern: args.pattern.clone(), prefix: args.prefix.clone() })
        }
    };
    let done = find(place)?.mesh(asked)?;
    // What was done is worth words only where something is left to do.
    if let Some(advice) = done["advice"].as_str() {
        print::text(&format!("{advice}\n"), out)?;
    }
    Ok(Exit::Done)
}

/// Founds a mesh where no agent runs.
fn init(args: &args::InitCluster, out: &mut dyn Write, at: (Clock, Versions)) -> Result<Exit, Failure> {
    let home = Home::of(&args.place)?;
    let listen = args.listen.as_deref().map(super::run::listen).transpose()?;
    let state = State::take(&home, None)?;
    let mut settings = super::join::settings(&home, &state, once::flags(Vec::new(), None, true), listen, at)?;
    // Whoever says this means it, whatever others of this user on this machine are members of.
    settings.private = true;
    once::nobody_yet(&settings)?;
    let (role, ttl_s, uses) = (super::token::word(args.role), args.ttl.as_secs(), args.uses);
    let mut founded = once::once(settings, FOUNDING, async |node| {
        let mut token = create_token(node, &role, ttl_s, uses, None, false).await?;
        token["cluster"] = node.identity.cluster.to_string().into();
        let addresses = reachable(node.setup.endpoint.local_address(), &[]);
        token["addresses"] = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().into();
        Ok(token)
    })?;
    founded["host"] = home.hostname.clone().into();
    if args.json {
        print::json(&print::versioned(founded), out)?;
        return Ok(Exit::Done);
    }
    let (text, addresses) = (|name: &str| founded[name].as_str().unwrap_or_default().to_owned(), &founded["addresses"]);
    let said = format!(
        "{} has founded cluster {}, and is its admin; it goes on with: mgmt run FILE, or mgmt run empty\n\
         {} hosts may join until {} with:\n  mgmt join --seeds {} {}\n",
        home.hostname,
        text("cluster"),
        args.uses,
        text("expires"),
        addresses[0].as_str().unwrap_or_default(),
        text("token")
    );
    print::text(&said, out)?;
    Ok(Exit::Done)
}

/// Makes a mesh of what this host has, where no agent runs.
fn recover(args: &args::Recover, out: &mut dyn Write) -> Result<Exit, Failure> {
    if !args.yes {
        let why = "this makes another mesh of what this host has. The old one must never run again, and its other hosts \
                   have to join the new one. While most masters can still be brought back, do that instead. Say --yes if \
                   they are lost for good";
        return Err(Failure::new(Exit::Usage, why));
    }
    let home = Home::of(&args.place)?;
    let state = State::take(&home, None)?;
    let recovered = block_on(recovery::recover(state.directory()))?;
    let recovered = recovered.map_err(|e| Failure::new(Exit::Disk, e))?;
    if args.json {
        let value = json!({
            "old_cluster": recovered.old.to_string(),
            "cluster": recovered.new.to_string(),
            "committed": recovered.committed,
            "last": recovered.last,
            "goes_on_at": recovered.at,
            "hosts": recovered.hosts,
            "aside": recovered.aside.display().to_string(),
        });
        print::json(&print::versioned(value), out)?;
    } else {
        print::text(&format!("{recovered}\n"), out)?;
    }
    Ok(Exit::Done)
}

/// Runs something that waits for disks alone.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Unavailable, format!("cannot start threads: {e}")))?;
    Ok(runtime.block_on(work))
}

fn size(args: &args::Size, out: &mut dyn Write) -> Result<Exit, Failure> {
    let masters = args.masters.as_ref().and_then(|masters| masters.parse().ok());
    let done = find(&args.place)?.mesh(Ask::Size { masters })?;
    if args.json {
        print::json(&print::versioned(done), out)?;
    } else if masters.is_none() {
        print::text(&format!("{}\n", done["ideal"]), out)?;
    }
    Ok(Exit::Done)
}

fn rules(args: &args::Members, out: &mut dyn Write) -> Result<Exit, Failure> {
    let rules = find(&args.place)?.mesh(Ask::Rules)?;
    if args.json {
        print::json(&print::versioned(rules), out)?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["hosts", "keys"].map(str::to_owned).to_vec()];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rule = |rule: &Value| vec![text(&rule["hosts"]), format!("{}*", text(&rule["prefix"]))];
    rows.extend(rules["rules"].as_array().into_iter().flatten().map(rule));
    let none = "There are no rules: only admins write keys.\n";
    let shown = if rows.len() == 1 { none.to_owned() } else { print::table(&rows) };
    print::text(&shown, out)?;
    Ok(Exit::Done)
}
