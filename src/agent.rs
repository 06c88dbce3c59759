//! One run: wires host, engine, graph file, signals and control socket together, and sees it to its end.
//!
//! Its loop owns the run: whatever happens (a signal, an edit of the graph file, convergence, the end of time, a
//! question) comes to it, and is answered there. Must not know how a resource, the engine or the socket works.

mod answers;
mod edits;
mod ending;
mod exchanging;
mod loading;
mod together;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::runner::{Condition, Config, Engine, Ledger as _, Snapshot};
use mgmt_engine::schedule::Options as EngineOptions;
use mgmt_engine::{Clock, Graph};
use mgmt_resources::Host;
use tokio::runtime::Runtime;

use answers::Shared;
use edits::Edits;
use exchanging::Exchanging;
use loading::{Loaded, accept, load};
use together::Together;

use crate::assemble::{self, Exchanged};
use crate::cli::{Exit, Failure};
use crate::control::Socket;
use crate::events::Events;
use crate::exchange::Account;
use crate::exchange::remembered::Memory;
use crate::ledger::Owed;
use crate::mesh::{self, Mesh, Over, link::Link};
use crate::observer::{Listener, Tally, Teller};
use crate::progress::{self, Progress};
use crate::shutdown::{Asked, Signals};
use crate::state::State;

/// Where the graph comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This file, or `-`.
    File(PathBuf),
    /// Nowhere: an agent without resources.
    Empty,
}

impl Source {
    fn is_stdin(&self) -> bool {
        matches!(self, Self::File(path) if path.as_os_str() == "-")
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) if path.as_os_str() != "-" => Some(path),
            _ => None,
        }
    }
}

/// What kind of run it is.
pub struct Settings {
    /// Where state is kept; its lock is ours.
    pub state: State,
    /// This host's name.
    pub hostname: String,
    /// Where the graph comes from.
    pub source: Source,
    /// How it is read.
    pub options: assemble::Options,
    /// Quiet for so long is converged.
    pub converged: Duration,
    /// Exit once converged.
    pub once: bool,
    /// Give up after so long.
    pub max_runtime: Option<Duration>,
    /// Read the graph file again when it is edited.
    pub watch: bool,
    /// Answer on the control socket.
    pub serve: bool,
    /// Gets `true` or `false` appended.
    pub status_file: Option<PathBuf>,
    /// Converged means that all hosts of the mesh are.
    pub mesh_converged: bool,
    /// Who prints events instead of the log.
    pub listener: Option<Listener>,
    /// Where progress is shown.
    pub progress: Progress,
    /// What this host's part in a mesh is to be, if there is a reason for one. A run without a reason opens no socket and
    /// pays nothing.
    pub mesh: Option<mesh::Settings>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The graph at the end.
    pub graph: Graph,
    /// How each of its vertices stood, by number.
    pub snapshot: Snapshot,
    /// What it had to do with other hosts.
    pub exchanged: Arc<Exchanged>,
    /// Counts over the run.
    pub tally: Arc<Tally>,
    /// `--max-runtime` passed.
    pub late: bool,
    /// The mesh uses what this program does not understand.
    pub outdated: bool,
    /// It ended although the exchange with other hosts was not done; why, in a sentence.
    pub unsettled: Option<String>,
    /// Whether it had converged when it was asked to end, or ended by itself.
    pub converged: bool,
    /// How long it took.
    pub took: Duration,
}

impl Ended {
    /// Whether something is failed now.
    pub fn failed(&self) -> bool {
        use mgmt_engine::report::Standing;
        self.snapshot.stands.iter().any(|s| matches!(s.standing, Standing::Failed | Standing::Held))
    }
}

/// The runtime for all that waits: children, timers, the socket.
///
/// # Errors
/// If threads cannot be started.
pub fn runtime() -> Result<Runtime, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).clamp(1, 4);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("task")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Unavailable, format!("cannot start threads: {e}")))
}

