//! A client of the store that speaks its line protocol: `kv pipe`, with deadlines.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No answer by then: nobody knows what came of it, and the connection is given up.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(15);

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, with what was said.
    Ok(String),
    /// There is no such key.
    Missing,
    /// Another value was there.
    Other,
    /// For sure not done, in words.
    Never(String),
    /// The connection is gone or too slow, or the peer does not know: it may be done, once.
    Unknown(String),
}

impl Answer {
    fn of(kind: &str, rest: &str) -> Self {
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match (kind, word) {
            ("OK", _) => Self::Ok(rest.to_owned()),
            ("ERR", "missing") => Self::Missing,
            ("ERR", "other") => Self::Other,
            ("ERR", "unavailable" | "refused") => Self::Never(rest.to_owned()),
            ("ERR", "unknown") => Self::Unknown(text.to_owned()),
            _ => panic!("not of the protocol: {kind} {rest}"),
        }
    }
}

/// One connection. Answers come in any order on it; this client asks one thing at a time.
pub(crate) struct Pipe {
    child: Child,
    to: UnixStream,
    from: BufReader<UnixStream>,
    number: u64,
    line: String,
    broken: bool,
}

impl Pipe {
    /// Runs what reads requests and writes answers. `None` if it cannot be started.
    pub(crate) fn open(mut command: Command) -> Option<Self> {
        let (ours, theirs) = UnixStream::pair().ok()?;
        let also = theirs.try_clone().ok()?;
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(OwnedFd::from(also)));
        let child = command.stderr(Stdio::null()).spawn().ok()?;
        // It holds the other end now, and ours breaks when it ends.
        drop(command);
        ours.set_read_timeout(Some(ANSWER_TIME)).ok()?;
        ours.set_write_timeout(Some(ANSWER_TIME)).ok()?;
        let from = BufReader::new(ours.try_clone().ok()?);
        Some(Self { child, to: ours, from, number: 0, line: String::new(), broken: false })
    }

    /// Whether it cannot be used any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        let answer = if self.broken { None } else { self.try_ask(request) };
        self.broken |= answer.is_none();
        answer.unwrap_or_else(|| Answer::Unknown("the connection is gone".to_owned()))
    }

    fn try_ask(&mut self, request: &str) -> Option<Answer> {
        self.number += 1;
        let number = self.number.to_string();
        self.to.write_all(format!("{number} {request}\n").as_bytes()).ok()?;
        let until = Instant::now() + ANSWER_TIME;
        loop {
            self.read_line(until)?;
            let mut words = self.line.trim_end_matches('\n').splitn(3, ' ');
            // Answers to what was given up belong to nobody.
            if words.next() != Some(&number) {
                continue;
            }
            return Some(Answer::of(words.next()?, words.next().unwrap_or_default()));
        }
    }

    fn read_line(&mut self, until: Instant) -> Option<()> {
        self.line.clear();
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            self.to.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
            match self.from.read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.ends_with('\n') => return Some(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _gone = self.to.shutdown(Shutdown::Both);
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
