//! Who this host is to others: its key, its certificate, the authorities it believes, and on masters the authority's key.

use std::io;

use mgmt_consensus::authority::{
    Authority, Badge, Certificate, KeyPair, Role, certificates_from_pem, key_from_pem, pem_of_certificates, pem_of_key,
};
use mgmt_consensus::quic::Credentials;
use mgmt_consensus::{ClusterId, PeerId};

use super::place::{Part, Place};
use super::surroundings::unix_ms;

/// Key, certificate and authorities of a member.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The key. It never leaves this host.
    pub key: KeyPair,
    /// What the authority says of this host.
    pub certificate: Certificate,
    /// Whom this host believes, the newest first.
    pub authorities: Vec<Certificate>,
}

/// Why papers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PapersError {
    /// The disk.
    #[error("read the files of the mesh: {0}")]
    Io(#[from] io::Error),
    /// Chance or signing has failed.
    #[error("make papers: {0}")]
    Make(String),
    /// A file is not what it should be.
    #[error("{file} cannot be used: {why}")]
    Damaged {
        /// Which one.
        file: String,
        /// In words.
        why: String,
    },
}

impl Papers {
    /// Of somebody who founds a cluster: it is its own authority's first customer.
    ///
    /// # Errors
    /// [`PapersError`].
    pub fn found(place: &Place, cluster: ClusterId, peer: PeerId, host: &str) -> Result<Self, PapersError> {
        let key = KeyPair::generate().map_err(|e| PapersError::Make(e.to_string()))?;
        Self::found_with(place, cluster, peer, host, key)
    }

    /// Like [`Self::found`], with a key that there is already.
    ///
    /// # Errors
    /// [`PapersError`].
    pub fn found_with(
        place: &Place,
        cluster: ClusterId,
        peer: PeerId,
        host: &str,
        key: KeyPair,
    ) -> Result<Self, PapersError> {
        let now_s = unix_ms() / 1000;
        let authority = Authority::create(cluster, now_s).map_err(|e| PapersError::Make(e.to_string()))?;
        let badge = Badge { cluster, peer, host: host.to_owned(), role: Role::Admin };
        let certificate = authority.issue(&badge, &key.public_key(), now_s);
        let certificate = certificate.map_err(|e| PapersError::Make(e.to_string()))?;
        let papers = Self { key, certificate, authorities: vec![authority.certificate().clone()] };
        place.save(Part::AuthorityKey, &pem_of_key(authority.key()))?;
        papers.save(place)?;
        Ok(papers)
    }

    /// What is there, if anything is.
    ///
    /// # Errors
    /// [`PapersError`].
    pub fn load(place: &Place) -> Result<Option<Self>, PapersError> {
        let damaged =
            |part: Part, why: String| PapersError::Damaged { file: place.path(part).display().to_string(), why };
        let (Some(key), Some(certificate), Some(authorities)) =
            (place.load(Part::Key)?, place.load(Part::Certificate)?, place.load(Part::Authorities)?)
        else {
            return Ok(None);
        };
        let key = key_from_pem(key.as_bytes()).map_err(|error| damaged(Part::Key, error.to_string()))?;
        let no_certificate = || damaged(Part::Certificate, "there is none in it".to_owned());
        let certificate = certificates_from_pem(certificate.as_bytes())
            .map_err(|error| damaged(Part::Certificate, error.to_string()))?
            .into_iter()
            .next()
            .ok_or_else(no_certificate)?;
        let authorities = certificates_from_pem(authorities.as_bytes())
            .map_err(|error| damaged(Part::Authorities, error.to_string()))?;
        if *certificate.public_key() != key.public_key() {
            return Err(damaged(Part::Certificate, "it is not of this host's key".to_owned()));
        }
        Ok(Some(Self { key, certificate, authorities }))
    }

    /// Writes them down. The key goes first, the certificate last: papers are there once all of them are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(&self, place: &Place) -> io::Result<()> {
        place.save(Part::Key, &pem_of_key(&self.key))?;
        place.save(Part::Authorities, &pem_of_certificates(&self.authorities))?;
        place.save(Part::Certificate, &pem_of_certificates(std::slice::from_ref(&self.certificate)))
    }

    /// What the certificate says.
    ///
    /// # Errors
    /// It says nothing that this program understands.
    pub fn badge(&self) -> Result<Badge, PapersError> {
        let damaged = |why: String| PapersError::Damaged { file: "the certificate".to_owned(), why };
        self.certificate.badge().map_err(|error| damaged(error.to_string()))
    }

    /// As the transport wants them.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials {
            certificate: self.certificate.der().to_vec(),
            key: self.key.pkcs8().to_vec(),
            authorities: self.authorities.iter().map(|authority| authority.der().to_vec()).collect(),
        }
    }
}

/// The authority itself, where its key is.
///
/// # Errors
/// [`PapersError`].
pub fn authority(place: &Place, papers: &Papers) -> Result<Option<Authority>, PapersError> {
    let Some(key) = place.load(Part::AuthorityKey)? else { return Ok(None) };
    let damaged =
        |why: String| PapersError::Damaged { file: place.path(Part::AuthorityKey).display().to_string(), why };
    let key = key_from_pem(key.as_bytes()).map_err(|error| damaged(error.to_string()))?;
    let of_key = |certificate: &&Certificate| *certificate.public_key() == key.public_key();
    match papers.authorities.iter().find(of_key).cloned() {
        Some(certificate) => Authority::from_parts(certificate, key).map(Some).map_err(|e| damaged(e.to_string())),
        None => Err(damaged("it is the key of no authority that this host believes".to_owned())),
    }
}
