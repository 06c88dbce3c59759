//! The message buses of this machine: one connection each, made when first asked for, and made anew after it broke.
//!
//! Promises: who asks gets a connection that stood a moment ago, or a sentence that says what is missing. Follows nobody's
//! signals itself: whoever does hears of a break by its own stream's end, and asks again. Must not know what is said over
//! the bus.

use std::path::PathBuf;
use std::time::Duration;

use mgmt_engine::resource::Fault;
use tokio::sync::Mutex;
use zbus::Connection;
use zbus::connection::Builder;

/// Messages that may wait for a slow reader before the connection waits for it. A reload of systemd sends two for each
/// unit it knows at once.
const QUEUE_MAX: usize = 4_096;
/// A daemon that has not answered by then hangs. Activation of one that has to be started first takes up to 25 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The machine's: `DBUS_SYSTEM_BUS_ADDRESS`, or `/run/dbus/system_bus_socket`.
    System,
    /// The user's: `DBUS_SESSION_BUS_ADDRESS`, or `$XDG_RUNTIME_DIR/bus`.
    Session,
    /// The one at this socket, for tests and for another user's.
    At(PathBuf),
}

/// One message bus.
#[derive(Debug)]
pub struct Bus {
    which: Which,
    held: Mutex<Option<Connection>>,
}

impl Bus {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(which: Which) -> Self {
        Self { which, held: Mutex::default() }
    }

    /// A connection. Cancel safe.
    ///
    /// # Errors
    /// There is no such bus here, or it does not take us.
    pub async fn connection(&self) -> Result<Connection, Fault> {
        let mut held = self.held.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = self.builder().map_err(|error| self.unreachable(&error))?;
        let connection = connection.max_queued(QUEUE_MAX).method_timeout(ANSWER_WITHIN).build().await;
        let connection = connection.map_err(|error| self.unreachable(&error))?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// Where its socket is, if that is a file.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let named = |variable: &str| {
            let address = std::env::var(variable).ok()?;
            let path = address.strip_prefix("unix:path=")?;
            Some(PathBuf::from(path.split([',', ';']).next()?))
        };
        match &self.which {
            Which::System => named("DBUS_SYSTEM_BUS_ADDRESS").or_else(|| Some("/run/dbus/system_bus_socket".into())),
            Which::Session => named("DBUS_SESSION_BUS_ADDRESS")
                .or_else(|| Some(PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("bus"))),
            Which::At(path) => Some(path.clone()),
        }
    }

    fn builder(&self) -> zbus::Result<Builder<'static>> {
        match &self.which {
            Which::System => Builder::system(),
            Which::Session => Builder::session(),
            Which::At(path) => Builder::address(format!("unix:path={}", path.display()).as_str()),
        }
    }

    fn unreachable(&self, error: &zbus::Error) -> Fault {
        let name = match &self.which {
            Which::System => "the system bus".to_owned(),
            Which::Session => "the session bus".to_owned(),
            Which::At(path) => format!("the bus at {}", path.display()),
        };
        Fault::new(format!("cannot reach {name} (is D-Bus running here?): {}", told(error)))
    }
}

/// An error of the bus in the words of whoever sent it, without the error's own name where there are words.
#[must_use]
pub fn told(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, None, _) => name.to_string(),
        zbus::Error::MethodError(_, Some(words), _) => words.trim_end_matches('.').to_owned(),
        other => other.to_string(),
    }
}

/// The error's name, such as `org.freedesktop.systemd1.NoSuchUnit`, if the other side sent one.
#[must_use]
pub fn name(error: &zbus::Error) -> Option<&str> {
    match error {
        zbus::Error::MethodError(name, ..) => Some(name.as_str()),
        _ => None,
    }
}
