//! `mgmt kv pipe`: standard input and output become the connection to the agent, which speaks the line protocol.

use std::io::{BufRead as _, Read, Write};
use std::net::Shutdown;

use crate::cli::{Exit, Failure, args};
use crate::control::find;
use crate::control::mesh::Ask;

/// What is copied at a time.
const PIECE: usize = 64 << 10;

/// Runs it until standard input ends and everything is answered, or the agent ends.
///
/// # Errors
/// There is no agent or mesh to ask, or output cannot be written.
pub(super) fn run(args: &args::Pipe) -> Result<Exit, Failure> {
    let mut talk = find(&args.place)?.converse(Ask::Pipe)?;
    let gone = || Failure::new(Exit::Unavailable, "the agent has ended");
    talk.next()?.ok_or_else(gone)?;
    let mut reader = talk.into_inner();
    let mut asking = reader.get_ref().try_clone().map_err(|e| Failure::output(&e))?;
    std::thread::spawn(move || {
        // Whichever end breaks: the other thread sees the same connection end, and says so.
        copy(&mut std::io::stdin().lock(), &mut asking).ok();
        asking.shutdown(Shutdown::Write).ok();
    });
    let mut out = std::io::stdout().lock();
    let ahead = reader.fill_buf().map_err(|_| gone())?.to_vec();
    reader.consume(ahead.len());
    out.write_all(&ahead).and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
    match copy(reader.get_mut(), &mut out) {
        Ok(()) => Ok(Exit::Done),
        Err(Broken::In) => Err(gone()),
        Err(Broken::Out(error)) => Err(Failure::output(&error)),
    }
}

enum Broken {
    In,
    Out(std::io::Error),
}

/// Copies to the end, each piece as soon as it is there.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<(), Broken> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Broken::In),
        };
        to.write_all(&piece[..count]).and_then(|()| to.flush()).map_err(Broken::Out)?;
    }
}
