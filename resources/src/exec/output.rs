//! What a command prints: to the log line by line within bounds, and the last of it kept for the fault's message.
//!
//! Memory and the log stay bounded whatever the command prints; what is past the bounds is counted and discarded.

use std::collections::VecDeque;

/// The longest line of the log; a longer one is cut there and goes on in the next.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// How many lines of one run are logged.
const LINES_MAX: u64 = 1_000;
/// How many bytes of one run are logged.
const BYTES_MAX: usize = 256 * 1024;
/// How much of each stream is kept for the report.
const TAIL_BYTES_MAX: usize = 64 * 1024;
/// How many of the last lines a fault shows, and how much of each.
const SHOWN_LINES_MAX: usize = 3;
const SHOWN_CHARS_MAX: usize = 200;

/// Which of the two streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Out,
    Err,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// How loud output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What the user asked to run.
    Info,
    /// What only decides.
    Debug,
    /// What nobody may see.
    Hidden,
}

#[derive(Debug, Default)]
struct Stream {
    /// The line that has not ended yet, at most [`LINE_BYTES_MAX`].
    partial: Vec<u8>,
    tail: VecDeque<u8>,
}

/// The output of one run.
#[derive(Debug)]
pub(super) struct Output<L: FnMut(Source, &str)> {
    log: L,
    streams: [Stream; 2],
    lines_left: u64,
    bytes_left: usize,
    lines_omitted: u64,
}

/// Output that goes to the log under `id`.
pub(super) fn logged(id: &str, level: Level) -> Output<impl FnMut(Source, &str) + Send + use<>> {
    let id = id.to_owned();
    Output::new(move |source, line| match level {
        Level::Info => tracing::info!(target: "exec", id, stream = source.name(), "{line}"),
        Level::Debug => tracing::debug!(target: "exec", id, stream = source.name(), "{line}"),
        Level::Hidden => {}
    })
}

impl<L: FnMut(Source, &str)> Output<L> {
    fn new(log: L) -> Self {
        let streams = [Stream::default(), Stream::default()];
        Self { log, streams, lines_left: LINES_MAX, bytes_left: BYTES_MAX, lines_omitted: 0 }
    }

    /// Takes what a stream has printed.
    pub(super) fn push(&mut self, source: Source, bytes: &[u8]) {
        keep(&mut self.streams[source as usize].tail, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.lines_left == 0 || self.bytes_left == 0 {
                self.lines_omitted += newlines(rest);
                return;
            }
            rest = self.take_some(source, rest);
        }
    }

    /// Takes bytes up to the end of a line or the longest line's length, and returns what is left.
    fn take_some<'b>(&mut self, source: Source, bytes: &'b [u8]) -> &'b [u8] {
        let partial = &mut self.streams[source as usize].partial;
        let window = &bytes[..bytes.len().min(LINE_BYTES_MAX - partial.len())];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                partial.extend_from_slice(&window[..end]);
                self.end_line(source);
                &bytes[end + 1..]
            }
            None => {
                partial.extend_from_slice(window);
                // A line of exactly the longest length ends with the newline that follows, not with an empty line.
                if partial.len() == LINE_BYTES_MAX && bytes.get(window.len()) != Some(&b'\n') {
                    self.end_line(source);
                } else if partial.len() == LINE_BYTES_MAX {
                    self.end_line(source);
                    return &bytes[window.len() + 1..];
                }
                &bytes[window.len()..]
            }
        }
    }

    fn end_line(&mut self, source: Source) {
        let line = std::mem::take(&mut self.streams[source as usize].partial);
        self.lines_left = self.lines_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(line.len());
        (self.log)(source, &shown(line.strip_suffix(b"\r").unwrap_or(&line)));
    }

    /// Logs a last line without an end, and how many lines were left out.
    pub(super) fn finish(&mut self) {
        for source in [Source::Out, Source::Err] {
            if !self.streams[source as usize].partial.is_empty() {
                self.end_line(source);
            }
        }
        if self.lines_left == 0 || self.bytes_left == 0 {
            let note = format!("… the log ends here; {} more lines were left out", self.lines_omitted);
            (self.log)(Source::Out, &note);
        }
    }

    /// The last lines for a fault: of stderr, or of stdout if nothing is there. Starts with `: ` unless empty.
    pub(super) fn last_lines(&mut self) -> String {
        let [out, err] = &mut self.streams;
        let lines = [err, out].into_iter().map(|stream| last_lines(&mut stream.tail)).find(|lines| !lines.is_empty());
        lines.map(|lines| format!(": {}", lines.join(" | "))).unwrap_or_default()
    }
}

