//! What hosts say that found a mesh together: who is there, who has promised what to whom, who is a member already.
//!
//! Each message is sealed with the secret that all of them were given; what cannot be unsealed is not read any further.

use std::net::SocketAddr;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::authority::proof::{Secret, Side};
use mgmt_consensus::identity::check_host;
use serde::{Deserialize, Serialize};

use super::{HexBytes, HexId, MessageError, VERSION, read, write};

/// Hosts that one message tells of.
pub const KNOWN_MAX: usize = 128;
/// Addresses of one host.
pub const ADDRESSES_MAX: usize = 8;

/// A host that is nobody's member yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    /// Who it is, over restarts.
    pub peer: HexId,
    /// Its name.
    pub host: String,
}

/// One that somebody has heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Who.
    pub who: Who,
    /// Where it was reached.
    pub addresses: Vec<SocketAddr>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub from: Who,
    /// With how many it founds.
    pub expect: u16,
    /// For what.
    pub what: What,
    /// Whom it has heard itself, lately.
    pub seen: Vec<Known>,
}

/// For what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Who is there?
    Hello,
    /// Promise that the asker, and nobody else, may found.
    Promise,
    /// There is a mesh: come. By members, to the seeds they were started with: one of those may know nobody.
    Come(Mesh),
}

/// A mesh that is there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Which.
    pub cluster: HexId,
    /// What lets in; none if whoever speaks has none just now.
    pub token: Option<String>,
    /// Whom to ask, best first; where this came from is always worth a try.
    pub addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = if self.token.is_some() { "a token" } else { "no token" };
        write!(f, "cluster {:?} at {:?} with {token}", self.cluster, self.addresses)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// By one that is nobody's member either.
    Pristine {
        /// Who.
        from: Who,
        /// With how many it founds.
        expect: u16,
        /// To whom it has promised, on its disk.
        promised: Option<Who>,
        /// Whom it has heard itself, lately.
        seen: Vec<Known>,
    },
    /// By a member: there is a mesh.
    Member(Mesh),
    /// By one that cannot take part with the asker.
    Refused {
        /// A sentence.
        why: String,
    },
}

