//! What peers say to each other beside the group: to join, to find each other before there is a group, to hand over
//! the authority, to ask each other how they are.
//!
//! JSON, `{"v":1,"FAMILY":{..}}`, bounded. A newer version may add fields, which an older one passes over, and kinds of
//! messages, which an older one refuses in words. Whoever sends one may be anybody.

pub mod found;
pub mod hand;
mod hex;
pub mod inquiry;
pub mod join;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use hex::{HexBytes, HexId, HexText};

/// A whole message, unless its family says otherwise.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The version that is written. Only a change that older ones must not pass over makes another one.
pub const VERSION: u32 = 1;

/// A message that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than any.
    #[error("a message of {0} bytes; at most {1} are taken")]
    Long(usize, usize),
    /// Of a version that this program does not know.
    #[error("a message of version {0}; this program understands {VERSION}")]
    Version(u32),
    /// None at all, or of a kind that this program does not know.
    #[error("a message that this version of the program does not understand: {0}")]
    Strange(String),
}

/// What every message has, whatever else is in it.
#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// A message as it is sent: `T` is a struct with a field `v` and one that is called like its family.
///
/// # Errors
/// [`MessageError::Long`].
pub fn write<T: Serialize>(message: &T) -> Result<Bytes, MessageError> {
    write_within(message, MESSAGE_BYTES_MAX)
}

/// The same, of a family whose messages are of another size.
///
/// # Errors
/// [`MessageError::Long`].
pub fn write_within<T: Serialize>(message: &T, most: usize) -> Result<Bytes, MessageError> {
    let text = serde_json::to_vec(message).map_err(|error| MessageError::Strange(error.to_string()))?;
    if text.len() > most { Err(MessageError::Long(text.len(), most)) } else { Ok(text.into()) }
}

/// A message as it came.
///
/// # Errors
/// [`MessageError`]; what was sent stands in it shortened.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    read_within(bytes, MESSAGE_BYTES_MAX)
}

/// The same, of a family whose messages are of another size.
///
/// # Errors
/// [`MessageError`].
pub fn read_within<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, MessageError> {
    if bytes.len() > most {
        return Err(MessageError::Long(bytes.len(), most));
    }
    let strange = |error: serde_json::Error| MessageError::Strange(printable(&error.to_string()));
    match serde_json::from_slice::<Head>(bytes).map_err(strange)?.v {
        VERSION => serde_json::from_slice(bytes).map_err(strange),
        other => Err(MessageError::Version(other)),
    }
}

/// Words of strangers, as they may be shown: not too many, and nothing that does something to a terminal.
#[must_use]
pub fn printable(words: &str) -> String {
    const SHOWN_MAX: usize = 300;
    words.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sent {
        v: u32,
        ask: Ask,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Ask {
        Who,
        Name { text: String },
    }

    #[test]
    fn fields_are_passed_over_and_kinds_are_not() {
        let sent = Sent { v: VERSION, ask: Ask::Name { text: "a".to_owned() } };
        let bytes = write(&sent).unwrap();
        assert_eq!(&bytes[..], br#"{"v":1,"ask":{"name":{"text":"a"}}}"#);
        assert_eq!(read::<Sent>(&bytes), Ok(sent));
        let more = br#"{"v":1,"more":[1],"ask":{"name":{"text":"a","more":{}}}}"#;
        assert!(read::<Sent>(more).is_ok());
        let mut said = Vec::new();
        let long = vec![b' '; MESSAGE_BYTES_MAX + 1];
        for bytes in [
            &br#"{"v":2,"ask":"who"}"#[..],
            br#"{"v":1,"ask":"why"}"#,
            br#"{"v":1}"#,
            b"{\"v\":1,\"ask\":\"\\u001b[2J\"}",
            b"\xff",
            b"",
            &long,
        ] {
            said.push(read::<Sent>(bytes).unwrap_err().to_string());
        }
        expect_test::expect![[r#"
            a message of version 2; this program understands 1
            a message that this version of the program does not understand: unknown variant `why`, expected `who` or `name` at line 1 column 18
            a message that this version of the program does not understand: missing field `ask` at line 1 column 7
            a message that this version of the program does not understand: unknown variant `�[2J`, expected `who` or `name` at line 1 column 24
            a message that this version of the program does not understand: expected value at line 1 column 1
            a message that this version of the program does not understand: EOF while parsing a value at line 1 column 0
            a message of 65537 bytes; at most 65536 are taken"#]].assert_eq(&said.join("\n"));
    }
}
