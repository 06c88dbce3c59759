//! One service manager: the calls to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mgmt_engine::resource::{Fault, Signal, Stop, Urgency};
use tokio::sync::{Mutex, Semaphore, watch as latest};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zbus::export::serde::Serialize;
use zbus::zvariant::{DynamicType, ObjectPath, Value};
use zbus::{Connection, Message};

use super::follow::{Follower, MANAGER, NAME, PATH, Standing, UNIT};
use super::jobs::Ended;
use super::registry::{Guard, Mute, Registry, Subscriber};
use super::unit::{self, Digest, Unit};
use crate::bus::{Bus, name, told};
use crate::watches::Watches;

/// Who waits in the middle of something for a lost bus to come back waits so long.
const RETURN_WITHIN: Duration = Duration::from_secs(30);

/// Calls that wait for an answer at once. A bus allows a connection 128 (`max_replies_per_connection`), and others use
/// ours as well.
const CALLS_MAX: usize = 64;

/// A service manager: of the machine, or of a user. Shared by all that ask it.
#[derive(Debug)]
pub struct Manager {
    bus: Arc<Bus>,
    watches: Watches,
    /// Why there cannot be one here.
    missing: Option<String>,
    registry: Arc<Registry>,
    standing: Arc<latest::Sender<Standing>>,
    been: Arc<AtomicBool>,
    follower: OnceLock<Following>,
    /// How many reloads have been asked for, and how many of these had been when the last finished one began.
    reloads_asked: AtomicU64,
    reloads_done: Mutex<u64>,
    calls: Semaphore,
}

/// The follower's task, which ends with this.
#[derive(Debug)]
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What enabling or disabling has changed: links made or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The unit file says how it is to be enabled; without, enabling does nothing.
    pub carries_install_info: bool,
    /// How many links.
    pub links: usize,
}

/// A value of a unit's property. Its name says which it has to be: `systemctl show` has the names, systemd.exec(5) and
/// systemd.resource-control(5) the meanings.
#[derive(Debug, Clone, PartialEq)]
pub enum Property {
    /// A text: `Description`, `Slice`.
    Text(String),
    /// Yes or no: `CPUAccounting`.
    Flag(bool),
    /// A number that cannot be negative, such as a number of bytes: `MemoryMax`, `TasksMax`, `CPUQuotaPerSecUSec`.
    Number(u64),
    /// A small whole number: `Nice`, `OOMScoreAdjust`.
    Integer(i32),
    /// Texts: `After`.
    Texts(Vec<String>),
    /// A part of all there is, of 2³²: `MemoryMaxScale`.
    Part(u32),
    /// A mask of bits: `AllowedCPUs`.
    Bytes(Vec<u8>),
}

impl From<&Property> for Value<'static> {
    fn from(property: &Property) -> Self {
        match property {
            Property::Text(text) => Value::from(text.clone()),
            Property::Flag(flag) => Value::from(*flag),
            Property::Number(number) => Value::from(*number),
            Property::Integer(number) => Value::from(*number),
            Property::Texts(texts) => Value::from(texts.clone()),
            Property::Part(part) => Value::from(*part),
            Property::Bytes(bytes) => Value::from(bytes.clone()),
        }
    }
}

impl Manager {
    /// The one on this bus, or a reason why there cannot be one. Nothing is connected yet.
    #[must_use]
    pub fn new(bus: Arc<Bus>, watches: Watches, missing: Option<String>) -> Self {
        Self {
            bus,
            watches,
            missing,
            registry: Arc::default(),
            standing: Arc::new(latest::Sender::new(Standing::Connecting)),
            been: Arc::default(),
            follower: OnceLock::new(),
            reloads_asked: AtomicU64::new(0),
            reloads_done: Mutex::new(0),
            calls: Semaphore::new(CALLS_MAX),
        }
    }

    /// Raises `signal` whenever the unit of this name may have changed: in what it does, by a job's end, by a change of
    /// any unit's file that systemd was told of, by a reload, and after systemd was away. Armed once the unit was looked
    /// at for the first time after this.
    pub fn subscribe(&self, unit: &str, signal: &Signal) -> Guard {
        self.registry.subscribe(unit, signal)
    }

