//! Certificates and keys as text, as they lie in files.

use pem::Pem;

use super::certificate::{Certificate, CertificateError};
use super::keys::{KeyError, KeyPair};
use crate::limits::{AUTHORITIES_MAX, PEM_BYTES_MAX};

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// A text that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// Longer than any of ours.
    #[error("{0} bytes are more than any such file of this program has, {PEM_BYTES_MAX} at most")]
    Long(usize),
    /// No text form at all, or of something else.
    #[error("it does not hold what it should ({0}), in PEM")]
    Form(&'static str),
    /// Too many.
    #[error("it holds more than {AUTHORITIES_MAX} certificates")]
    Many,
    /// A certificate that is none of ours.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A key that is none of ours.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Certificates as text.
#[must_use]
pub fn pem_of_certificates(certificates: &[Certificate]) -> String {
    certificates.iter().map(|certificate| encode(CERTIFICATE, certificate.der())).collect()
}

/// A key as text.
#[must_use]
pub fn pem_of_key(key: &KeyPair) -> String {
    encode(KEY, key.pkcs8())
}

/// Certificates from text: at least one.
///
/// # Errors
/// When it holds anything else.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<Certificate>, PemError> {
    let parts = decode(text, CERTIFICATE)?;
    if parts.len() > AUTHORITIES_MAX {
        return Err(PemError::Many);
    }
    parts.into_iter().map(|part| Ok(Certificate::from_der(part.into_contents())?)).collect()
}

/// A key from text.
///
/// # Errors
/// When it holds anything else.
pub fn key_from_pem(text: &[u8]) -> Result<KeyPair, PemError> {
    match &decode(text, KEY)?[..] {
        [key] => Ok(KeyPair::from_pkcs8(key.contents())?),
        _ => Err(PemError::Form(KEY)),
    }
}

fn encode(tag: &str, contents: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&Pem::new(tag, contents), config)
}

fn decode(text: &[u8], tag: &'static str) -> Result<Vec<Pem>, PemError> {
    if text.len() > PEM_BYTES_MAX {
        return Err(PemError::Long(text.len()));
    }
    let parts = pem::parse_many(text).map_err(|_| PemError::Form(tag))?;
    let fits = !parts.is_empty() && parts.iter().all(|part| part.tag() == tag);
    if fits { Ok(parts) } else { Err(PemError::Form(tag)) }
}