/// Counted eight bytes at a time by the compiler: a gigabyte takes a fraction of a second.
fn newlines(bytes: &[u8]) -> u64 {
    bytes.chunks(255).map(|chunk| u64::from(chunk.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>())).sum()
}

fn keep(tail: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
    let excess = (tail.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
    tail.drain(..excess);
    tail.extend(bytes);
}

fn last_lines(tail: &mut VecDeque<u8>) -> Vec<String> {
    let bytes = tail.make_contiguous();
    let lines = bytes.rsplit(|byte| *byte == b'\n').map(|line| line.trim_ascii()).filter(|line| !line.is_empty());
    let mut shown: Vec<String> = lines.take(SHOWN_LINES_MAX).map(brief).collect();
    shown.reverse();
    shown
}

/// The start of a line is where programs say what is wrong.
fn brief(line: &[u8]) -> String {
    let text = shown(&line[..line.len().min(LINE_BYTES_MAX)]);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Text of any bytes that is safe in a log and on a terminal.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() && c != '\t' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[(Source, &[u8])]) -> (Vec<String>, String) {
        let mut lines = Vec::new();
        let mut output = Output::new(|_, line: &str| lines.push(line.to_owned()));
        pieces.iter().for_each(|(source, bytes)| output.push(*source, bytes));
        output.finish();
        let last = output.last_lines();
        drop(output);
        (lines, last)
    }

    #[test]
    fn lines_are_put_together_from_pieces_of_two_streams() {
        let (lines, last) = run(&[
            (Source::Out, b"on"),
            (Source::Err, b"bad\r\n"),
            (Source::Out, b"e\ntwo\n\nthr"),
            (Source::Out, b"ee"),
        ]);
        assert_eq!(lines, ["bad", "one", "two", "", "three"]);
        assert_eq!(last, ": bad");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_anyway() {
        let (lines, last) = run(&[(Source::Out, b"a\xff\x1b[1mb\0\tc\n")]);
        assert_eq!(lines, ["a\u{fffd}\\u{1b}[1mb\\u{0}\tc"]);
        assert_eq!(last, ": a\u{fffd}\\u{1b}[1mb\\u{0}\tc");
    }

    #[test]
    fn a_long_line_is_cut_and_goes_on() {
        let long = vec![b'x'; 2 * LINE_BYTES_MAX];
        let (lines, last) = run(&[(Source::Out, &long), (Source::Out, b"y\n")]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
        assert_eq!(last.chars().count(), 2 + SHOWN_CHARS_MAX + 1);
        let mut exact = vec![b'x'; LINE_BYTES_MAX];
        exact.extend_from_slice(b"\nz\n");
        assert_eq!(run(&[(Source::Out, &exact)]).0.len(), 2);
    }

    #[test]
    fn only_so_many_lines_are_logged_and_the_rest_is_counted() {
        let many = b"line\n".repeat(2_500);
        let (lines, last) = run(&[(Source::Out, &many)]);
        assert_eq!(lines.len(), 1_001);
        assert_eq!(lines[1_000], "… the log ends here; 1500 more lines were left out");
        assert_eq!(last, ": line | line | line");
    }

    #[test]
    fn only_so_many_bytes_are_logged() {
        let many = vec![b'x'; 4 * BYTES_MAX];
        let (lines, _) = run(&[(Source::Out, &many)]);
        assert_eq!(lines.len(), BYTES_MAX / LINE_BYTES_MAX + 1);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = VecDeque::new();
        for piece in [TAIL_BYTES_MAX - 1, 3, 5 * TAIL_BYTES_MAX, 7] {
            keep(&mut tail, &vec![b'x'; piece]);
            assert!(tail.len() <= TAIL_BYTES_MAX);
        }
    }
}
