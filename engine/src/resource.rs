//! What a kind of resource has to offer the engine, and what the engine hands it.
//!
//! The engine calls in this order: `watch` (arm), `check` (look, touch nothing), `apply` (repair what `check` found),
//! and `refresh` when a notify edge asks for it. Each future is first polled on one of the engine's worker threads,
//! inside the tokio runtime: work of microseconds (a few system calls) may block there and finish in that first poll;
//! what takes longer must become `Pending` (await a child, a timer, `spawn_blocking`), and goes on as a tokio task.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch as latest;

/// A boxed future as the engine stores it.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One piece of desired state on this host. Equality is derived: equal means "leave it running".
pub trait Resource: PartialEq + Debug + Send + Sync + 'static {
    /// What `check` found wrong; prints as a short fragment: `content differs`, `mode is 0600, wanted 0644`.
    type Drift: Drift;

    /// Starts to watch for whatever may have changed, and returns once armed: events after that are not lost.
    ///
    /// Called on a worker thread, once per life of the vertex (again after a failed watch). Raising is a hint: raises
    /// merge. Dropping the returned value ends the watch.
    ///
    /// # Errors
    /// A failure here is retried by `meta.retry`.
    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let _unused = signal;
        Ok(Watch::Nothing)
    }

    /// Looks, and touches nothing. May be dropped at any await.
    fn check(&self, look: &Look) -> impl Future<Output = Result<Check<Self::Drift>, Fault>> + Send;

    /// Repairs the drift that `check` just found. Never dropped; it watches `work.stop` and ends at a safe place.
    fn apply(&self, drift: Self::Drift, work: &Work) -> impl Future<Output = Result<Applied, Fault>> + Send;

    /// What [`refresh`](Self::refresh) would change of this host, for a plan: `would be sent again`. `None`: nothing.
    fn on_refresh(&self) -> Option<&'static str> {
        None
    }

    /// What a notify edge asks for, when `apply` did not already do it. The default does nothing.
    fn refresh(&self, work: &Work) -> impl Future<Output = Result<Applied, Fault>> + Send {
        let _unused = work;
        async { Ok(Applied::Unchanged) }
    }
}

/// What a check found wrong. `Display` is the sentence a user reads.
pub trait Drift: Display + Debug + Send + 'static {
    /// Contents before and after, for a diff; `None` if there are none to show.
    fn change(&self) -> Option<Change> {
        None
    }

    /// What this repair would make of paths, so that a plan can judge what comes after it.
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        vec![(PathBuf::from("/"), Promise::Anything)]
    }
}

/// Contents before and after a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What stands now; `None` if nothing does.
    pub before: Option<Vec<u8>>,
    /// What will stand; `None` if nothing will.
    pub after: Option<Vec<u8>>,
    /// The file is not readable by everybody, so its contents must not be shown.
    pub hidden: bool,
}

/// What a planned repair makes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// A directory will stand here, where none (or no directory) stands now. It will be empty.
    Directory,
    /// A file or symbolic link will stand here, or its contents or attributes will change.
    File,
    /// Nothing will stand here.
    Absent,
    /// This path and everything below it may become anything: whoever depends on it cannot be planned.
    Anything,
}

/// What repairs planned before this one make of paths. Empty outside plans.
#[derive(Debug, Clone, Default)]
pub struct Promises {
    before: Made,
    /// What others would make at an unknown time: never more than "anything".
    beside: Made,
}

type Made = Option<Arc<BTreeMap<PathBuf, (Promise, String)>>>;

impl Promises {
    /// No promises.
    pub const fn none() -> Self {
        Self { before: None, beside: None }
    }

    /// Promises made so far: path to what it becomes and who makes it so.
    pub fn new(made: BTreeMap<PathBuf, (Promise, String)>) -> Self {
        Self { before: (!made.is_empty()).then(|| Arc::new(made)), beside: None }
    }

    /// Adds what is promised by others, of whom nothing says whether they come before or after: where those so far
    /// promise nothing, it may become anything.
    #[must_use]
    pub fn with_beside(self, made: Arc<BTreeMap<PathBuf, (Promise, String)>>) -> Self {
        Self { beside: Some(made), ..self }
    }

