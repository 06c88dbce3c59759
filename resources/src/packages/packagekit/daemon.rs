//! The daemon on the bus: transactions, what they report, and what it says of others.
//!
//! A transaction answers only to the connection that made it, says everything by signals, and says some of it several
//! times. Should its end not be heard - the daemon was killed, a signal was lost - then asking it every few seconds finds
//! that out. One that makes no progress for long is told to end.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use mgmt_engine::resource::Fault;
use tokio::time::{Instant, sleep, timeout};
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::super::hub::Bell;
use super::super::trouble::Trouble;
use crate::bus::{self, Bus};

const NAME: &str = "org.freedesktop.PackageKit";
const PATH: &str = "/org/freedesktop/PackageKit";
const TRANSACTION: &str = "org.freedesktop.PackageKit.Transaction";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Signals that may wait while we are busy. A transaction of a thousand packages sends some ten for each.
const SIGNALS_MAX: usize = 65_536;
/// A transaction that has said nothing for so long is asked whether it still is.
const SILENCE: Duration = Duration::from_secs(5);
/// Without any progress for so long, it is told to end.
const NO_PROGRESS: Duration = Duration::from_secs(300);
/// As long as the tools themselves would wait for the lock of another.
const LOCKED: Duration = Duration::from_secs(1_800);
/// The status of waiting for a lock, as the daemon numbers it.
const WAITING_FOR_LOCK: u32 = 30;
/// The filter that leaves nothing out.
const ANY: u64 = 1 << 1;
/// Nothing that is not signed as it should be.
const TRUSTED: u64 = 1 << 1;
/// An older version may take the place of a newer one.
const OLDER_TOO: u64 = 1 << 6;
/// Finished well.
const SUCCESS: u32 = 1;
/// Numbers of our own last transactions that are told from others'.
const OWN_MAX: usize = 64;
/// The bus is looked for so often after it has gone, and less and less.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// One package as the daemon names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Installed, available, ….
    pub(super) info: u32,
    /// All of it, as the daemon wants it back.
    pub(super) id: String,
}

/// The daemon, which the bus starts when it is first spoken to.
#[derive(Debug)]
pub(super) struct Daemon {
    bus: Arc<Bus>,
    own: Arc<Mutex<VecDeque<String>>>,
}

