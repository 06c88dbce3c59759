//! What a certificate says, read strictly: whatever we would not have written ourselves is refused.
//!
//! These bytes come from strangers, before anything is known of them. Whether an authority of ours has signed them is
//! for TLS to check; here it is checked only where there is no TLS in between.

use std::fmt;

use ring::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{Role, verify};
use crate::identity::{ClusterId, PeerId, check_host};
use crate::limits::CERTIFICATE_BYTES_MAX;

/// Where the role of a peer is written: below 2.25, where names need no registration.
pub(super) const ROLE_OID: &[u64] = &[2, 25, 0x6d67_6d74_726f_6c65, 1];
/// Ed25519, as algorithm of keys and of signatures.
const ED25519_OID: &[u64] = &[1, 3, 101, 112];
/// What stands before the signature at the end, byte by byte: it is not covered by the signature, and the parser is
/// lenient with it. Algorithm, and a string of 64 bytes.
const SIGNED: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70\x03\x41\x00";
/// How names of ours in certificates begin.
const SCHEME: &str = "mgmt://";
/// Behind each server's name.
const DOMAIN: &str = ".mgmt";

/// What a certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badge {
    /// Where it is somebody.
    pub cluster: ClusterId,
    /// Who it is to the transport.
    pub peer: PeerId,
    /// Its host's name.
    pub host: String,
    /// What it may at most do.
    pub role: Role,
}

impl Badge {
    /// The name of the host within its cluster, as it stands in the certificate.
    pub(super) fn uri(&self) -> String {
        format!("{}/host/{}", cluster_uri(self.cluster), self.host)
    }
}

/// The name that a peer's certificate is made out to, and by which it is called.
#[must_use]
pub fn server_name(peer: PeerId) -> String {
    format!("{peer}{DOMAIN}")
}

/// The name of a cluster, as it stands in the certificate of its authority.
pub(super) fn cluster_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

/// It is no certificate of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any of ours.
    #[error("a certificate of {0} bytes is longer than any of this program, {CERTIFICATE_BYTES_MAX} at most")]
    Long(usize),
    /// No certificate at all.
    #[error("this is no certificate")]
    Form,
    /// Another kind of key or signature.
    #[error("the certificate is not of Ed25519")]
    Algorithm,
    /// It says less than, more than or something else than certificates of ours.
    #[error("the certificate was not made by this program: {0}")]
    Foreign(&'static str),
}

/// A certificate of ours: of a peer, or of an authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    not_before_s: u64,
    not_after_s: u64,
    public_key: [u8; 32],
    key_hash: [u8; 32],
    is_authority: bool,
}

