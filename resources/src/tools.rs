//! Programs of this machine that a kind asks to do its work: `useradd`, `apt-get`, `mount`. Run to their end, without a
//! terminal, with a small environment of their own; what they say is bounded, and comes back with how they ended.
//!
//! Not for what users ask to run: that is `exec`. Must not know what any of the programs does.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::exec::reaper::ensure_sweeper;
use mgmt_engine::resource::Fault;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Where they are looked for, and what they are told to look in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of each of the two streams, the last so many bytes are kept, if nobody says otherwise.
const SAID_BYTES_MAX: usize = 64 * 1024;
/// How many of the last lines a fault shows, and how much of each.
const SHOWN_LINES_MAX: usize = 3;
const SHOWN_CHARS_MAX: usize = 300;
/// Who has not said otherwise gives a program so long.
const WITHIN: Duration = Duration::from_secs(60);

/// One run of a program.
#[derive(Debug)]
pub struct Tool {
    name: &'static str,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    input: Vec<u8>,
    within: Option<Duration>,
    said_bytes_max: usize,
}

/// How a program ended, and the last of what it said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: ExitStatus,
    /// From its standard output.
    pub out: String,
    /// From its standard error.
    pub err: String,
}

impl Said {
    /// The same, if it was a good end.
    ///
    /// # Errors
    /// It ended with anything but 0: with its last words.
    pub fn good(self, name: &str) -> Result<Self, Fault> {
        if self.status.success() {
            return Ok(self);
        }
        let words = self.last_words();
        let colon = if words.is_empty() { "" } else { ": " };
        Err(Fault::new(format!("{name} ended with {}{colon}{words}", status(self.status))))
    }

    /// The last lines it said, on one line, for people: of its errors, or else of its output.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..];
        let cut = |line: &&str| line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect::<String>();
        shown.iter().map(cut).collect::<Vec<_>>().join("; ")
    }
}

/// Whether this machine has a program of this name.
#[must_use]
pub fn has(name: &str) -> bool {
    find(name).is_some()
}

/// Where the program of this name is.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    PATH.split(':')
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

impl Tool {
    /// A run of the program of this name, without arguments.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            within: Some(WITHIN),
            said_bytes_max: SAID_BYTES_MAX,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// A variable of its environment, besides PATH, HOME and LANG=C.UTF-8.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// What it reads from its standard input; without this, nothing.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// It gets so long, and KILL after that, with all of its group.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// It is never killed, whatever becomes of us or of whoever waits: what it does must not end half way.
    #[must_use]
    pub fn uninterrupted(mut self) -> Self {
        self.within = None;
        self
    }

    /// So much of each stream is kept: the last of it.
    #[must_use]
    pub fn said_bytes_max(mut self, bytes: usize) -> Self {
        self.said_bytes_max = bytes;
        self
    }

    /// Runs it to its end, however that is. If this is dropped before, the program is killed, unless it is
    /// [uninterrupted](Self::uninterrupted): then it goes on alone.
    ///
    /// # Errors
    /// There is no such program, it cannot be started, or it took too long.
    pub async fn ended(self) -> Result<Said, Fault> {
        let Some(path) = find(self.name) else {
            return Err(Fault::new(format!("this machine has no program '{}' (looked in {PATH})", self.name)));
        };
        let mut command = Command::new(&path);
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/").process_group(0);
        command.kill_on_drop(self.within.is_some());
        let (name, most) = (self.name, self.said_bytes_max);
        let files = if self.within.is_none() { Some(Files::of(&mut command).map_err(unheard(name))?) } else { None };
        ensure_sweeper();
        let mut child = command.spawn().map_err(|error| Fault::path("run", &path, error))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let talk = talk(&mut child, self.input, most);
        let ended = match self.within {
            None => match (talk.await, files) {
                (Ok(said), Some(files)) => files.said(said.status, most),
                (ended, _) => ended,
            },
            Some(time) => match timeout(time, talk).await {
                Ok(ended) => ended,
                Err(_) => {
                    if let Some(group) = group {
                        // Gone by itself in this moment is as good.
                        kill_process_group(group, Signal::KILL).ok();
                    }
                    return Err(Fault::new(format!("{name} took longer than {} s, and was killed", time.as_secs())));
                }
            },
        };
        ended.map_err(unheard(name))
    }

