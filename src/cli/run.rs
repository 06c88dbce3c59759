//! `mgmt run`: the agent, and batch runs.

use std::net::SocketAddr;
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_store::record::Versions;

use super::args::{self, MaybeSeconds};
use super::{Exit, Failure, graph_source};
use crate::agent::{self, Ended, Settings, Source};
use crate::mesh;
use crate::mesh::start::{Flags, Graph};
use crate::progress::Progress;
use crate::state::{self, Home, State};

/// Runs it.
///
/// # Errors
/// It could not start.
pub fn run(args: args::Run, progress: Progress, clock: Clock, versions: Versions) -> Result<Exit, Failure> {
    let ignored = args.old.given();
    if !ignored.is_empty() {
        tracing::warn!("without effect here: {}", ignored.join(", "));
    }
    if args.graphviz_filter.is_some() {
        tracing::warn!("without effect here: --graphviz-filter; the file is in dot form, and no program is run on it");
    }
    let (source, home, options, state) = graph_source::stage(&args.source, &args.place, &args.common, None)?;
    let host = graph_source::host(&home, &source, args.common.noop)?;
    become_the_agent()?;
    let (converged, once) = when_to_end(args.converged_timeout, args.converger_timeout, args.converged_exit);
    let transient = once || args.common.max_runtime.is_some();
    let mesh = mesh(&args, &source, &home, &state, transient, (clock, versions))?;
    let settings = Settings {
        mesh: Some(mesh),
        state,
        hostname: home.hostname.clone(),
        source,
        options,
        converged,
        once,
        max_runtime: args.common.max_runtime,
        watch: !args.no_watch,
        serve: true,
        status_file: args.converged_status_file,
        mesh_converged: args.mesh.mesh_converged,
        listener: None,
        progress,
    };
    let ended = agent::run(settings, &host, clock)?;
    draw(&ended, args.common.graphviz.as_deref())?;
    Ok(exit(&ended, once, args.common.detailed_exitcode))
}

/// What this host's part in a mesh is to be, if there is a reason for one.
///
/// # Errors
/// What was asked for cannot be.
fn mesh(
    args: &args::Run,
    source: &Source,
    home: &Home,
    state: &State,
    transient: bool,
    (clock, versions): (Clock, Versions),
) -> Result<mesh::Settings, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error.to_string());
    let listen = args.mesh.listen.as_deref().map(listen).transpose()?;
    let zone = args.mesh.zone.as_deref().unwrap_or_default();
    Ok(mesh::Settings {
        prefix: home.prefix.clone(),
        usual: state::default_prefix(),
        state: state.directory().to_owned(),
        host: mgmt_store::HostName::parse(&home.hostname).map_err(|e| usage(&e))?,
        flags: Flags::of(&args.mesh, args.no_network)?,
        graph: if *source == Source::Empty { Graph::None } else { Graph::Without },
        listen,
        zone: zone.split('/').filter(|part| !part.is_empty()).map(Into::into).collect(),
        leave_on_exit: args.mesh.leave_on_exit,
        transient,
        private: args.common.tmp_prefix,
        clock,
        versions,
    })
}

/// Where to listen: `IP:PORT`, `IP` or `PORT`, also as the old program wrote it.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Failure> {
    let bare = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let everywhere = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let ip = |text: &str| text.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, mesh::PORT));
    let address =
        bare.parse().ok().or_else(|| ip(bare)).or_else(|| bare.trim_start_matches(':').parse().ok().map(everywhere));
    address.ok_or_else(|| {
        let message = format!("--listen takes an address of this host, as 192.0.2.1:{}, not '{text}'", mesh::PORT);
        Failure::new(Exit::Usage, message)
    })
}

/// Quiet for how long counts as converged, and whether to exit then.
fn when_to_end(new: Option<MaybeSeconds>, old: Option<MaybeSeconds>, exit: bool) -> (Duration, bool) {
    match (new.and_then(|n| n.0), old.and_then(|o| o.0)) {
        (Some(timeout), _) => (timeout, true),
        (None, Some(timeout)) => (timeout, exit),
        (None, None) => (Duration::ZERO, false),
    }
}

/// What a process does that starts children and holds many descriptors.
pub(super) fn become_the_agent() -> Result<(), Failure> {
    graph_source::raise_limits();
    mgmt_resources::exec::reaper::become_subreaper()
        .map_err(|e| Failure::new(Exit::Unavailable, format!("cannot become the reaper of orphaned children: {e}")))
}

/// Writes the graph as it stood at the end.
pub(super) fn draw(ended: &Ended, file: Option<&std::path::Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let standings: Vec<_> = ended.snapshot.stands.iter().map(|s| s.standing).collect();
    std::fs::write(file, crate::picture::dot(&ended.graph, Some(&standings)))
        .map_err(|e| Failure::new(Exit::Disk, format!("cannot write {}: {e}", file.display())))
}

/// The exit code of a run. One that was to run `once` has failed if it was ended before it had converged; an agent has
/// not.
pub(super) fn exit(ended: &Ended, once: bool, detailed: bool) -> Exit {
    if ended.outdated {
        return Exit::Outdated;
    }
    if ended.late {
        return Exit::Late;
    }
    let changed = ended.tally.changes() + ended.tally.would_change() > 0;
    if let Some(why) = &ended.unsettled {
        tracing::error!("{why}");
        if !ended.failed() {
            return Exit::Unavailable;
        }
    }
    Exit::of(ended.failed() || (once && !ended.converged), changed, detailed)
}
