//! The authority of a cluster: who signs certificates.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};

use super::certificate::{Badge, Certificate, CertificateError, ROLE_OID, cluster_uri, hash, role_der, server_name};
use super::keys::{KeyError, KeyPair};
use crate::identity::{ClusterId, HostError, PeerId, check_host};

/// A day, in seconds.
pub const DAY_S: u64 = 24 * 60 * 60;
/// How long an authority lasts.
pub const AUTHORITY_DAYS: u64 = 3653;
/// How long a host's certificate lasts.
pub const CERTIFICATE_DAYS: u64 = 90;
/// After so many days it is renewed.
pub const RENEW_AFTER_DAYS: u64 = 30;
/// For so long after its end it can still be renewed, by whoever has its key.
pub const GRACE_DAYS: u64 = 30;
/// Certificates count from so long before they are made, because clocks differ.
pub const SKEW_S: u64 = 60 * 60;

/// Who signs the certificates of a cluster.
#[derive(Clone)]
pub struct Authority {
    certificate: Certificate,
    key: KeyPair,
    cluster: ClusterId,
}

/// A certificate that was not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The authority is none, or what was made is not what it should be.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate of an authority, and the key of another.
    #[error("the authority's key does not belong to its certificate")]
    OtherKey,
    /// Somebody of another cluster.
    #[error("the authority of cluster {0} signs nothing for cluster {1}")]
    OtherCluster(ClusterId, ClusterId),
    /// A host that cannot be.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No such time.
    #[error("the clock says {0} s since 1970, for which there are no certificates")]
    Time(u64),
    /// The encoder refuses.
    #[error("the certificate cannot be written: {0}")]
    Encode(String),
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness, or the clock is far off.
    pub fn create(cluster: ClusterId, now_s: u64) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let params = authority(cluster, &key, now_s)?;
        let made = params.self_signed(&key).map_err(|error| IssueError::Encode(error.to_string()))?;
        Self::from_parts(Certificate::from_der(made.der().to_vec())?, key)
    }

    /// From what was kept.
    ///
    /// # Errors
    /// When the two do not belong together, or it is no authority's certificate.
    pub fn from_parts(certificate: Certificate, key: KeyPair) -> Result<Self, IssueError> {
        let cluster = certificate.authority_of()?;
        if *certificate.public_key() != key.public_key() {
            return Err(IssueError::OtherKey);
        }
        Ok(Self { certificate, key, cluster })
    }

    /// What everybody may know of it.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What nobody but masters may know of it.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// Whose it is.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Signs that another authority of the same cluster takes its place: who believes this one then believes that one.
    ///
    /// # Errors
    /// When it is of another cluster.
    pub fn vouch(&self, next: &Self, now_s: u64) -> Result<Certificate, IssueError> {
        if next.cluster != self.cluster {
            return Err(IssueError::OtherCluster(self.cluster, next.cluster));
        }
        let params = authority(self.cluster, &next.key, now_s)?;
        let made = params.signed_by(&next.key, &self.issuer()).map_err(|e| IssueError::Encode(e.to_string()))?;
        Ok(Certificate::from_der(made.der().to_vec())?)
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        let mut ours = CertificateParams::default();
        ours.distinguished_name = name_of(self.cluster, &self.key);
        ours.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Issuer::new(ours, &self.key)
    }

    /// Signs that somebody with this key is who the badge says. Whether he is, was checked before.
    ///
    /// # Errors
    /// When the badge is of another cluster, or of a host that cannot be.
    pub fn issue(&self, badge: &Badge, public_key: &[u8; 32], now_s: u64) -> Result<Certificate, IssueError> {
        if badge.cluster != self.cluster {
            return Err(IssueError::OtherCluster(self.cluster, badge.cluster));
        }
        check_host(&badge.host)?;
        let mut params = leaf(badge.peer, public_key, now_s)?;
        params.subject_alt_names.push(SanType::URI(encoded(badge.uri())?));
        params.custom_extensions = vec![CustomExtension::from_oid_content(ROLE_OID, role_der(badge.role))];
        let made =
            params.signed_by(&Subject(*public_key), &self.issuer()).map_err(|e| IssueError::Encode(e.to_string()))?;
        let made = Certificate::from_der(made.der().to_vec())?;
        // What nobody would accept is not given out.
        if made.badge()? == *badge { Ok(made) } else { Err(CertificateError::Foreign("its names changed").into()) }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// A certificate that nobody vouches for: what visitors are shown by a host that belongs to no cluster yet.
///
/// # Errors
/// When the clock is far off.
pub fn temporary(peer: PeerId, key: &KeyPair, now_s: u64) -> Result<Vec<u8>, IssueError> {
    let params = leaf(peer, &key.public_key(), now_s)?;
    let made = params.self_signed(key).map_err(|error| IssueError::Encode(error.to_string()))?;
    Ok(made.der().to_vec())
}

/// What every authority's certificate has.
fn authority(cluster: ClusterId, key: &KeyPair, now_s: u64) -> Result<CertificateParams, IssueError> {
    let mut params = params(now_s, AUTHORITY_DAYS, &key.public_key())?;
    params.distinguished_name = name_of(cluster, key);
    params.subject_alt_names = vec![SanType::URI(encoded(cluster_uri(cluster))?)];
    // It signs hosts, and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// What every peer's certificate has: it is server to some and client to others.
fn leaf(peer: PeerId, public_key: &[u8; 32], now_s: u64) -> Result<CertificateParams, IssueError> {
    let mut params = params(now_s, CERTIFICATE_DAYS, public_key)?;
    params.distinguished_name.push(DnType::CommonName, server_name(peer));
    params.subject_alt_names = vec![SanType::DnsName(encoded(server_name(peer))?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn params(now_s: u64, days: u64, public_key: &[u8; 32]) -> Result<CertificateParams, IssueError> {
    // Until 9999, because the format has four digits for years.
    const LATEST_S: u64 = 253_402_300_799;
    let not_before = now_s.saturating_sub(SKEW_S);
    let not_after = now_s.saturating_add(days * DAY_S);
    if not_after > LATEST_S {
        return Err(IssueError::Time(now_s));
    }
    let since_1970 = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) = (since_1970(not_before), since_1970(not_after));
    params.serial_number = Some(serial(now_s, public_key));
    Ok(params)
}

/// A number that no other certificate of this authority has: the same key at the same second gets the same one, and
/// both certificates say the same. Positive, and not too long.
fn serial(now_s: u64, public_key: &[u8; 32]) -> SerialNumber {
    let mut number = hash(&[&public_key[..], &now_s.to_be_bytes()].concat())[..16].to_vec();
    number[0] = (number[0] & 0x7f) | 0x40;
    SerialNumber::from(number)
}

/// How the authority is called. Two of one cluster have different names, so that it is plain who signed.
fn name_of(cluster: ClusterId, key: &KeyPair) -> DistinguishedName {
    use std::fmt::Write as _;
    let mut name = format!("mgmt {cluster} ");
    for byte in &hash(&key.public_key())[..8] {
        write!(name, "{byte:02x}").expect("a string takes everything");
    }
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn encoded(text: String) -> Result<rcgen::string::Ia5String, IssueError> {
    text.try_into().map_err(|error: rcgen::Error| IssueError::Encode(error.to_string()))
}

impl PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.public_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message).to_vec())
    }
}

/// Somebody else's key.
struct Subject([u8; 32]);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}