/// What a transaction is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call<'c> {
    /// Name all packages of these names or ids, installed and not.
    Resolve(&'c [String]),
    /// Name what is installed and could be newer.
    Updates,
    /// Install these, and older ones than stand as well.
    Install(&'c [String]),
    /// Make these newer.
    Update(&'c [String]),
    /// Remove these, with what needs them.
    Remove(&'c [String]),
    /// Ask the sources.
    Refresh,
}

impl Call<'_> {
    async fn on(self, connection: &Connection, path: &OwnedObjectPath) -> zbus::Result<Message> {
        let (to, of) = (Some(NAME), Some(TRANSACTION));
        match self {
            Self::Resolve(names) => connection.call_method(to, path, of, "Resolve", &(ANY, names)).await,
            Self::Updates => connection.call_method(to, path, of, "GetUpdates", &(ANY,)).await,
            Self::Install(ids) => {
                connection.call_method(to, path, of, "InstallPackages", &(TRUSTED | OLDER_TOO, ids)).await
            }
            Self::Update(ids) => connection.call_method(to, path, of, "UpdatePackages", &(TRUSTED, ids)).await,
            Self::Remove(ids) => {
                connection.call_method(to, path, of, "RemovePackages", &(TRUSTED, ids, true, false)).await
            }
            Self::Refresh => connection.call_method(to, path, of, "RefreshCache", &(true,)).await,
        }
    }
}

/// What a transaction has said.
#[derive(Debug, Default)]
struct Heard {
    rows: BTreeSet<Row>,
    error: Option<(u32, String)>,
    /// How it ended, if it has.
    exit: Option<u32>,
}

impl Daemon {
    pub(super) fn new(bus: Arc<Bus>) -> Self {
        Self { bus, own: Arc::default() }
    }

    /// Runs one transaction to its end; what packages it named.
    pub(super) async fn transaction(&self, call: Call<'_>) -> Result<BTreeSet<Row>, Trouble> {
        let connection = self
            .bus
            .connection()
            .await
            .map_err(|fault| Trouble::whole(format!("PackageKit cannot be asked: {fault}")))?;
        let said = |error: zbus::Error| Trouble::whole(unasked(&error));
        let made =
            connection.call_method(Some(NAME), PATH, Some(NAME), "CreateTransaction", &()).await.map_err(said)?;
        let path: OwnedObjectPath = made.body().deserialize().map_err(said)?;
        self.is_own(&path);
        let rule = MatchRule::builder().msg_type(Type::Signal).path(path.as_str()).map_err(said)?.build();
        let mut signals = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS_MAX)).await.map_err(said)?;
        let hints = vec!["interactive=false", "background=false", "locale=C.UTF-8"];
        connection.call_method(Some(NAME), &path, Some(TRANSACTION), "SetHints", &(hints,)).await.map_err(said)?;
        if let Err(error) = call.on(&connection, &path).await {
            return Err(Trouble { words: unasked(&error), ..Trouble::default() });
        }
        let mut heard = Heard::default();
        heard.follow(&connection, &path, &mut signals).await?;
        heard.judged()
    }

    fn is_own(&self, path: &OwnedObjectPath) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.push_back(path.as_str().to_owned());
        let surplus = own.len().saturating_sub(OWN_MAX);
        own.drain(..surplus);
    }

    /// Rings when the daemon says that packages have changed, or when another's transaction has ended; and after the bus
    /// was away, for nobody knows what happened meanwhile. For as long as it is polled.
    pub(super) fn follow(&self, bell: Arc<Bell>) -> impl Future<Output = ()> + Send + 'static {
        let (bus, own) = (Arc::clone(&self.bus), Arc::clone(&self.own));
        async move {
            let mut pause = AGAIN;
            let mut first = true;
            loop {
                if let Ok(connection) = bus.connection().await
                    && let Ok(mut signals) = signals(&connection).await
                {
                    pause = AGAIN;
                    if !std::mem::take(&mut first) {
                        bell.ring();
                    }
                    let mut others = BTreeSet::new();
                    while let Some(Ok(signal)) = signals.next().await {
                        if is_news(&signal, &own, &mut others) {
                            bell.ring();
                        }
                    }
                }
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

/// The daemon's own signals, not those of transactions.
async fn signals(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder().msg_type(Type::Signal).interface(NAME)?.path(PATH)?.build();
    MessageStream::for_match_rule(rule, connection, Some(SIGNALS_MAX)).await
}

/// Whether a signal says that something may be another. A list of transactions does when one that is not ours is gone.
fn is_news(signal: &Message, own: &Mutex<VecDeque<String>>, others: &mut BTreeSet<String>) -> bool {
    let header = signal.header();
    match header.member().map(|member| member.as_str()) {
        Some("UpdatesChanged" | "RepoListChanged") => true,
        Some("TransactionListChanged") => {
            let Ok(listed) = signal.body().deserialize::<Vec<String>>() else { return true };
            let own = own.lock().unwrap_or_else(PoisonError::into_inner);
            let now: BTreeSet<_> = listed.into_iter().filter(|path| !own.contains(path)).collect();
            let gone = !others.is_subset(&now);
            *others = now;
            gone
        }
        _ => false,
    }
}

impl Heard {
    /// Hears a transaction to its end.
    async fn follow(
        &mut self,
        connection: &Connection,
        path: &OwnedObjectPath,
        signals: &mut MessageStream,
    ) -> Result<(), Trouble> {
        let mut moved = Instant::now();
        let mut standing = (0, 0);
        while self.exit.is_none() {
            match timeout(SILENCE, signals.next()).await {
                Ok(Some(Ok(signal))) => {
                    self.take(&signal);
                    moved = Instant::now();
                    continue;
                }
                Ok(Some(Err(_)) | None) => return Err(lost("the bus has gone")),
                Err(_) => {}
            }
            let mut now = (0, 0);
            for (property, value) in [("Status", &mut now.0), ("Percentage", &mut now.1)] {
                let asked = (TRANSACTION, property);
                let answer = connection.call_method(Some(NAME), path, Some(PROPERTIES), "Get", &asked).await;
                let answer = answer.and_then(|answer| answer.body().deserialize::<OwnedValue>());
                *value = match answer.map(|value| u32::try_from(&*value)) {
                    Ok(Ok(value)) => value,
                    _ => return Err(lost("the daemon knows nothing of the transaction any more")),
                };
            }
            if std::mem::replace(&mut standing, now) != now {
                moved = Instant::now();
            }
            let most = if now.0 == WAITING_FOR_LOCK { LOCKED } else { NO_PROGRESS };
            if moved.elapsed() > most {
                let cancelled = connection.call_method(Some(NAME), path, Some(TRANSACTION), "Cancel", &()).await;
                let refused = cancelled.err().map(|error| format!(", which it refused: {}", bus::told(&error)));
                let words = format!("PackageKit has made no progress for {} s and was told to end", most.as_secs());
                return Err(Trouble::whole(format!("{words}{}", refused.unwrap_or_default())));
            }
        }
        Ok(())
    }

    fn take(&mut self, signal: &Message) {
        let (header, body) = (signal.header(), signal.body());
        if header.interface().is_none_or(|interface| interface.as_str() != TRANSACTION) {
            return;
        }
        // What cannot be read says nothing, and the end is found by asking.
        match header.member().map(|member| member.as_str()) {
            Some("Package") => {
                self.rows.extend(body.deserialize::<(u32, String, String)>().map(|(info, id, _)| Row { info, id }));
            }
            Some("ErrorCode") => self.error = body.deserialize().ok().or(self.error.take()),
            Some("Finished") => self.exit = Some(body.deserialize::<(u32, u32)>().map_or(0, |(exit, _)| exit)),
            Some("Destroy") => self.exit = self.exit.or(Some(0)),
            _ => {}
        }
    }

    fn judged(self) -> Result<BTreeSet<Row>, Trouble> {
        match (self.exit, self.error) {
            (Some(SUCCESS), _) => Ok(self.rows),
            (_, Some((code, words))) => Err(super::told(code, &words)),
            (exit, None) => {
                let exit = exit.unwrap_or_default();
                Err(Trouble {
                    words: format!("PackageKit has failed without a word (exit {exit})"),
                    ..Trouble::default()
                })
            }
        }
    }
}

/// Nobody knows how the transaction has ended.
fn lost(why: &str) -> Trouble {
    Trouble::whole(format!("{}: {why}", super::LOST))
}

/// Why the daemon could not even be asked.
fn unasked(error: &zbus::Error) -> String {
    let words = bus::told(error);
    match bus::name(error) {
        Some("org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.systemd1.NoSuchUnit") => {
            format!("this machine has no PackageKit: {words}")
        }
        _ => format!("PackageKit cannot be asked: {words}"),
    }
}

/// For whoever only wants to know.
pub(super) fn fault(trouble: Trouble) -> Fault {
    Fault::new(trouble.words)
}
