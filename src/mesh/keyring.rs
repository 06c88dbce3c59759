//! What this host can prove, while it is a member: its papers, and on masters the authority that signs those of others.
//!
//! They change while it runs (renewed, handed over, taken back), on disk first and then here. Must not know who asks.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Authority, Certificate, KeyPair, pem_of_certificates, pem_of_key};

use super::papers::{self, Papers};
use super::place::{Part, Place};

/// Papers, and the authority where its key is.
#[derive(Debug)]
pub struct Keyring {
    place: Place,
    /// Never held while the disk is waited for.
    held: Mutex<Held>,
    /// One change at a time, over both the disk and what is held.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Held {
    papers: Papers,
    authority: Option<Authority>,
}

/// Why an authority is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The disk.
    #[error("keep the authority: {0}")]
    Io(#[from] io::Error),
    /// It is none of this cluster.
    #[error("this is no authority of this cluster: {0}")]
    Foreign(String),
}

impl Keyring {
    /// With what lies on disk. The key of an authority that cannot be read is as good as none: whoever leads hands it
    /// over again.
    #[must_use]
    pub fn open(place: Place, papers: Papers) -> Self {
        let authority = papers::authority(&place, &papers).unwrap_or_else(|error| {
            tracing::warn!("mesh: {error}; this host signs nothing until it is given the key again");
            None
        });
        Self { place, held: Mutex::new(Held { papers, authority }), changing: Mutex::new(()) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This host's papers, as they are now.
    #[must_use]
    pub fn papers(&self) -> Papers {
        self.held().papers.clone()
    }

    /// The authority, if its key is here.
    #[must_use]
    pub fn authority(&self) -> Option<Authority> {
        self.held().authority.clone()
    }

    /// The hash of the key that has signed this host's certificate, as far as that authority is believed.
    #[must_use]
    pub fn signer(&self) -> Option<[u8; 32]> {
        let held = self.held();
        let mut believed = held.papers.authorities.iter();
        believed.find(|authority| held.papers.certificate.signed_by(authority)).map(Certificate::key_hash)
    }

    /// Keeps the authority's key, and whom to believe: the authority itself first. Waits for the disk; it survives a
    /// power cut once this returns.
    ///
    /// # Errors
    /// [`KeepError`]; everything is as before then.
    pub fn keep(&self, authorities: Vec<Certificate>, key: KeyPair) -> Result<(), KeepError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign = |error: &dyn std::fmt::Display| KeepError::Foreign(error.to_string());
        let first = authorities.first().cloned().ok_or_else(|| foreign(&"there is none"))?;
        self.check(&authorities)?;
        let believed = self.papers().authorities;
        if !authorities.iter().any(|one| believed.contains(one)) {
            return Err(foreign(&"none of these was believed here before"));
        }
        let authority = Authority::from_parts(first, key).map_err(|error| foreign(&error))?;
        // Whom to believe goes first: a key without its certificate could not be used.
        self.place.save(Part::Authorities, &pem_of_certificates(&authorities))?;
        self.place.save(Part::AuthorityKey, &pem_of_key(authority.key()))?;
        let mut held = self.held();
        held.papers.authorities = authorities;
        held.authority = Some(authority);
        Ok(())
    }

    /// Throws the authority's key away. Whether there was one.
    ///
    /// # Errors
    /// What the disk says; the key is not used any more all the same.
    pub fn forget(&self) -> io::Result<bool> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let had = self.held().authority.take().is_some();
        self.place.remove(Part::AuthorityKey)?;
        Ok(had)
    }

    /// Makes the token for those of this house name the authority that signs now: id and secret stay as they are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn readdress(&self) -> io::Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = self.place.load(Part::HouseToken)? else { return Ok(()) };
        let newest = self.held().papers.authorities.first().map(Certificate::key_hash);
        let (Ok(mut token), Some(newest)) = (text.trim().parse::<Token>(), newest) else { return Ok(()) };
        if token.authority != newest {
            token.authority = newest;
            self.place.save(Part::HouseToken, &token.to_string())?;
        }
        Ok(())
    }

    /// Takes another certificate, and whom to believe.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn renew(&self, certificate: Certificate, authorities: Vec<Certificate>) -> Result<(), KeepError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&authorities)?;
        let papers = Papers { certificate, authorities, ..self.papers() };
        if !papers.authorities.iter().any(|authority| papers.certificate.signed_by(authority)) {
            return Err(KeepError::Foreign("it has not signed this certificate".to_owned()));
        }
        papers.save(&self.place)?;
        self.held().papers = papers;
        Ok(())
    }

    /// Takes over whom to believe. Whether that is anything new.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn believe(&self, authorities: Vec<Certificate>) -> Result<bool, KeepError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.papers();
        if authorities == before.authorities {
            return Ok(false);
        }
        self.check(&authorities)?;
        if !authorities.iter().any(|authority| before.certificate.signed_by(authority)) {
            // Nobody would believe this host any more; it is renewed first.
            return Ok(false);
        }
        self.place.save(Part::Authorities, &pem_of_certificates(&authorities))?;
        self.held().papers.authorities = authorities;
        Ok(true)
    }

    /// Whether all of these are authorities of this host's cluster.
    fn check(&self, authorities: &[Certificate]) -> Result<(), KeepError> {
        let foreign = |error: &dyn std::fmt::Display| KeepError::Foreign(error.to_string());
        let cluster = self.papers().badge().map_err(|error| foreign(&error))?.cluster;
        if authorities.is_empty() || authorities.len() > mgmt_consensus::limits::AUTHORITIES_MAX {
            return Err(foreign(&format!("{} authorities at once", authorities.len())));
        }
        for authority in authorities {
            let of = authority.authority_of().map_err(|error| foreign(&error))?;
            if of != cluster {
                return Err(foreign(&format!("it is of cluster {of}")));
            }
        }
        Ok(())
    }
}
