//! What an agent can be asked about the mesh, and how it answers: what goes over the socket, and nothing of what it means.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{Exit, Failure};

/// What is asked of this host's part in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the verbs; `cli::args` describes them")]
pub enum Ask {
    /// Who is in the mesh.
    Members,
    /// Reads a key; with a time, no older than what anybody was told, waiting so long for that.
    Get { key: String, latest_ms: Option<u64> },
    /// Reads keys that begin so, in lines of many.
    List { start: String, latest_ms: Option<u64>, values: bool },
    /// Writes a key.
    Put { key: String, value: Blob, lease_s: Option<u32>, limit_ms: u64 },
    /// Deletes a key, or all that begin so.
    Delete { key: String, all: bool, limit_ms: u64 },
    /// Follows changes after a revision; none: from now on.
    Watch { start: String, after: Option<u64> },
    /// From here on the connection speaks the line protocol.
    Pipe,
    /// Holds a lock for as long as the connection stands.
    Lock { name: String, count: u32, ttl_s: u32, wait_ms: u64 },
    /// Takes this host out of the mesh, also if that ends with it.
    Leave { yes: bool },
    /// Removes a host.
    Remove { host: String },
    /// Hands leadership over.
    Transfer { host: Option<String> },
    /// Says how many masters there should be, or sets it.
    Size { masters: Option<u8> },
    /// Replaces the authority.
    RotateCa,
    /// Lets hosts write.
    Allow { pattern: String, prefix: String },
    /// Takes it back.
    Disallow { pattern: String, prefix: String },
    /// What hosts may write.
    Rules,
    /// Makes a token.
    TokenCreate { role: String, ttl_s: u64, uses: u32, host: Option<String>, replace: bool },
    /// All tokens.
    TokenList,
    /// Makes one worthless.
    TokenRevoke { id: String },
    /// Who exports what, and who collects it.
    Exports,
    /// Removes all that a host exports.
    Forget { host: String },
    /// Saves what the mesh holds into a file.
    Save { file: std::path::PathBuf },
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was asked for, or a part of it.
    Ok(Value),
    /// Why not: the last line.
    Failed {
        /// The exit code.
        exit: u8,
        /// A sentence.
        message: String,
    },
}

impl Reply {
    /// A failure as it is sent.
    pub fn failed(failure: Failure) -> Self {
        Self::Failed { exit: failure.exit as u8, message: failure.message }
    }

    /// As it came.
    ///
    /// # Errors
    /// What the agent could not do.
    pub fn into_result(self) -> Result<Value, Failure> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Failed { exit, message } => Err(Failure::new(Exit::from_number(exit).unwrap_or(Exit::Bug), message)),
        }
    }
}

/// Bytes as JSON: a text where they are one, else their hexadecimal form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blob {
    /// A text.
    Text(String),
    /// Two digits a byte.
    Hex(String),
}

impl Blob {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Hex(hex(bytes)), |text| Self::Text(text.to_owned()))
    }

    /// The bytes; `None` where the digits are none.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex(digits) => unhex(&digits),
        }
    }
}

/// Two lower-case digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for bytes in [&b""[..], b"text", "größe\n".as_bytes(), b"\xff\x00\x10"] {
            let json = serde_json::to_string(&Blob::of(bytes)).unwrap();
            assert_eq!(serde_json::from_str::<Blob>(&json).unwrap().bytes().as_deref(), Some(bytes), "{json}");
        }
        for bad in ["a", "0g", "+1"] {
            assert_eq!(Blob::Hex(bad.to_owned()).bytes(), None, "{bad}");
        }
    }

    #[test]
    fn failures_carry_their_exit_code() {
        let failure = Failure::new(Exit::TryAgain, "no quorum now");
        assert_eq!(Reply::failed(failure.clone()).into_result(), Err(failure));
        let strange = Reply::Failed { exit: 200, message: String::new() };
        assert_eq!(strange.into_result().unwrap_err().exit, Exit::Bug);
    }
}
