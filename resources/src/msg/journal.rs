//! Sends one message over a local datagram socket: in journald's native protocol, or in the manner of syslog.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// A reader that takes no datagram for so long is broken.
const SEND_MAX: Duration = Duration::from_secs(5);
/// A body that does not fit is halved down to this.
const BODY_BYTES_MIN: usize = 256;
/// The facility of daemons.
const FACILITY: u8 = 3;

/// What is sent.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) name: &'a str,
    pub(super) body: &'a str,
    pub(super) priority: u8,
    pub(super) fields: &'a BTreeMap<String, String>,
}

/// Sends to journald.
pub(super) async fn journal(socket: &Path, message: &Message<'_>) -> io::Result<()> {
    fitting(socket, message.body, |body| native(message, body)).await
}

/// Sends to a syslog daemon.
pub(super) async fn syslog(socket: &Path, message: &Message<'_>) -> io::Result<()> {
    fitting(socket, message.body, |body| traditional(message.priority, body)).await
}

/// Sends the body, or as much of it as the socket takes with a note that it was cut.
async fn fitting(socket: &Path, body: &str, encode: impl Fn(&str) -> Vec<u8>) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    let mut kept = body;
    loop {
        let note = body.len() - kept.len();
        let datagram = if note == 0 { encode(kept) } else { encode(&format!("{kept}… ({note} bytes were cut)")) };
        let sent = timeout(SEND_MAX, sender.send_to(&datagram, socket)).await;
        match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => return Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) && kept.len() > BODY_BYTES_MIN => {
                kept = &kept[..kept.floor_char_boundary(kept.len() / 2)];
            }
            Err(error) => return Err(error),
        }
    }
}

fn native(message: &Message<'_>, body: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 256);
    field(&mut out, "MESSAGE", body);
    field(&mut out, "PRIORITY", &message.priority.to_string());
    field(&mut out, "SYSLOG_IDENTIFIER", "mgmt");
    field(&mut out, "MGMT_NAME", message.name);
    message.fields.iter().for_each(|(key, value)| field(&mut out, key, value));
    out
}

/// `KEY=value`, or for a value of several lines `KEY`, its length, and the value.
fn field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// RFC 3164 without a time: it would have to be local time, and daemons that read the local socket put their own there.
fn traditional(priority: u8, body: &str) -> Vec<u8> {
    format!("<{}>mgmt[{}]: {}", FACILITY * 8 + priority, std::process::id(), one_line(body)).into_bytes()
}

/// A body where a line is a message and may end on a terminal: messages come from other hosts as well.
pub(super) fn one_line(body: &str) -> String {
    let mut line = String::with_capacity(body.len());
    for c in body.trim_end_matches('\n').chars() {
        match c {
            '\n' => line.push(' '),
            '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_forges_no_line_and_moves_no_cursor() {
        assert_eq!(one_line("a\tb\nroot: \u{1b}[2Jc\u{9b}\r\n"), "a\tb root: \\u{1b}[2Jc\\u{9b}\\r");
    }

    fn receiver() -> (tempfile::TempDir, std::path::PathBuf, UnixDatagram) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let receiver = UnixDatagram::bind(&socket).unwrap();
        (directory, socket, receiver)
    }

    async fn received(receiver: &UnixDatagram) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 20];
        let length = receiver.recv(&mut buffer).await.unwrap();
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn journald_gets_fields_and_lines() {
        let (_directory, socket, receiver) = receiver();
        let fields = BTreeMap::from([("UNIT".to_owned(), "a\nb".to_owned())]);
        let message = Message { name: "hello", body: "one line", priority: 4, fields: &fields };
        journal(&socket, &message).await.unwrap();
        let expected = b"MESSAGE=one line\nPRIORITY=4\nSYSLOG_IDENTIFIER=mgmt\nMGMT_NAME=hello\n\
            UNIT\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(received(&receiver).await, expected);
    }

    #[tokio::test]
    async fn syslog_gets_one_line() {
        let (_directory, socket, receiver) = receiver();
        let message = Message { name: "hello", body: "two\nlines\n", priority: 5, fields: &BTreeMap::new() };
        syslog(&socket, &message).await.unwrap();
        let expected = format!("<29>mgmt[{}]: two lines", std::process::id());
        assert_eq!(String::from_utf8(received(&receiver).await).unwrap(), expected);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_cut_and_says_so() {
        let (_directory, socket, receiver) = receiver();
        let body = "é".repeat(1 << 20);
        let message = Message { name: "hello", body: &body, priority: 5, fields: &BTreeMap::new() };
        journal(&socket, &message).await.unwrap();
        let text = String::from_utf8(received(&receiver).await).unwrap();
        assert!(text.lines().next().unwrap().ends_with(" bytes were cut)"));
    }
}