/// Runs until something ends it.
///
/// # Errors
/// It could not start: the graph is wrong, or something of this host is missing.
pub fn run(mut settings: Settings, host: &Arc<Host>, clock: Clock) -> Result<Ended, Failure> {
    let runtime = runtime()?;
    let memory = Memory::in_directory(settings.state.directory());
    let remembered = settings.mesh.as_ref().map(|_| memory.load()).unwrap_or_default();
    if settings.mesh.is_some() {
        settings.options.sight = Arc::new(remembered.sight());
    }
    let loaded = accept(load(&settings, host))?;
    let ended = runtime.block_on(async {
        let mut agent = Agent::start(settings, Arc::clone(host), clock, runtime.handle().clone())?;
        agent.join(loaded.needs_mesh, (memory, remembered))?;
        agent.adopt(loaded, false);
        agent.until_it_ends().await;
        Ok(agent.end().await)
    });
    // What still runs there (a lookup that hangs, a child being waited for) must not keep us from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

struct Agent {
    settings: Settings,
    host: Arc<Host>,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    ledger: Owed,
    debts: BTreeSet<mgmt_engine::Id>,
    edits: Edits,
    signals: Signals,
    socket: Option<Socket>,
    mesh: Option<Mesh>,
    exchanging: Exchanging,
    together: Together,
    clock: Clock,
    /// Changes and time at the last new graph, to say what it led to.
    since: (u64, u64, mgmt_engine::Moment),
    late: bool,
    outdated: bool,
    /// All was converged when that was all there was to do.
    reached: bool,
    /// Why the exchange was not done when it was looked at last.
    why_unsettled: Option<String>,
}

impl Agent {
    fn start(
        mut settings: Settings,
        host: Arc<Host>,
        clock: Clock,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, Failure> {
        let cannot = |what: &str, e: std::io::Error| Failure::new(Exit::Unavailable, format!("cannot {what}: {e}"));
        let signals = Signals::listen().map_err(|e| cannot("listen for signals", e))?;
        let (events, tally) = (Arc::new(Events::new()), Arc::new(Tally::default()));
        let account = Arc::new(Account::default());
        let ledger = Owed::in_directory(settings.state.directory());
        let debts = if settings.options.noop { BTreeSet::new() } else { ledger.load() };
        let teller = Teller {
            events: Arc::clone(&events),
            tally: Arc::clone(&tally),
            status_file: settings.status_file.take_if(|_| !settings.mesh_converged),
            listener: settings.listener.take(),
            account: Arc::clone(&account),
        };
        let options =
            EngineOptions { noop: settings.options.noop, recheck: !settings.once, converged: settings.converged };
        let keeper = Box::new(Owed::in_directory(settings.state.directory()));
        let engine = Engine::start(Config { options, workers: None }, clock, runtime.clone(), Box::new(teller), keeper);
        let engine = Arc::new(engine.map_err(|e| cannot("start threads", e))?);
        let together = Together::of(&mut settings, &host, engine.condition(), &runtime);
        crate::semaphores::serve(&engine, Link::of(&host), runtime);
        let edits = match settings.source.file() {
            Some(path) if settings.watch => Edits::of(&host, path),
            _ => Edits::none(),
        };
        let socket = if settings.serve {
            Some(Socket::open(settings.state.directory()).map_err(|e| cannot("open the control socket", e))?)
        } else {
            None
        };
        let shared = Arc::new(Shared {
            mesh: mesh::answers::Desk::new(Link::of(&host)),
            engine: Arc::clone(&engine),
            events,
            tally,
            host: Arc::clone(&host),
            hostname: settings.hostname.clone(),
            file: settings.options.file.clone(),
            started: Clock::wall(),
            graph_error: Mutex::new(None),
            account: Arc::clone(&account),
        });
        let since = (0, 0, clock.now());
        let exchanging = Exchanging::new(account, settings.mesh.take());
        Ok(Self {
            settings,
            host,
            engine,
            shared,
            ledger,
            debts,
            edits,
            signals,
            socket,
            mesh: None,
            exchanging,
            together,
            clock,
            since,
            late: false,
            outdated: false,
            reached: false,
            why_unsettled: None,
        })
    }

    /// Lets the engine have a new graph; `collected`: it is new only because other hosts export something else.
    fn adopt(&mut self, loaded: Loaded, collected: bool) {
        let Loaded { document, graph, exchanged, .. } = loaded;
        self.exchanging.enter(document, exchanged, collected);
        // What others export changes neither what this host does nor what it asks for.
        if !collected {
            self.express();
        }
        let debts = std::mem::take(&mut self.debts);
        // Refreshes owed to resources that the graph no longer has are owed to nobody.
        let known: Vec<_> = debts.iter().filter(|id| graph.number(id).is_some()).cloned().collect();
        if known.len() < debts.len()
            && let Err(error) = self.ledger.keep(&known, false)
        {
            self.ledger.lost(&error);
        }
        self.since = (self.shared.tally.changes(), self.shared.tally.failures(), self.clock.now());
        let difference = match collected {
            true => self.engine.update(graph),
            false => self.engine.replace(graph, &debts),
        };
        if collected {
            tracing::debug!(
                "{} collected anew, {} gone",
                difference.entered() + difference.replaced(),
                difference.left()
            );
        } else if difference.kept() + difference.left() + difference.replaced() > 0 {
            tracing::info!(
                "graph replaced: {} kept, {} changed, {} new, {} gone",
                difference.kept(),
                difference.replaced(),
                difference.entered(),
                difference.left()
            );
        }
    }

    /// The loop.
    async fn until_it_ends(&mut self) {
        let mut condition = self.engine.condition();
        let mut announced = false;
        let every = if self.settings.progress.is_drawn() { progress::REDRAW } else { progress::PLAIN };
        let mut redraw = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let end_of_time = tokio::time::sleep(self.settings.max_runtime.unwrap_or(Duration::MAX / 4));
        tokio::pin!(end_of_time);
        let mut patience = None;
        loop {
            let state = *condition.borrow_and_update();
            if state == Condition::Converged && !announced {
                announced = true;
                self.say_converged();
            }
            let converged = state == Condition::Converged && self.together.is_converged();
            if converged && self.settings.once && self.has_settled(&mut patience) {
                self.reached = true;
                return;
            }
            tokio::select! {
                biased;
                asked = self.signals.next() => match asked {
                    Asked::End { by, .. } => {
                        let what = "finishing what runs, starting nothing; again to cancel it";
                        tracing::info!("{by}: {what}");
                        return;
                    }
                    Asked::Reload => {
                        tracing::info!("HUP: reading the graph file again");
                        announced &= !self.reload();
                    }
                },
                () = &mut end_of_time, if self.settings.max_runtime.is_some() => {
                    tracing::warn!("--max-runtime passed");
                    self.late = true;
                    return;
                }
                () = self.edits.next() => {
                    self.edits.settled().await;
                    announced &= !self.reload();
                }
                () = self.exchanging.news() => announced &= !self.see(),
                () = self.exchanging.source_changed() => {
                    self.exchanging.sources_settled().await;
                    if self.express() {
                        tracing::info!("a file that is exported has changed: it is published anew");
                    }
                }
                () = until(patience), if converged => {}
                _ = condition.changed() => {}
                () = self.together.changed() => if self.settings.once && self.together.never().is_some() {
                    return;
                },
                over = over(self.mesh.as_ref()) => {
                    self.outdated = over == Over::Outdated;
                    return;
                }
                () = serve(&mut self.socket, &self.shared) => {}
                _ = redraw.tick(), if state == Condition::Working => self.show_progress(),
            }
            if *condition.borrow() != Condition::Working {
                self.settings.progress.hide();
            }
        }
    }

    /// Reads the graph file again. Whether a new graph runs now.
    fn reload(&mut self) -> bool {
        if self.settings.source.is_stdin() {
            tracing::warn!("the graph came from standard input: there is nothing to read again");
            return false;
        }
        // Before it is read: an edit while it is read is an edit to be read.
        self.edits.follow(&self.host);
        let assembled = tokio::task::block_in_place(|| load(&self.settings, &self.host));
        let error = match accept(assembled) {
            Ok(loaded) => {
                if let Err(failure) = self.join_now(loaded.needs_mesh) {
                    tracing::error!("{}; the graph runs without a mesh", failure.message);
                }
                self.adopt(loaded, false);
                None
            }
            Err(failure) => {
                tracing::error!("{}; the graph that runs goes on", failure.message);
                Some(failure.message)
            }
        };
        let adopted = error.is_none();
        *self.shared.graph_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        adopted
    }

    fn say_converged(&self) {
        self.engine.flush();
        let (changes, failures, at) = self.since;
        let stands = self.engine.snapshot().stands;
        let count = stands.len();
        let took = self.clock.now().since(at).as_secs_f64() * 1e3;
        let changes = self.shared.tally.changes() - changes;
        let failures = self.shared.tally.failures() - failures;
        tracing::info!("converged after {took:.1} ms: {count} resources, {changes} changes, {failures} failures");
    }

    fn show_progress(&self) {
        let snapshot = self.engine.snapshot();
        if self.settings.progress.is_drawn() {
            self.settings.progress.show(&snapshot);
        } else if let Some(text) = progress::sentence(&snapshot, progress::PLAIN) {
            tracing::info!("still running: {text}");
        }
    }
}

/// Waits until the mesh is a reason to end; for ever, if it never is.
async fn over(mesh: Option<&Mesh>) -> Over {
    match mesh {
        Some(mesh) => mesh.over().await,
        None => std::future::pending().await,
    }
}

/// Waits for that moment; for ever, if there is none.
async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Answers the next question, or waits for ever if there is no socket.
async fn serve(socket: &mut Option<Socket>, shared: &Arc<Shared>) {
    match socket {
        Some(socket) => socket.serve_next(shared).await,
        None => std::future::pending().await,
    }
}