impl Certificate {
    /// Reads one. What it says of its owner is read by [`Certificate::badge`] or [`Certificate::authority_of`].
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let (not_before_s, not_after_s, public_key, key_hash, is_authority);
        {
            let parsed = parse(&der)?;
            let key = parsed.public_key();
            let signed_by = [&parsed.signature_algorithm, &parsed.tbs_certificate.signature, &key.algorithm];
            if !signed_by.iter().all(|algorithm| is_oid(&algorithm.algorithm, ED25519_OID)) {
                return Err(CertificateError::Algorithm);
            }
            let sealed = der.len().checked_sub(64).is_some_and(|end| der[..end].ends_with(SIGNED));
            if !sealed || key.subject_public_key.unused_bits != 0 {
                return Err(CertificateError::Form);
            }
            public_key =
                <[u8; 32]>::try_from(&*key.subject_public_key.data).map_err(|_| CertificateError::Algorithm)?;
            key_hash = hash(key.raw);
            let seconds =
                |time: i64| u64::try_from(time).map_err(|_| CertificateError::Foreign("it is older than 1970"));
            not_before_s = seconds(parsed.validity().not_before.timestamp())?;
            not_after_s = seconds(parsed.validity().not_after.timestamp())?;
            is_authority = match parsed.basic_constraints() {
                Ok(constraints) => constraints.is_some_and(|constraints| constraints.value.ca),
                Err(_) => return Err(CertificateError::Form),
            };
        }
        Ok(Self { der, not_before_s, not_after_s, public_key, key_hash, is_authority })
    }

    /// As it is sent.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// From when on it counts, in seconds since 1970.
    #[must_use]
    pub fn not_before_s(&self) -> u64 {
        self.not_before_s
    }

    /// Until when it counts, in seconds since 1970.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// Whether it counts at a time.
    #[must_use]
    pub fn counts_at(&self, now_s: u64) -> bool {
        (self.not_before_s..=self.not_after_s).contains(&now_s)
    }

    /// The key that it is made out to.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// SHA-256 of that key, as it stands in the certificate (the `SubjectPublicKeyInfo`). It stays the same when the
    /// certificate is renewed.
    #[must_use]
    pub fn key_hash(&self) -> [u8; 32] {
        self.key_hash
    }

    /// What it says of a peer.
    ///
    /// # Errors
    /// When it is an authority's, or says anything else than certificates of ours.
    pub fn badge(&self) -> Result<Badge, CertificateError> {
        if self.is_authority {
            return Err(CertificateError::Foreign("it is an authority's"));
        }
        let parsed = parse(&self.der)?;
        let [GeneralName::DNSName(name), GeneralName::URI(uri)] = &names(&parsed)?[..] else {
            return Err(CertificateError::Foreign("it has other names"));
        };
        let peer = name.strip_suffix(DOMAIN).and_then(hex).map(PeerId);
        let (cluster, host) = uri
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once("/host/"))
            .ok_or(CertificateError::Foreign("it names no host"))?;
        check_host(host).map_err(|_| CertificateError::Foreign("its host has an impossible name"))?;
        Ok(Badge {
            cluster: ClusterId(hex(cluster).ok_or(CertificateError::Foreign("it names no cluster"))?),
            peer: peer.ok_or(CertificateError::Foreign("it names no peer"))?,
            host: host.to_owned(),
            role: role(&parsed)?,
        })
    }

    /// Whose authority it is.
    ///
    /// # Errors
    /// When it is none of a cluster.
    pub fn authority_of(&self) -> Result<ClusterId, CertificateError> {
        if !self.is_authority {
            return Err(CertificateError::Foreign("it is no authority's"));
        }
        let parsed = parse(&self.der)?;
        let [GeneralName::URI(uri)] = &names(&parsed)?[..] else {
            return Err(CertificateError::Foreign("it has other names"));
        };
        let cluster = uri.strip_prefix(SCHEME).and_then(hex);
        cluster.map(ClusterId).ok_or(CertificateError::Foreign("it names no cluster"))
    }

    /// Whether this authority has signed it. Says nothing of the time.
    #[must_use]
    pub fn signed_by(&self, authority: &Self) -> bool {
        let Ok(parsed) = parse(&self.der) else { return false };
        authority.is_authority
            && verify(&authority.public_key, parsed.tbs_certificate.as_ref(), &parsed.signature_value.data)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Certificate");
        match (self.badge(), self.authority_of()) {
            (Ok(badge), _) => shown.field("badge", &badge),
            (_, Ok(cluster)) => shown.field("authority_of", &cluster),
            (Err(error), Err(_)) => shown.field("foreign", &error),
        };
        shown.field("not_after_s", &self.not_after_s).finish_non_exhaustive()
    }
}

/// SHA-256.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// [`Certificate::key_hash`] of this key, whether or not there is a certificate yet.
#[must_use]
pub fn key_hash(public_key: &[u8; 32]) -> [u8; 32] {
    // How DER begins for a key of this kind.
    const KEY: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    hash(&[KEY, public_key].concat())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::Long(der.len()));
    }
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(CertificateError::Form),
    }
}

fn is_oid(oid: &x509_parser::der_parser::oid::Oid<'_>, arcs: &[u64]) -> bool {
    oid.iter().is_some_and(|there| there.eq(arcs.iter().copied()))
}

fn names<'a>(parsed: &'a X509Certificate<'_>) -> Result<Vec<GeneralName<'a>>, CertificateError> {
    match parsed.subject_alternative_name() {
        Ok(Some(names)) => Ok(names.value.general_names.clone()),
        Ok(None) => Err(CertificateError::Foreign("it has no names")),
        Err(_) => Err(CertificateError::Form),
    }
}

/// Exactly one extension says the role, in a word as DER has it: a tag, a length, the word.
fn role(parsed: &X509Certificate<'_>) -> Result<Role, CertificateError> {
    let mut said = parsed.extensions().iter().filter(|extension| is_oid(&extension.oid, ROLE_OID));
    let (Some(extension), None) = (said.next(), said.next()) else {
        return Err(CertificateError::Foreign("it does not say one role"));
    };
    let known = matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. });
    let found = Role::ALL.iter().copied().find(|role| extension.value == role_der(*role));
    found.filter(|_| known).ok_or(CertificateError::Foreign("its role is none that this version knows"))
}

/// A role as it stands in a certificate: a UTF8String.
pub(super) fn role_der(role: Role) -> Vec<u8> {
    const UTF8_STRING: u8 = 12;
    let word = role.word().as_bytes();
    let length = u8::try_from(word.len()).expect("the words of roles are short");
    [&[UTF8_STRING, length], word].concat()
}

/// 32 digits, as ids are printed.
pub(super) fn hex(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}