    /// Runs it to a good end.
    ///
    /// # Errors
    /// As [`ended`](Self::ended); or it ended with anything but 0: with its last words.
    pub async fn done(self) -> Result<Said, Fault> {
        let name = self.name;
        self.ended().await?.good(name)
    }
}

fn unheard(name: &'static str) -> impl Fn(std::io::Error) -> Fault {
    move |error| Fault::new(format!("cannot follow {name}: {error}"))
}

/// Where a program writes that is never killed: into memory. A pipe would break with us, and the program with the pipe;
/// and what it leaves running would keep a pipe open, and us waiting.
struct Files {
    out: File,
    err: File,
}

impl Files {
    fn of(command: &mut Command) -> std::io::Result<Self> {
        let make = || Ok::<_, std::io::Error>(File::from(memfd_create("said", MemfdFlags::CLOEXEC)?));
        let files = Self { out: make()?, err: make()? };
        command.stdout(files.out.try_clone()?).stderr(files.err.try_clone()?);
        Ok(files)
    }

    fn said(self, status: ExitStatus, most: usize) -> std::io::Result<Said> {
        let last = |file: File| {
            let length = file.metadata()?.len();
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(most).min(most)];
            let from = length - bytes.len() as u64;
            file.read_exact_at(&mut bytes, from)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Said { status, out: last(self.out)?, err: last(self.err)? })
    }
}

/// `exit status 9`, `signal 15`.
fn status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

async fn talk(child: &mut Child, input: Vec<u8>, most: usize) -> std::io::Result<Said> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Who does not want to read all of it says so by how it ends.
            stdin.write_all(&input).await.ok();
        }
    };
    let (status, out, err, ()) = tokio::join!(child.wait(), tail(stdout, most), tail(stderr, most), feed);
    Ok(Said { status: status?, out: out?, err: err? })
}

/// The last bytes of a stream.
async fn tail(stream: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let (mut kept, mut buffer) = (VecDeque::new(), vec![0; 16 * 1024]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(kept.make_contiguous()).into_owned());
        }
        kept.extend(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_heard_to_its_end() {
        let said = Tool::new("sh").args(["-c", "cat; echo oops >&2; exit 3"]).input("hello").ended().await.unwrap();
        assert_eq!((said.status.code(), said.out.as_str(), said.err.as_str()), (Some(3), "hello", "oops\n"));
        let fault = Tool::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]).done().await.unwrap_err();
        assert_eq!(fault.to_string(), "sh ended with exit status 3: b");
    }

    #[tokio::test]
    async fn what_is_missing_hangs_or_talks_too_much_is_said() {
        let fault = Tool::new("no-such-tool").done().await.unwrap_err().to_string();
        assert!(fault.starts_with("this machine has no program 'no-such-tool'"), "{fault}");
        let fault = Tool::new("sleep").arg("1000").within(Duration::from_millis(20)).done().await.unwrap_err();
        assert_eq!(fault.to_string(), "sleep took longer than 0 s, and was killed");
        let said = Tool::new("sh").args(["-c", "echo a; echo b >&2; sleep 3 & exit 3"]).uninterrupted().ended().await;
        let said = said.unwrap();
        assert_eq!((said.status.code(), said.out.as_str(), said.err.as_str()), (Some(3), "a\n", "b\n"));
        let said = Tool::new("sh").args(["-c", "yes | head -c 100000; echo end"]).said_bytes_max(8).done().await;
        assert_eq!(said.unwrap().out, "y\ny\nend\n");
    }
}
