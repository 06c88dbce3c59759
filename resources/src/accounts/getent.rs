//! The `getent` program, as a child: it is linked to the machine's own libc and may load the machine's NSS plugins.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mgmt_engine::clock::Clock;
use mgmt_engine::resource::Fault;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A directory service that has not answered by then is taken as broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// One line of an account table; groups of ten thousand members fit.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The exit status that says "no such key".
const NO_SUCH_KEY: i32 = 2;

/// Where the program is, if this machine has it.
pub(super) fn find() -> Option<PathBuf> {
    let places = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];
    places.map(PathBuf::from).into_iter().find(|place| place.exists())
}

/// The line for `key` in `table`; `None` if there is none.
pub(super) fn ask(program: &Path, table: &str, key: &str, clock: &Clock) -> Result<Option<String>, Fault> {
    let what = || format!("getent {table} {key}");
    let mut command = Command::new(program);
    command.args(["--", table, key]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Fault::path("run", program, error))?;
    let output = read(&mut child, clock);
    if output.is_err()
        && let Err(error) = child.kill()
    {
        tracing::debug!("cannot kill {}: {error}", what());
    }
    let status = child.wait().map_err(|error| Fault::new(format!("cannot wait for {}: {error}", what())))?;
    let output = output.map_err(|why| Fault::new(format!("{} {why}", what())))?;
    match status.code() {
        Some(0) => Ok(output.lines().next().map(str::to_owned)),
        Some(NO_SUCH_KEY) => Ok(None),
        _ => Err(Fault::new(format!("{} ended with {status}", what()))),
    }
}

/// Everything the child writes, within the limits of time and size.
fn read(child: &mut Child, clock: &Clock) -> Result<String, String> {
    let mut pipe = child.stdout.take().ok_or("has no output")?;
    let deadline = clock.now().after(ANSWER_WITHIN);
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.since(clock.now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(format!("did not answer within {} s", ANSWER_WITHIN.as_secs())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
        match pipe.read(&mut buffer).map_err(|error| format!("cannot be read: {error}"))? {
            0 => return Ok(String::from_utf8_lossy(&output).into_owned()),
            count if output.len() + count > ANSWER_BYTES_MAX => return Err("answered too much".to_owned()),
            count => output.extend_from_slice(&buffer[..count]),
        }
    }
}
