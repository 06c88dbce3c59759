//! What hostnamed is asked over the bus. It is started by the bus when it is asked, and ends when nobody does.

use mgmt_engine::resource::Fault;
use zbus::Connection;

use super::names::Which;
use crate::bus::{Bus, told};

const NAME: &str = "org.freedesktop.hostname1";
const PATH: &str = "/org/freedesktop/hostname1";

/// A connection on which hostnamed answers.
///
/// # Errors
/// There is no bus, or nobody of that name on it.
pub(super) async fn there(bus: &Bus) -> Result<Connection, Fault> {
    let connection = bus.connection().await?;
    let asked = connection.call_method(Some(NAME), PATH, Some("org.freedesktop.DBus.Peer"), "Ping", &()).await;
    asked.map_err(|error| Fault::new(told(&error)))?;
    Ok(connection)
}

/// Sets a name.
///
/// # Errors
/// It was refused.
pub(super) async fn set(bus: &Connection, which: Which, wanted: &str) -> Result<(), Fault> {
    let method = match which {
        Which::Static => "SetStaticHostname",
        Which::Pretty => "SetPrettyHostname",
        Which::Transient => "SetHostname",
    };
    // Nobody is there to be asked for a password.
    let set = bus.call_method(Some(NAME), PATH, Some(NAME), method, &(wanted, false)).await;
    set.map(drop).map_err(|error| Fault::new(format!("hostnamed does not set the {which}: {}", told(&error))))
}
