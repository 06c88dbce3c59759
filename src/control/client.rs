//! The asking end of the control socket: finds the agent that is meant, and asks it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::mesh::{Ask, Reply};
use super::{ANSWER_MAX, NAME, Question, with_short_path};
use crate::cli::args::Place;
use crate::cli::{Exit, Failure};
use crate::state::Home;

/// A connection to the agent of a place, found by prefix and host name, or the only one that runs there.
///
/// # Errors
/// There is none, or more than one, or we may not ask it.
pub fn find(place: &Place) -> Result<Client, Failure> {
    let home = Home::of(&Place {
        // Any valid name will do where only the prefix counts.
        hostname: Some(place.hostname.clone().unwrap_or_else(|| "localhost".into())),
        prefix: place.prefix.clone(),
    })?;
    if place.hostname.is_some() {
        return Client::connect(&home.directory().join(NAME)).map_err(|e| none(&home, &e));
    }
    let mut found = Vec::new();
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for entry in std::fs::read_dir(&home.prefix).into_iter().flatten().flatten() {
        match Client::connect(&entry.path().join(NAME)) {
            Ok(client) => found.push((entry.file_name().to_string_lossy().into_owned(), client)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = error,
            Err(_) => {}
        }
    }
    if found.len() > 1 {
        let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let message = format!(
            "several agents run under {}: name one with --hostname: {}",
            home.prefix.display(),
            names.join(", ")
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    found.pop().map(|(_, client)| client).ok_or_else(|| none(&home, &refused))
}

fn none(home: &Home, error: &io::Error) -> Failure {
    let place = home.prefix.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotAllowed, format!("may not ask the agent under {place}: it belongs to another user"))
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(Exit::Unavailable, format!("no agent runs under {place}; start one with: mgmt run FILE"))
        }
        _ => Failure::new(Exit::Unavailable, format!("cannot ask the agent under {place}: {error}")),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Unavailable, format!("the agent's answer broke off: {error}"))
}

/// Asks one question.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    fn connect(path: &Path) -> io::Result<Self> {
        with_short_path(path, |short| UnixStream::connect(short)).map(Self)
    }

    fn say(&mut self, question: &Question) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(question).map_err(|e| broken(&e))?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(|e| broken(&e))
    }

    /// Asks, and gives each line of the answer to `each` until it says `false`.
    ///
    /// # Errors
    /// The connection breaks, or the answer is not what was asked for.
    pub fn ask<T: for<'de> Deserialize<'de>>(
        mut self,
        question: &Question,
        mut each: impl FnMut(T) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.say(question)?;
        let mut reader = BufReader::new(self.0);
        while let Some(line) = next(&mut reader)? {
            if !each(line)? {
                break;
            }
        }
        Ok(())
    }

    /// Asks the mesh for one thing.
    ///
    /// # Errors
    /// As [`Client::ask`], and what the agent could not do.
    pub fn mesh(self, asked: Ask) -> Result<Value, Failure> {
        self.converse(asked)?.next()?.ok_or_else(|| broken(&"it ended"))
    }

    /// Asks the mesh for something that is answered in many lines.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn converse(mut self, asked: Ask) -> Result<Talk, Failure> {
        self.say(&Question::Mesh { question: asked })?;
        Ok(Talk(BufReader::new(self.0)))
    }
}

/// An answer of many lines that is still going on. Dropped, it is over.
#[derive(Debug)]
pub struct Talk(BufReader<UnixStream>);

impl Talk {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The connection breaks, or the agent could not go on.
    #[expect(clippy::should_implement_trait, reason = "an iterator would hide where it fails")]
    pub fn next(&mut self) -> Result<Option<Value>, Failure> {
        next::<Reply>(&mut self.0)?.map(Reply::into_result).transpose()
    }

    /// What says to the agent that nothing more is wanted, while what it still says can be read.
    pub fn hang_up(&self) -> impl FnOnce() + use<> {
        let stream = self.0.get_ref().try_clone();
        move || {
            // Without it, or with an agent that has gone, the end of this process says the same.
            if let Ok(stream) = stream {
                stream.shutdown(std::net::Shutdown::Write).ok();
            }
        }
    }

    /// The connection itself, with what was read ahead of it, for what is no answer in lines of JSON.
    pub fn into_inner(self) -> BufReader<UnixStream> {
        self.0
    }
}

fn next<T: for<'de> Deserialize<'de>>(reader: &mut BufReader<UnixStream>) -> Result<Option<T>, Failure> {
    let mut line = String::new();
    if reader.by_ref().take(ANSWER_MAX).read_line(&mut line).map_err(|e| broken(&e))? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|e| broken(&e))
}
