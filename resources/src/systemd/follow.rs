//! The one task that listens to a service manager: it connects, subscribes, hands on what it hears, and does all of it
//! again when the bus or the manager was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, select_all};
use mgmt_engine::resource::{Fault, Signal, Sink, Ticket};
use tokio::sync::{Notify, watch as latest};
use tokio::time::{Sleep, sleep};
use zbus::message::Type;
use zbus::zvariant::{ObjectPath, Value};
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::registry::Registry;
use super::unit::Digest;
use crate::bus::{Bus, told};
use crate::watches::{Guard, Watches};

/// Who systemd is on a bus.
pub(super) const NAME: &str = "org.freedesktop.systemd1";
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Between attempts to come back, at first and at most. A socket that appears is seen at once; this is for a bus that
/// has its socket and is not ready.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// systemd may be on its bus and not yet ready to be subscribed to.
const NOT_READY_PAUSE: Duration = Duration::from_secs(1);
/// Signals that wait for us, before the connection waits. A reload sends two for each unit, of which we take none.
const QUEUE_MAX: usize = 4_096;
/// What concerns all units raises everybody at most so often: who enables a hundred units says so a hundred times.
const RAISE_ALL_PAUSE: Duration = Duration::from_millis(200);

/// Where the follower is.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// On its way for the first time.
    Connecting,
    /// Subscribed: what happens is heard.
    Following(Connection),
    /// Not there, because ….
    Away(Fault),
}

/// What the follower needs.
pub(super) struct Follower {
    pub(super) bus: Arc<Bus>,
    pub(super) watches: Watches,
    pub(super) registry: Arc<Registry>,
    pub(super) standing: Arc<latest::Sender<Standing>>,
    /// It has been there at least once.
    pub(super) been: Arc<AtomicBool>,
}

