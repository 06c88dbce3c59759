//! What visitors are shown before this peer has a certificate of anybody: one that it signed itself, and that proves
//! nothing.

use std::io;

use rustls::pki_types::UnixTime;

use super::{Credentials, chance};
use crate::authority::{KeyPair, temporary};
use crate::identity::PeerId;

/// A new one, for nobody in particular.
pub(super) fn credentials() -> io::Result<Credentials> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let peer = PeerId(u128::from_le_bytes(chance()));
    let certificate = temporary(peer, &key, UnixTime::now().as_secs()).map_err(io::Error::other)?;
    Ok(Credentials { certificate, key: key.pkcs8().to_vec(), authorities: Vec::new() })
}