    /// A subscriber has seen the unit like this: signals that tell the same raise nothing.
    pub fn saw(&self, subscriber: Subscriber, unit: &Unit) {
        self.registry.saw(subscriber, Digest::of(unit));
    }

    /// A subscriber begins to work on the unit itself, and hears nothing of that until the returned value is dropped. Its
    /// last look before counts as what it knows then.
    pub fn mute(&self, subscriber: Subscriber) -> Mute {
        self.registry.mute(subscriber)
    }

    /// Why there is no systemd on this machine, if there is none.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// It has been there, and is not now: whoever has subscribed will be raised when it is back.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.been.load(Ordering::Relaxed) && matches!(*self.standing.borrow(), Standing::Away(_))
    }

    /// A unit as it stands. systemd loads it for that, if it has not.
    ///
    /// # Errors
    /// No unit can have this name, or systemd cannot be reached.
    pub async fn look(&self, unit: &str) -> Result<Unit, Fault> {
        let found = self.look_once(unit).await?;
        if self.registry.known_as(unit, &found.id) {
            // What happened to it until now was not heard.
            return self.look_once(unit).await;
        }
        Ok(found)
    }

    async fn look_once(&self, unit: &str) -> Result<Unit, Fault> {
        let (all, file_state) = tokio::join!(self.properties(unit), self.file_state(unit));
        let (all, file_state) = (all?, file_state?);
        let body = all.body();
        let all = body.deserialize::<BTreeMap<String, Value<'_>>>().map_err(|error| unreadable(&error))?;
        let mut found = Unit::of(unit, &all, file_state);
        if found.id != unit {
            found.file_state = self.file_state(&found.id).await?;
        }
        Ok(found)
    }

    async fn properties(&self, unit: &str) -> Result<Message, Fault> {
        self.call_at(&unit::path(unit), "org.freedesktop.DBus.Properties", "GetAll", &(UNIT,)).await
    }

    /// Whether it is enabled, as `systemctl is-enabled` says it; empty where it has no file.
    async fn file_state(&self, unit: &str) -> Result<String, Fault> {
        match self.asked(PATH, MANAGER, "GetUnitFileState", &(unit,)).await? {
            Ok(reply) => text(&reply),
            Err(error) if is_no_file(&error) => Ok(String::new()),
            // There is one, and it cannot be read: the unit itself says why.
            Err(zbus::Error::MethodError(..)) => Ok("bad".to_owned()),
            Err(error) => Err(Fault::new(told(&error))),
        }
    }

    /// A property of the unit's type, as text: `Result` or `MainPID` of `Service`. `None`: it has none.
    ///
    /// # Errors
    /// systemd cannot be reached.
    pub async fn of_type(&self, unit: &str, property: &str) -> Result<Option<String>, Fault> {
        let Some(interface) = unit.rsplit_once('.').and_then(|(_, suffix)| interface(suffix)) else { return Ok(None) };
        let reply =
            self.asked(&unit::path(unit), "org.freedesktop.DBus.Properties", "Get", &(interface, property)).await?;
        let Ok(reply) = reply else { return Ok(None) };
        let body = reply.body();
        Ok(match body.deserialize::<Value<'_>>() {
            Ok(Value::Str(text)) => Some(text.to_string()),
            Ok(Value::U32(number)) => Some(number.to_string()),
            Ok(Value::I32(number)) => Some(number.to_string()),
            Ok(Value::U64(number)) => Some(number.to_string()),
            _ => None,
        })
    }

    /// Enables units by the `[Install]` sections of their files.
    ///
    /// # Errors
    /// systemd refuses, or cannot be reached.
    pub async fn enable(&self, units: &[&str]) -> Result<Changes, Fault> {
        let reply = self.call("EnableUnitFiles", &(units, false, false)).await?;
        type Made<'a> = (bool, Vec<(&'a str, &'a str, &'a str)>);
        let body = reply.body();
        let (carries_install_info, links) = body.deserialize::<Made<'_>>().map_err(|error| unreadable(&error))?;
        Ok(Changes { carries_install_info, links: links.len() })
    }

    /// Removes all links that enable units; with `runtime`, those that hold until the next boot.
    ///
    /// # Errors
    /// systemd refuses, or cannot be reached.
    pub async fn disable(&self, units: &[&str], runtime: bool) -> Result<Changes, Fault> {
        self.removed("DisableUnitFiles", units, runtime).await
    }

    /// Removes the links to `/dev/null` that mask units.
    ///
    /// # Errors
    /// systemd refuses, or cannot be reached.
    pub async fn unmask(&self, units: &[&str], runtime: bool) -> Result<Changes, Fault> {
        self.removed("UnmaskUnitFiles", units, runtime).await
    }

    async fn removed(&self, method: &str, units: &[&str], runtime: bool) -> Result<Changes, Fault> {
        let reply = self.call(method, &(units, runtime)).await?;
        let body = reply.body();
        let links = body.deserialize::<Vec<(&str, &str, &str)>>().map_err(|error| unreadable(&error))?;
        Ok(Changes { carries_install_info: true, links: links.len() })
    }

    /// Has systemd read all unit files again. Whoever asks while one is on its way shares the next one.
    ///
    /// # Errors
    /// systemd refuses, or cannot be reached.
    pub async fn reload(&self) -> Result<(), Fault> {
        let own = self.reloads_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.reloads_done.lock().await;
        if *done >= own {
            return Ok(());
        }
        let asked = self.reloads_asked.load(Ordering::SeqCst);
        self.call("Reload", &()).await?;
        *done = asked;
        Ok(())
    }

    /// Forgets that a unit has failed, and how often it was started.
    ///
    /// # Errors
    /// systemd cannot be reached.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), Fault> {
        self.call("ResetFailedUnit", &(unit,)).await.map(|_| ())
    }

    /// Puts processes into a scope of their own: a unit that is gone when the last of them is. `name` ends in `.scope`.
    ///
    /// # Errors
    /// systemd refuses a property or the name, or cannot be reached; or it could not be made.
    pub async fn scope(
        &self,
        name: &str,
        pids: &[u32],
        properties: &[(String, Property)],
        stop: &Stop,
    ) -> Result<(), Fault> {
        let mut given: Vec<(&str, Value<'_>)> = vec![("PIDs", Value::from(pids.to_vec()))];
        given.extend(properties.iter().map(|(name, value)| (name.as_str(), Value::from(value))));
        let auxiliary: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
        let call = self.registry.call();
        let job = self.make_job("StartTransientUnit", &(name, "fail", given, auxiliary)).await?;
        let end = call.made(&job);
        drop(call);
        match self.ended(&job, end, stop).await? {
            Ended::Done | Ended::Unheard => Ok(()),
            Ended::Stopped => Err(Fault::new(format!("stopped while {name} was being made"))),
            Ended::Otherwise(result) => Err(Fault::new(format!("{name} could not be made: {result}"))),
        }
    }

    /// Sends a signal to all processes of a unit. One that is gone has none.
    ///
    /// # Errors
    /// systemd cannot be reached.
    pub async fn kill(&self, unit: &str, signal: i32) -> Result<(), Fault> {
        match self.asked(PATH, MANAGER, "KillUnit", &(unit, "all", signal)).await? {
            Ok(_) => Ok(()),
            Err(error) if name(&error) == Some("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(Fault::new(told(&error))),
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Makes a job. Its path.
    pub(super) async fn make_job(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType + Sync),
    ) -> Result<String, Fault> {
        let reply = self.call(method, body).await?;
        let body = reply.body();
        let path = body.deserialize::<ObjectPath<'_>>().map_err(|error| unreadable(&error))?;
        Ok(path.to_string())
    }

    /// Whether systemd still has this job.
    pub(super) async fn has_job(&self, job: &str) -> Result<bool, Fault> {
        let Some(id) = job.rsplit('/').next().and_then(|id| id.parse::<u32>().ok()) else { return Ok(false) };
        match self.asked(PATH, MANAGER, "GetJob", &(id,)).await? {
            Ok(_) => Ok(true),
            Err(error) if name(&error) == Some("org.freedesktop.systemd1.NoSuchJob") => Ok(false),
            Err(error) => Err(Fault::new(told(&error))),
        }
    }

    /// Cancels a job, if it is still there.
    pub(super) async fn cancel(&self, job: &str) -> Result<(), Fault> {
        let Some(id) = job.rsplit('/').next().and_then(|id| id.parse::<u32>().ok()) else { return Ok(()) };
        match self.asked(PATH, MANAGER, "CancelJob", &(id,)).await? {
            Ok(_) => Ok(()),
            Err(error) if name(&error) == Some("org.freedesktop.systemd1.NoSuchJob") => Ok(()),
            Err(error) => Err(Fault::new(told(&error))),
        }
    }

    /// Waits until a lost systemd is back, or nobody wants to wait any more.
    pub(super) async fn returned(&self, stop: &Stop) -> Result<(), Fault> {
        let mut standing = self.standing.subscribe();
        let back = standing.wait_for(|standing| matches!(standing, Standing::Following(_)));
        tokio::select! {
            biased;
            () = stop.reached(Urgency::Cancel) => Err(Fault::new("stopped while systemd was away")),
            back = timeout(RETURN_WITHIN, back) => match back {
                Ok(_) => Ok(()),
                Err(_) => Err(Fault::new(format!("systemd was away for {} s", RETURN_WITHIN.as_secs()))),
            },
        }
    }

    async fn call(&self, method: &str, body: &(impl Serialize + DynamicType + Sync)) -> Result<Message, Fault> {
        self.call_at(PATH, MANAGER, method, body).await
    }

    async fn call_at(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType + Sync),
    ) -> Result<Message, Fault> {
        self.asked(path, interface, method, body).await?.map_err(|error| Fault::new(told(&error)))
    }

    /// Asks, and gets the answer or systemd's refusal.
    async fn asked(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType + Sync),
    ) -> Result<zbus::Result<Message>, Fault> {
        let connection = self.connection().await?;
        let _place = self.calls.acquire().await.expect("it is never closed");
        Ok(connection.call_method(Some(NAME), path, Some(interface), method, body).await)
    }

    /// The connection, once signals are followed on it.
    async fn connection(&self) -> Result<Connection, Fault> {
        if let Some(missing) = &self.missing {
            return Err(Fault::new(missing.clone()));
        }
        self.follower.get_or_init(|| {
            let follower = Follower {
                bus: Arc::clone(&self.bus),
                watches: self.watches.clone(),
                registry: Arc::clone(&self.registry),
                standing: Arc::clone(&self.standing),
                been: Arc::clone(&self.been),
            };
            Following(tokio::spawn(follower.run()))
        });
        let mut standing = self.standing.subscribe();
        let there = standing.wait_for(|standing| !matches!(standing, Standing::Connecting)).await;
        match &*there.expect("the sender is ours") {
            Standing::Following(connection) => Ok(connection.clone()),
            Standing::Away(fault) => Err(fault.clone()),
            Standing::Connecting => unreachable!("that is what was waited for"),
        }
    }
}

/// The interface that has what only units of this type have.
fn interface(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "service" => "org.freedesktop.systemd1.Service",
        "socket" => "org.freedesktop.systemd1.Socket",
        "timer" => "org.freedesktop.systemd1.Timer",
        "mount" => "org.freedesktop.systemd1.Mount",
        "automount" => "org.freedesktop.systemd1.Automount",
        "swap" => "org.freedesktop.systemd1.Swap",
        "path" => "org.freedesktop.systemd1.Path",
        "scope" => "org.freedesktop.systemd1.Scope",
        _ => return None,
    })
}

fn text(reply: &Message) -> Result<String, Fault> {
    reply.body().deserialize::<String>().map_err(|error| unreadable(&error))
}

fn unreadable(error: &zbus::Error) -> Fault {
    Fault::new(format!("systemd's answer cannot be read: {error}"))
}

/// The error for a unit that has no file.
fn is_no_file(error: &zbus::Error) -> bool {
    matches!(
        name(error),
        Some("org.freedesktop.DBus.Error.FileNotFound" | "org.freedesktop.systemd1.NoSuchUnit" | "System.Error.ENOENT")
    )
}