    /// The promise that governs `path`: the one for itself, else the nearest ancestor's if that one is a directory
    /// made anew, removed, or anything. With who made it.
    pub fn of(&self, path: &Path) -> Option<(&Path, Promise, &str)> {
        let beside = || governing(&self.beside, path).map(|(at, _, who)| (at, Promise::Anything, who));
        governing(&self.before, path).or_else(beside)
    }

    /// The first promise for something below `path`.
    pub fn below(&self, path: &Path) -> Option<(&Path, Promise, &str)> {
        let beside = || first_below(&self.beside, path).map(|(at, _, who)| (at, Promise::Anything, who));
        first_below(&self.before, path).or_else(beside)
    }
}

fn governing<'m>(made: &'m Made, path: &Path) -> Option<(&'m Path, Promise, &'m str)> {
    let made = made.as_ref()?;
    path.ancestors().enumerate().find_map(|(depth, at)| {
        let (at, (promise, who)) = made.get_key_value(at)?;
        (depth == 0 || *promise != Promise::File).then_some((at.as_path(), *promise, who.as_str()))
    })
}

fn first_below<'m>(made: &'m Made, path: &Path) -> Option<(&'m Path, Promise, &'m str)> {
    made.as_ref()?
        .range(path.to_path_buf()..)
        .take_while(|(at, _)| at.starts_with(path))
        .find(|(at, _)| at.as_path() != path)
        .map(|(at, (promise, who))| (at.as_path(), *promise, who.as_str()))
}

/// Why the engine looks at, or repairs, a vertex. Printed with every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The first look after the start of the program.
    First,
    /// The first look after a new graph brought this vertex.
    Reload,
    /// Something outside changed it after it had been seen right.
    Drift,
    /// A predecessor changed, over a notify edge.
    Refresh,
    /// A timer before it has ticked.
    Tick,
    /// `meta.poll` said to look again.
    Poll,
}

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Reload => "reload",
            Self::Drift => "drift",
            Self::Refresh => "refresh",
            Self::Tick => "tick",
            Self::Poll => "poll",
        })
    }
}

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A repair follows if something is wrong.
    Converge,
    /// Nothing will be repaired; guards (commands that decide) may run.
    Plan,
    /// Nothing will be repaired and no guard may run: what depends on one is [`Check::Unknown`].
    PlanWithoutGuards,
}

/// What a check is told.
#[derive(Debug, Clone)]
pub struct Look {
    /// Why it looks. `First` and `Reload` last until the vertex has been clean once.
    pub cause: Cause,
    /// A refresh is pending: a notify edge's source has changed.
    pub refresh: bool,
    /// What the look is for.
    pub purpose: Purpose,
    /// In a plan: what those before it would have changed.
    pub promises: Promises,
}