impl Follower {
    /// Follows until it is dropped.
    pub(super) async fn run(self) {
        let mut pause = AGAIN_FIRST;
        loop {
            let lost = match self.connect().await {
                Ok((connection, streams)) => {
                    pause = AGAIN_FIRST;
                    self.follow(&connection, streams).await
                }
                Err(fault) => fault,
            };
            self.away(lost);
            self.wait(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    async fn connect(&self) -> Result<(Connection, SelectAll<MessageStream>), Fault> {
        let connection = self.bus.connection().await?;
        let streams = streams(&connection).await.map_err(|error| lost(&error))?;
        Ok((connection, streams))
    }

    /// Hands on what it hears, until the connection ends. Why it ended.
    async fn follow(&self, connection: &Connection, mut streams: SelectAll<MessageStream>) -> Fault {
        let mut subscribed = match has_owner(connection).await {
            Ok(true) => self.subscribe(connection).await,
            Ok(false) => Err(Fault::new("systemd is not on its bus")),
            Err(error) => return lost(&error),
        };
        let mut pause: Option<std::pin::Pin<Box<Sleep>>> = None;
        let mut all_due = false;
        loop {
            // systemd may have its name and not be ready: asked again, as long as it takes.
            let retry = async {
                if let Err(fault) = &subscribed {
                    self.away(fault.clone());
                    sleep(NOT_READY_PAUSE).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let paused = async {
                match pause.as_mut() {
                    Some(pause) => pause.await,
                    None => std::future::pending().await,
                }
            };
            let heard = tokio::select! {
                biased;
                message = streams.next() => match message {
                    Some(Ok(message)) => self.heard(&message),
                    Some(Err(error)) => return lost(&error),
                    None => return Fault::new("the connection to the bus has ended"),
                },
                () = paused => {
                    pause = None;
                    Heard::Nothing
                }
                () = retry => Heard::Back,
            };
            match heard {
                Heard::Nothing => {}
                Heard::All => all_due = true,
                Heard::Gone => self.away(Fault::new("systemd has left its bus")),
                Heard::Back => {
                    subscribed = self.subscribe(connection).await;
                    continue;
                }
            }
            if all_due && pause.is_none() {
                all_due = false;
                self.registry.raise_all();
                pause = Some(Box::pin(sleep(RAISE_ALL_PAUSE)));
            }
        }
    }

    /// Asks systemd for its signals, and tells everybody to look: what happened before was not heard.
    async fn subscribe(&self, connection: &Connection) -> Result<(), Fault> {
        let asked = connection.call_method(Some(NAME), PATH, Some(MANAGER), "Subscribe", &()).await;
        match asked {
            Ok(_) => {}
            Err(error) if crate::bus::name(&error) == Some("org.freedesktop.systemd1.AlreadySubscribed") => {}
            Err(error) => return Err(Fault::new(format!("systemd sends no signals: {}", told(&error)))),
        }
        let before = self.standing.send_replace(Standing::Following(connection.clone()));
        // At first nobody has looked yet: they wait for this very moment. Unless it was not there at first: then they
        // have been told so, and that is what has changed.
        if self.been.swap(true, Ordering::Relaxed) || matches!(before, Standing::Away(_)) {
            tracing::info!("systemd is there: everything is looked at again");
            self.registry.interrupted();
            self.registry.raise_all();
        }
        Ok(())
    }

    fn away(&self, fault: Fault) {
        let been = self.been.load(Ordering::Relaxed);
        self.standing.send_if_modified(|standing| {
            let news = !matches!(standing, Standing::Away(_));
            if news && been {
                tracing::warn!("systemd is away, and services are unwatched until it is back: {fault}");
            }
            *standing = Standing::Away(fault);
            true
        });
        self.registry.interrupted();
    }

    fn heard(&self, message: &Message) -> Heard {
        let header = message.header();
        let member = header.member().map_or("", |member| member.as_str());
        match member {
            "PropertiesChanged" => {
                let body = message.body();
                let Some(path) = header.path() else { return Heard::Nothing };
                match body.deserialize::<(&str, BTreeMap<&str, Value<'_>>, Vec<&str>)>() {
                    // The same is told of its type's properties besides.
                    Ok((interface, ..)) if interface != UNIT => {}
                    Ok((_, all, _)) => self.registry.changed(path.as_str(), Digest::brought(&all).as_ref()),
                    Err(_) => self.registry.changed(path.as_str(), None),
                }
                Heard::Nothing
            }
            "JobRemoved" => {
                let body = message.body();
                if let Ok((id, job, unit, result)) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>() {
                    self.registry.ended(job.as_str(), result);
                    self.registry.without_job(&super::unit::path(unit), id);
                }
                Heard::Nothing
            }
            "UnitFilesChanged" => Heard::All,
            "Reloading" => match message.body().deserialize::<bool>() {
                Ok(true) => Heard::Nothing,
                _ => Heard::All,
            },
            "NameOwnerChanged" => match message.body().deserialize::<(&str, &str, &str)>() {
                Ok((_, _, "")) => Heard::Gone,
                _ => Heard::Back,
            },
            _ => Heard::Nothing,
        }
    }

    /// Until the bus's socket changes, or the time is up.
    async fn wait(&self, pause: Duration) {
        let bell = Arc::new(Bell::default());
        let signal = Signal::elsewhere(Arc::clone(&bell) as Arc<dyn Sink>, 0);
        let guard: Option<Guard> = self.bus.socket().and_then(|path| self.watches.path(&path, &signal).ok());
        tokio::select! {
            biased;
            () = bell.0.notified() => {}
            () = sleep(pause) => {}
        }
        drop(guard);
    }
}

/// What a signal is to those who follow all units.
enum Heard {
    Nothing,
    /// Any unit may be concerned.
    All,
    /// systemd has left.
    Gone,
    /// systemd is there, and knows nothing of us.
    Back,
}

/// Rings when a signal is raised.
#[derive(Debug, Default)]
struct Bell(Notify);

impl Sink for Bell {
    fn raised(&self, _: &[Ticket]) {
        self.0.notify_one();
    }
    fn ticked(&self, _: Ticket) {}
}

fn lost(error: &zbus::Error) -> Fault {
    Fault::new(format!("the bus was lost: {}", told(error)))
}

async fn has_owner(connection: &Connection) -> zbus::Result<bool> {
    let bus = "org.freedesktop.DBus";
    let reply = connection.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "NameHasOwner", &(NAME,)).await?;
    reply.body().deserialize()
}

/// One stream for all that systemd says, so that it is heard in the order in which it was said.
async fn streams(connection: &Connection) -> zbus::Result<SelectAll<MessageStream>> {
    let signal = || MatchRule::builder().msg_type(Type::Signal);
    let systemd = signal().sender(NAME)?.path_namespace(PATH)?.build();
    let owner = signal()
        .sender("org.freedesktop.DBus")?
        .interface("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .arg(0, NAME)?
        .build();
    let mut streams = Vec::new();
    for rule in [owner, systemd] {
        streams.push(MessageStream::for_match_rule(rule, connection, Some(QUEUE_MAX)).await?);
    }
    Ok(select_all(streams))
}
