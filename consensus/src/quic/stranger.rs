//! What visitors are shown before this peer has a certificate of anybody: one that it signed itself, and that proves
//! nothing.

use std::io;

use super::Credentials;

/// A new one.
pub(super) fn credentials() -> io::Result<Credentials> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(io::Error::other)?;
    let name = rcgen::CertificateParams::new(["visitor.mgmt".to_owned()]).map_err(io::Error::other)?;
    let certificate = name.self_signed(&key).map_err(io::Error::other)?;
    Ok(Credentials { certificate: certificate.der().to_vec(), key: key.serialize_der(), authorities: Vec::new() })
}