impl Look {
    /// A look of an ordinary run.
    pub const fn because(cause: Cause) -> Self {
        Self { cause, refresh: false, purpose: Purpose::Converge, promises: Promises::none() }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check<D> {
    /// As wanted.
    Converged,
    /// Not as wanted.
    Drifted(D),
    /// In a plan only: cannot be told, because ….
    Unknown(String),
    /// Cannot be looked at yet: it waits for …, and its watch raises the signal when that is there. The vertex is not
    /// quiet until then.
    Later(Cow<'static, str>),
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Nothing had to change after all.
    Unchanged,
    /// Something changed. `deed` is a fragment such as `created, 8 bytes`; `refreshed` says that it did what a pending
    /// refresh would have asked for, so that the refresh is spent.
    Changed {
        /// What was done, for people.
        deed: Cow<'static, str>,
        /// A pending refresh is spent by it.
        refreshed: bool,
    },
}

impl Applied {
    /// A change that does not spend a refresh.
    pub fn changed(deed: impl Into<Cow<'static, str>>) -> Self {
        Self::Changed { deed: deed.into(), refreshed: false }
    }
}

/// What an apply is told.
#[derive(Debug, Clone)]
pub struct Work {
    /// Why it repairs. Only [`Cause::Drift`] says that this vertex was seen right before.
    pub cause: Cause,
    /// Says when to give up.
    pub stop: Stop,
    /// Where it holds semaphores that other hosts share: higher than for whoever held them before, on any host.
    pub fence: Option<u64>,
}

impl Work {
    /// Work that nobody will stop, for tests and one-off uses.
    pub fn because(cause: Cause) -> Self {
        Self { cause, stop: Stop::never(), fence: None }
    }
}

/// How urgently something running is asked to end. Only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Go on.
    None,
    /// End soon, in order: children get TERM, and KILL after their grace.
    Cancel,
    /// End now: children get KILL.
    Kill,
}

/// Tells a running apply to end.
#[derive(Debug, Clone)]
pub struct Stop(latest::Receiver<Urgency>);

impl Stop {
    /// A stop and the handle that raises it.
    pub fn new() -> (latest::Sender<Urgency>, Self) {
        let (sender, receiver) = latest::channel(Urgency::None);
        (sender, Self(receiver))
    }

    /// A stop that never comes.
    pub fn never() -> Self {
        Self::new().1
    }

    /// The present urgency.
    pub fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    /// Waits until the urgency is at least `least`; for ever if whoever could raise it is gone. Cancel safe.
    pub async fn reached(&self, least: Urgency) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|urgency| *urgency >= least).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A watch that has been armed. Dropping it ends the watch.
pub enum Watch {
    /// This resource has nothing to watch.
    Nothing,
    /// Somebody else raises the signal while this is held.
    Held(Box<dyn Send>),
    /// The engine runs this future for as long as the vertex lives, dropping it at any await. Ending well means that
    /// nothing more will come; an error is a failed watch.
    Task(Boxed<Result<(), Fault>>),
    /// Both of them.
    Both(Box<dyn Send>, Boxed<Result<(), Fault>>),
}

impl Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Held(_) => "Held",
            Self::Task(_) => "Task",
            Self::Both(..) => "Both",
        })
    }
}

/// Names one life of one vertex, so that a late event of an earlier life is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

/// Who takes raised signals: the engine, or a test.
pub trait Sink: Send + Sync {
    /// Something that these vertices watch may have changed.
    fn raised(&self, tickets: &[Ticket]);
    /// The timer has ticked: its direct successors are due.
    fn ticked(&self, ticket: Ticket);
    /// As [`raised`](Self::raised), by a thread that may be used for a moment: whoever takes the signals may look and
    /// repair on it, which saves waking another thread. It holds no lock.
    fn raised_by_helper(self: Arc<Self>, tickets: &[Ticket]) {
        self.raised(tickets);
    }
}

/// A vertex's way to say "look at me". Cheap to clone; raises merge; never blocks for long.
#[derive(Clone)]
pub struct Signal {
    sink: Arc<dyn Sink>,
    ticket: Ticket,
}

impl Signal {
    /// A signal of the vertex behind `ticket`.
    pub fn new(sink: Arc<dyn Sink>, ticket: Ticket) -> Self {
        Self { sink, ticket }
    }

    /// A signal of no vertex, for watchers outside a graph and for tests: its ticket is the number alone.
    pub fn elsewhere(sink: Arc<dyn Sink>, number: u32) -> Self {
        Self { sink, ticket: Ticket { slot: number, life: 0 } }
    }

    /// Something may have changed.
    pub fn raise(&self) {
        self.sink.raised(&[self.ticket]);
    }

    /// A timer's tick.
    pub fn tick(&self) {
        self.sink.ticked(self.ticket);
    }

    /// Raises many at once: one turn of the engine's lock instead of one each. The calling thread, which must hold no
    /// lock, may be used for a millisecond or so, or for as long as one look or repair blocks.
    pub fn raise_all(signals: &[Self]) {
        let mut rest = signals;
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|s| Arc::ptr_eq(&s.sink, &first.sink)).count();
            let tickets: Vec<Ticket> = rest[..same].iter().map(|s| s.ticket).collect();
            Arc::clone(&first.sink).raised_by_helper(&tickets);
            rest = &rest[same..];
        }
    }
}

impl Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({}.{})", self.ticket.slot, self.ticket.life)
    }
}

/// Why something failed: a lowercase fragment that reads after "failed: ", with the remedy where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    message: String,
}

impl Fault {
    /// A failure that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// A failed operation on a path: `cannot OPERATION PATH: REASON`.
    pub fn path(operation: &str, path: &Path, error: impl Display) -> Self {
        Self::new(format!("cannot {operation} {}: {error}", path.display()))
    }
}