/// What is seen of a message on the way.
#[derive(Serialize, Deserialize)]
struct Sealed {
    v: u32,
    found: Seal,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Seal {
    /// JSON, and the proof that whoever wrote it knows the secret.
    Said { text: String, proof: HexBytes<32> },
    /// The other's message could not be unsealed: the secrets are not the same.
    Stranger,
}

/// What cannot be unsealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is none.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The proof is of another secret.
    #[error("it was given another secret")]
    Stranger,
    /// It says what cannot be.
    #[error("{0}")]
    Nonsense(&'static str),
}

/// Seals a message for one connection.
///
/// # Errors
/// It is too long.
pub fn seal<T: Serialize>(secret: &Secret, side: Side, exporter: &[u8; 32], said: &T) -> Result<Bytes, MessageError> {
    let text = serde_json::to_string(said).map_err(|error| MessageError::Strange(error.to_string()))?;
    let proof = HexBytes(secret.prove(side, exporter, text.as_bytes()));
    write(&Sealed { v: VERSION, found: Seal::Said { text, proof } })
}

/// The answer to what could not be unsealed.
pub fn stranger() -> Bytes {
    write(&Sealed { v: VERSION, found: Seal::Stranger }).unwrap_or_default()
}

fn unseal(secret: &Secret, side: Side, exporter: &[u8; 32], bytes: &[u8]) -> Result<String, SealError> {
    match read::<Sealed>(bytes)?.found {
        Seal::Said { text, proof } if secret.verify(side, exporter, text.as_bytes(), &proof.0) => Ok(text),
        Seal::Said { .. } | Seal::Stranger => Err(SealError::Stranger),
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SealError> {
    serde_json::from_str(text).map_err(|error| MessageError::Strange(super::printable(&error.to_string())).into())
}

/// Reads what was asked.
///
/// # Errors
/// [`SealError`].
pub fn asked(secret: &Secret, exporter: &[u8; 32], bytes: &[u8]) -> Result<Ask, SealError> {
    let ask: Ask = parse(&unseal(secret, Side::Asks, exporter, bytes)?)?;
    check(Some(&ask.from), &ask.seen)?;
    if let What::Come(mesh) = &ask.what {
        plausible(mesh)?;
    }
    Ok(ask)
}

/// Reads what was answered.
///
/// # Errors
/// [`SealError`].
pub fn answered(secret: &Secret, exporter: &[u8; 32], bytes: &[u8]) -> Result<Answer, SealError> {
    let answer: Answer = parse(&unseal(secret, Side::Answers, exporter, bytes)?)?;
    match &answer {
        Answer::Pristine { from, promised, seen, .. } => {
            check(Some(from), seen)?;
            check(promised.as_ref(), &[])?;
        }
        Answer::Member(mesh) => plausible(mesh)?,
        Answer::Refused { .. } => {}
    }
    Ok(answer)
}

fn plausible(mesh: &Mesh) -> Result<(), SealError> {
    match mesh.addresses.len() {
        0..=KNOWN_MAX => Ok(()),
        _ => Err(SealError::Nonsense("a mesh with too many addresses")),
    }
}

fn check(who: Option<&Who>, seen: &[Known]) -> Result<(), SealError> {
    if seen.len() > KNOWN_MAX || seen.iter().any(|known| known.addresses.len() > ADDRESSES_MAX) {
        return Err(SealError::Nonsense("it has seen too many"));
    }
    let whos = who.into_iter().chain(seen.iter().map(|known| &known.who));
    if whos.into_iter().any(|who| check_host(&who.host).is_err()) {
        return Err(SealError::Nonsense("a host with a name that none has"));
    }
    Ok(())
}

impl Who {
    /// One of these.
    pub fn new(peer: PeerId, host: &str) -> Self {
        Self { peer: HexId(peer.0), host: host.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: &str) -> Ask {
        let from = Who::new(PeerId(0xa), host);
        let known = Known { who: from.clone(), addresses: vec!["10.0.0.1:6468".parse().unwrap()] };
        Ask { from, expect: 3, what: What::Promise, seen: vec![known] }
    }

    #[test]
    fn what_is_sealed_is_read_by_who_knows_the_secret_on_the_same_connection() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        let sent = seal(&secret, Side::Asks, &[1; 32], &ask("a")).unwrap();
        assert_eq!(asked(&secret, &[1; 32], &sent), Ok(ask("a")));
        assert_eq!(asked(&secret, &[2; 32], &sent), Err(SealError::Stranger));
        assert_eq!(answered(&secret, &[1; 32], &sent), Err(SealError::Stranger), "an ask is no answer");
        let other = Secret::new("another secret it is").unwrap();
        assert_eq!(asked(&other, &[1; 32], &sent), Err(SealError::Stranger));
        assert_eq!(answered(&secret, &[1; 32], &stranger()), Err(SealError::Stranger));
        let text = String::from_utf8(sent.to_vec()).unwrap();
        expect_test::expect![[r#"{"v":1,"found":{"said":{"text":"{\"from\":{\"peer\":\"0000000000000000000000000000000a\",\"host\":\"a\"},\"expect\":3,\"what\":\"promise\",\"seen\":[{\"who\":{\"peer\":\"0000000000000000000000000000000a\",\"host\":\"a\"},\"addresses\":[\"10.0.0.1:6468\"]}]}","proof":"9fb80248e01a20f978f005bdfd3676b86e574d49dfd2e1af35922c42838e804e"}}}"#]].assert_eq(&text);
    }

    #[test]
    fn what_cannot_be_is_not_believed_even_of_friends() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        let read = |ask: &Ask| asked(&secret, &[1; 32], &seal(&secret, Side::Asks, &[1; 32], ask).unwrap());
        assert!(matches!(read(&ask("../a")), Err(SealError::Nonsense(_))));
        let many = Ask { seen: vec![ask("a").seen[0].clone(); KNOWN_MAX + 1], ..ask("a") };
        assert!(matches!(read(&many), Err(SealError::Nonsense(_))));
        assert!(matches!(asked(&secret, &[1; 32], b"{}"), Err(SealError::Message(_))));
        let long = "x".repeat(super::super::MESSAGE_BYTES_MAX);
        assert!(seal(&secret, Side::Answers, &[1; 32], &Answer::Refused { why: long }).is_err());
    }
}
