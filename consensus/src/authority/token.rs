//! What lets a host in: a text that people carry from one host to another.
//!
//! `mgmt1_CLUSTER_AUTHORITY_ID_SECRET_SUM`: which cluster, the hash of its authority's key, the token's name in the
//! store, the seed of a key of which the store has the public half, and a checksum of all that. The joiner knows from
//! it whom to trust, and shows by signing that it has it; the secret never leaves it.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::Ed25519KeyPair;

use super::certificate::hash;
use super::keys::{KeyError, public_key, sign};
use super::text;
use crate::identity::ClusterId;

pub use super::keys::verify;

/// How a token begins. The number is the version of everything behind it.
const PREFIX: &str = "mgmt1";
/// How every version begins.
const FAMILY: &str = "mgmt";
/// Bytes of a token's name: nobody gains anything by guessing it.
const ID_BYTES: usize = 5;
/// Bytes of the checksum.
const SUM_BYTES: usize = 5;
/// Characters of a whole token.
const LENGTH: usize =
    PREFIX.len() + text::length(16) + 2 * text::length(32) + text::length(ID_BYTES) + text::length(SUM_BYTES) + 5;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where it lets in.
    pub cluster: ClusterId,
    /// [`Certificate::key_hash`](super::Certificate::key_hash) of the authority.
    pub authority: [u8; 32],
    /// Its name in the store.
    pub id: String,
    secret: [u8; 32],
}

/// It is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("this is no token: tokens begin with {PREFIX}_; `mgmt token create` on a member of the mesh makes one")]
    Other,
    /// Of another version.
    #[error("this is a token of another version of this program; this one knows those that begin with {PREFIX}_")]
    Version,
    /// Cut, or something is behind it.
    #[error("the token has {0} characters instead of {LENGTH}: copy all of it, and nothing else")]
    Length(usize),
    /// A character that no token has there.
    #[error("character {at} of the token is {found:?}, which cannot be there: tokens have a-z, 2-7 and '_'")]
    Character {
        /// Where, from 1.
        at: usize,
        /// What.
        found: char,
    },
    /// Something is not as it was written.
    #[error("the token was changed on its way: its checksum does not fit; copy it again from where it was made")]
    Sum,
}

impl Token {
    /// Draws a token for a cluster with this authority.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn draw(cluster: ClusterId, authority: [u8; 32]) -> Result<Self, KeyError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| KeyError::Random)?;
        Ok(Self { cluster, authority, id: text::encode(&id), secret })
    }

    /// The half that the store has.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        public_key(&self.pair())
    }

    /// Shows that somebody has the token.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        sign(&self.pair(), message)
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.secret).expect("any 32 bytes are a seed")
    }

    /// Everything but the checksum.
    fn body(&self) -> String {
        let (cluster, authority) = (text::encode(&self.cluster.0.to_be_bytes()), text::encode(&self.authority));
        format!("{PREFIX}_{cluster}_{authority}_{}_{}", self.id, text::encode(&self.secret))
    }
}

fn sum(body: &str) -> String {
    text::encode(&hash(body.as_bytes())[..SUM_BYTES])
}

/// All of it, secret included: for whoever is to carry it.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}_{}", sum(&body))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("cluster", &self.cluster).field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(given: &str) -> Result<Self, TokenError> {
        let given = given.trim();
        match given.split_once('_').map(|(first, _)| first) {
            Some(PREFIX) => {}
            Some(first) if is_version(first) => return Err(TokenError::Version),
            _ => return Err(TokenError::Other),
        }
        let odd = |(_, c): &(usize, char)| !matches!(c, 'a'..='z' | '2'..='7' | '_');
        if let Some((at, found)) = given.chars().enumerate().skip(PREFIX.len()).find(odd) {
            return Err(TokenError::Character { at: at + 1, found });
        }
        if given.len() != LENGTH {
            return Err(TokenError::Length(given.len()));
        }
        let (body, said) = given.rsplit_once('_').ok_or(TokenError::Sum)?;
        if sum(body) != said {
            return Err(TokenError::Sum);
        }
        read(body).ok_or(TokenError::Sum)
    }
}

/// Whether it is the first word of a token of some version.
fn is_version(first: &str) -> bool {
    let number = first.strip_prefix(FAMILY).unwrap_or_default();
    (1..=4).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

fn read(body: &str) -> Option<Token> {
    let parts: Vec<&str> = body.split('_').collect();
    let [_, cluster, authority, id, secret] = parts[..] else { return None };
    // Read and not only copied, so that it is one.
    let id: [u8; ID_BYTES] = text::decode(id)?;
    Some(Token {
        cluster: ClusterId(u128::from_be_bytes(text::decode(cluster)?)),
        authority: text::decode(authority)?,
        id: text::encode(&id),
        secret: text::decode(secret)?,
    })
}
