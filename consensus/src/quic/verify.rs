//! Whom a visitor believes: whoever leads to the authority he was told of, or whoever answers.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Pin;

/// SHA-256 of the SubjectPublicKeyInfo of a certificate.
fn key_hash(certificate: &CertificateDer<'_>) -> Result<[u8; 32], Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let hash = ring::digest::digest(&ring::digest::SHA256, &key);
    Ok(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Looks at whoever is visited.
#[derive(Debug)]
pub(super) struct Pinned {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
    /// Why he is not believed. The handshake itself says it with a number only.
    why: Arc<OnceLock<String>>,
}

impl Pinned {
    /// And where it will say why somebody was not believed.
    pub(super) fn new(pin: Pin, provider: &CryptoProvider) -> (Self, Arc<OnceLock<String>>) {
        let why = Arc::new(OnceLock::new());
        (Self { pin, algorithms: provider.signature_verification_algorithms, why: why.clone() }, why)
    }

    fn look(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let Pin::Authority(pinned) = self.pin else { return Ok(()) };
        let mut roots = RootCertStore::empty();
        for other in others {
            if key_hash(other)? == pinned {
                roots.add(other.clone())?;
            }
        }
        if roots.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let own = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&own, &roots, others, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.look(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                let _said_already = self.why.set(error.to_string());
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
