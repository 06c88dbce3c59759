//! Shows that one knows a secret, within one connection and without telling it.
//!
//! A proof is an HMAC over who speaks, what only the two ends of this connection know of it (the exporter), and the
//! message. So nobody in between can pass it on, no answer passes for a question, and nothing is worth replaying.

use std::fmt;

use ring::hmac;

/// Bytes of the shortest secret: a word is guessed, 16 drawn characters are not.
pub const SECRET_BYTES_MIN: usize = 16;
/// Bytes of the longest.
pub const SECRET_BYTES_MAX: usize = 1024;
/// What is proved, so that the same secret proves nothing elsewhere.
const CONTEXT: &[u8] = b"mgmt proof 1";

/// A secret that several hosts were given. What is shown of it is that there is one.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Asks,
    /// Who was asked.
    Answers,
}

/// It is no secret to rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short.
    #[error("a secret of {0} bytes is guessed: at least {SECRET_BYTES_MIN} are wanted, as of `openssl rand -hex 16`")]
    Short(usize),
    /// Too long.
    #[error("a secret of {0} bytes; at most {SECRET_BYTES_MAX} are read")]
    Long(usize),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.mark() == other.mark()
    }
}

impl Eq for Secret {}

impl Secret {
    /// From a text; white space around it is not part of it.
    ///
    /// # Errors
    /// It is too short or too long.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let bytes = text.trim().as_bytes();
        match bytes.len() {
            short if short < SECRET_BYTES_MIN => Err(SecretError::Short(short)),
            long if long > SECRET_BYTES_MAX => Err(SecretError::Long(long)),
            _ => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
        }
    }

    /// Proves a message of one's own side.
    pub fn prove(&self, side: Side, exporter: &[u8; 32], message: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, &proved(side, exporter, message));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether a message was proved by the other side. Takes the same time whatever is wrong.
    #[must_use]
    pub fn verify(&self, side: Side, exporter: &[u8; 32], message: &[u8], proof: &[u8]) -> bool {
        hmac::verify(&self.0, &proved(side, exporter, message), proof).is_ok()
    }

    /// Tells two secrets apart without telling either: for files.
    pub fn mark(&self) -> [u8; 8] {
        let tag = hmac::sign(&self.0, b"mgmt mark 1");
        tag.as_ref()[..8].try_into().expect("SHA-256 has more than 8 bytes")
    }
}

/// All but the message has a fixed length, so that no two ways to cut give the same bytes.
fn proved(side: Side, exporter: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let side = match side {
        Side::Asks => [1],
        Side::Answers => [2],
    };
    [CONTEXT, &side, exporter, message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_side_of_one_connection_and_one_message() {
        let (secret, other) = (Secret::new("0123456789abcdef").unwrap(), Secret::new("0123456789abcdeF").unwrap());
        let proof = secret.prove(Side::Asks, &[1; 32], b"hello");
        assert!(secret.verify(Side::Asks, &[1; 32], b"hello", &proof));
        assert!(!secret.verify(Side::Answers, &[1; 32], b"hello", &proof));
        assert!(!secret.verify(Side::Asks, &[2; 32], b"hello", &proof));
        assert!(!secret.verify(Side::Asks, &[1; 32], b"hell", &proof));
        assert!(!secret.verify(Side::Asks, &[1; 32], b"hello", &proof[..31]));
        assert!(!secret.verify(Side::Asks, &[1; 32], b"hello", b""));
        assert!(!other.verify(Side::Asks, &[1; 32], b"hello", &proof));
        assert_ne!(secret, other);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_secret_is_long_enough() {
        assert_eq!(Secret::new(" 0123456789abcdef\n"), Secret::new("0123456789abcdef"));
        assert_eq!(Secret::new("  0123456789abcde\n\n"), Err(SecretError::Short(15)));
        assert_eq!(Secret::new(""), Err(SecretError::Short(0)));
        assert_eq!(Secret::new(&"x".repeat(2000)), Err(SecretError::Long(2000)));
    }
}
