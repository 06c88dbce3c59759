//! The line protocol of `mgmt kv pipe`: what a line asks, and how an answer is put. Bytes in, values out, and back.
//!
//! ```text
//! ID PUT KEY VALUE | ID GET KEY | ID LOCAL KEY | ID CAS KEY OLD NEW | ID DELETE KEY
//! ID WATCH PREFIX [REVISION] | ID UNWATCH ID2 | ID LEADER
//! ID OK [VALUE] | ID ERR WORD TEXT | ID EV KEY VALUE | ID ODD KEY | ID DEL KEY
//! ```

use mgmt_store::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// The longest name of a request.
pub const ID_BYTES_MAX: usize = 32;
/// The longest line: a name, a verb, a key and two of the largest values.
pub const LINE_BYTES_MAX: usize = ID_BYTES_MAX + 16 + KEY_BYTES_MAX + 2 * VALUE_BYTES_MAX;

/// The first word behind `ERR`: what a program goes by. The rest of the line is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The line is not one of this protocol.
    Usage,
    /// There is no such key.
    Missing,
    /// The value is not the one it was compared with.
    Other,
    /// It was refused, and always will be as things stand.
    Refused,
    /// It was not done: no leader was reached in time. Try again.
    Unavailable,
    /// It may have been done, once.
    Unknown,
    /// A watch cannot go on: what comes next is forgotten.
    Compacted,
    /// The value cannot be said in a line.
    Odd,
}

impl Word {
    /// As it is sent.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Missing => "missing",
            Self::Other => "other",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Compacted => "compacted",
            Self::Odd => "odd",
        }
    }
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the words of the line")]
pub enum Request<'a> {
    /// Writes.
    Put { key: &'a str, value: &'a [u8] },
    /// Reads what is true now.
    Get { key: &'a str },
    /// Reads what this host has.
    Local { key: &'a str },
    /// Writes if the value is another; `None`: if there is none.
    Swap { key: &'a str, old: Option<&'a [u8]>, new: &'a [u8] },
    /// Deletes.
    Delete { key: &'a str },
    /// Follows changes, after a revision or from now on.
    Watch { prefix: &'a str, after: Option<u64> },
    /// Ends a watch.
    Unwatch { id: &'a str },
    /// Who leads.
    Leader,
}

/// The name of a request, and what it is or why it is none.
pub type Line<'a> = (&'a str, Result<Request<'a>, &'static str>);

/// Reads a line, without its end.
pub fn parse(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let id = words.next().unwrap_or_default();
    let plain = !id.is_empty() && id.len() <= ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
    let Some(id) = std::str::from_utf8(id).ok().filter(|_| plain) else {
        return ("?", Err("a line begins with a name for it, of 1 to 32 characters"));
    };
    (id, request(&mut words))
}

fn request<'a>(words: &mut dyn Iterator<Item = &'a [u8]>) -> Result<Request<'a>, &'static str> {
    let verb = words.next().unwrap_or_default();
    let mut next = |what| words.next().filter(|word| !word.is_empty()).ok_or(what);
    let request = match verb {
        b"PUT" => {
            let usage = "PUT KEY VALUE is wanted; a value without spaces";
            Request::Put { key: text(next(usage)?)?, value: value(next(usage)?)? }
        }
        b"GET" => Request::Get { key: text(next("GET KEY is wanted")?)? },
        b"LOCAL" => Request::Local { key: text(next("LOCAL KEY is wanted")?)? },
        b"CAS" => {
            let usage = "CAS KEY OLD NEW is wanted; an OLD of - means that there is none";
            let (key, old, new) = (text(next(usage)?)?, value(next(usage)?)?, value(next(usage)?)?);
            Request::Swap { key, old: (old != b"-").then_some(old), new }
        }
        b"DELETE" => Request::Delete { key: text(next("DELETE KEY is wanted")?)? },
        b"WATCH" => {
            // All keys begin with nothing: the one word that may be empty, or not be there.
            let prefix = text(words.next().unwrap_or_default())?;
            let revision = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
            let after = words.next().map(|word| revision(word).ok_or("WATCH PREFIX REVISION: a number is wanted"));
            Request::Watch { prefix, after: after.transpose()? }
        }
        b"UNWATCH" => Request::Unwatch { id: text(next("UNWATCH ID is wanted")?)? },
        b"LEADER" => Request::Leader,
        _ => return Err("PUT, GET, LOCAL, CAS, DELETE, WATCH, UNWATCH or LEADER is wanted, in capitals"),
    };
    match words.next() {
        None => Ok(request),
        Some(_) => Err("the line goes on after its end; keys and values have no spaces"),
    }
}

fn text(word: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(word).map_err(|_| "a key is UTF-8")
}

/// What could not be said back in a line is not taken.
fn value(word: &[u8]) -> Result<&[u8], &'static str> {
    if sayable(word) { Ok(word) } else { Err("a value is UTF-8 without control characters; use kv put for others") }
}

/// Whether a value fits into a line.
pub fn sayable(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the words of the line")]
pub enum Answer<'a> {
    /// Done.
    Done,
    /// Done at this revision.
    At(u64),
    /// This value.
    Value(&'a [u8]),
    /// This place in the list of members; -1: nobody.
    Place(i64),
    /// Not done.
    Failed(Word, &'a str),
    /// A key was written.
    Put { key: &'a str, value: &'a [u8] },
    /// A key was deleted.
    Deleted { key: &'a str },
}

/// Appends an answer as a line.
pub fn print(out: &mut Vec<u8>, id: &str, answer: Answer<'_>) {
    let mut say = |parts: &[&[u8]]| {
        out.extend_from_slice(id.as_bytes());
        for part in parts {
            out.push(b' ');
            out.extend_from_slice(part);
        }
        out.push(b'\n');
    };
    match answer {
        Answer::Done => say(&[b"OK"]),
        Answer::At(revision) => say(&[b"OK", revision.to_string().as_bytes()]),
        Answer::Place(place) => say(&[b"OK", place.to_string().as_bytes()]),
        Answer::Value(b"") => say(&[b"OK"]),
        Answer::Value(value) if sayable(value) => say(&[b"OK", value]),
        Answer::Value(_) => {
            say(&[b"ERR", Word::Odd.text().as_bytes(), b"the value cannot be said in a line: use kv get"])
        }
        Answer::Failed(word, text) => say(&[b"ERR", word.text().as_bytes(), text.as_bytes()]),
        Answer::Put { key, value } if sayable(value) => say(&[b"EV", key.as_bytes(), value]),
        Answer::Put { key, .. } => say(&[b"ODD", key.as_bytes()]),
        Answer::Deleted { key } => say(&[b"DEL", key.as_bytes()]),
    }
}

/// Cuts what comes into lines, and skips those that are too long.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Up to here lines were taken.
    taken: usize,
    /// Up to here there is no end of a line.
    looked: usize,
    /// The end of a line that was too long is not here yet.
    skipping: bool,
}

/// One line of what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A line.
    Line(&'a [u8]),
    /// The beginning of one that is too long.
    TooLong(&'a [u8]),
}

impl Lines {
    /// Where what is read next belongs: behind what is there, with room for so much at least.
    pub fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.looked -= self.taken;
        self.taken = 0;
        if self.bytes.is_empty() {
            // A long line was the exception: its room is not kept.
            self.bytes.shrink_to(4 * bytes);
        }
        self.bytes.reserve(bytes);
        &mut self.bytes
    }

    /// The next line that is whole.
    pub fn take(&mut self) -> Option<Cut<'_>> {
        loop {
            let end = self.bytes[self.looked..].iter().position(|byte| *byte == b'\n').map(|at| self.looked + at);
            let (from, to) = (self.taken, end.unwrap_or(self.bytes.len()));
            self.looked = to;
            let long = to - from > LINE_BYTES_MAX;
            if let Some(end) = end {
                (self.taken, self.looked) = (end + 1, end + 1);
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
            } else if self.skipping {
                self.taken = to;
                return None;
            } else if long {
                self.skipping = true;
                self.taken = to;
            } else {
                return None;
            }
            let line = &self.bytes[from..to];
            return Some(if long { Cut::TooLong(line) } else { Cut::Line(line) });
        }
    }

    /// Whether a line has begun that has no end yet.
    pub fn is_open(&self) -> bool {
        self.taken < self.bytes.len() || self.skipping
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> String {
        let (id, request) = parse(line.as_bytes());
        let request = match request {
            Ok(request) => format!("{request:?}").replace(", 118]", "").replace("[118]", "v"),
            Err(why) => why.to_owned(),
        };
        format!("{id}: {request}\n")
    }

    #[test]
    fn lines_are_requests_or_say_why_not() {
        let lines = [
            "1 PUT a/b v",
            "1 PUT a",
            "1 PUT a b c",
            "1 PUT  v",
            "1 GET a",
            "1 GET",
            "x LOCAL a\r",
            "1 CAS a - v",
            "1 CAS a v v",
            "1 CAS a v",
            "1 DELETE a",
            "1 WATCH a 7",
            "1 WATCH",
            "1 WATCH ",
            "1 WATCH a b",
            "1 UNWATCH 9",
            "1 LEADER",
            "1 LEADER x",
            "1 get a",
            "1",
            "",
            " PUT a v",
            "1 PUT a \u{7}",
            "1 PUT a v\u{85}",
            "123456789012345678901234567890123 GET a",
            "ä GET a",
        ];
        expect![[r#"
            1: Put { key: "a/b", value: v }
            1: PUT KEY VALUE is wanted; a value without spaces
            1: the line goes on after its end; keys and values have no spaces
            1: PUT KEY VALUE is wanted; a value without spaces
            1: Get { key: "a" }
            1: GET KEY is wanted
            x: Local { key: "a" }
            1: Swap { key: "a", old: None, new: v }
            1: Swap { key: "a", old: Some(v), new: v }
            1: CAS KEY OLD NEW is wanted; an OLD of - means that there is none
            1: Delete { key: "a" }
            1: Watch { prefix: "a", after: Some(7) }
            1: Watch { prefix: "", after: None }
            1: Watch { prefix: "", after: None }
            1: WATCH PREFIX REVISION: a number is wanted
            1: Unwatch { id: "9" }
            1: Leader
            1: the line goes on after its end; keys and values have no spaces
            1: PUT, GET, LOCAL, CAS, DELETE, WATCH, UNWATCH or LEADER is wanted, in capitals
            1: PUT, GET, LOCAL, CAS, DELETE, WATCH, UNWATCH or LEADER is wanted, in capitals
            ?: a line begins with a name for it, of 1 to 32 characters
            ?: a line begins with a name for it, of 1 to 32 characters
            1: a value is UTF-8 without control characters; use kv put for others
            1: a value is UTF-8 without control characters; use kv put for others
            ?: a line begins with a name for it, of 1 to 32 characters
            ?: a line begins with a name for it, of 1 to 32 characters
        "#]]
        .assert_eq(&lines.map(shown).concat());
    }

    #[test]
    fn answers_are_lines() {
        let mut out = Vec::new();
        for answer in [
            Answer::Done,
            Answer::At(7),
            Answer::Value(b"a b"),
            Answer::Value(b""),
            Answer::Value(b"a\nb"),
            Answer::Value(b"\xff"),
            Answer::Place(-1),
            Answer::Failed(Word::Unknown, "it may have been done"),
            Answer::Put { key: "a", value: b"v" },
            Answer::Put { key: "a", value: b"\n1 OK" },
            Answer::Deleted { key: "a" },
        ] {
            print(&mut out, "1", answer);
        }
        expect![[r#"
            1 OK
            1 OK 7
            1 OK a b
            1 OK
            1 ERR odd the value cannot be said in a line: use kv get
            1 ERR odd the value cannot be said in a line: use kv get
            1 OK -1
            1 ERR unknown it may have been done
            1 EV a v
            1 ODD a
            1 DEL a
        "#]]
        .assert_eq(std::str::from_utf8(&out).unwrap());
    }

    #[test]
    fn a_line_that_is_too_long_is_said_once_and_skipped() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        lines.room(16).extend_from_slice(b"1 GET a\n");
        lines.room(16).extend_from_slice(&long);
        assert_eq!(lines.take(), Some(Cut::Line(b"1 GET a")));
        assert_eq!(lines.take(), Some(Cut::TooLong(&long)));
        for _ in 0..3 {
            lines.room(16).extend_from_slice(&long);
            assert_eq!(lines.take(), None);
            assert!(lines.room(16).is_empty(), "nothing of it is kept");
        }
        assert!(lines.is_open());
        lines.room(16).extend_from_slice(b"xx\n2 GET b\n3");
        assert_eq!(lines.take(), Some(Cut::Line(b"2 GET b")));
        assert_eq!(lines.take(), None);
        assert!(lines.is_open());
    }

    proptest! {
        #[test]
        fn lines_come_whole_however_they_are_cut(pieces in prop::collection::vec("[a\n]{0,6}", 0..20)) {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in &pieces {
                lines.room(16).extend_from_slice(piece.as_bytes());
                while let Some(Cut::Line(line)) = lines.take() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            let whole = pieces.concat();
            let mut wanted: Vec<_> = whole.split('\n').map(str::to_owned).collect();
            prop_assert_eq!(wanted.pop().unwrap().is_empty(), !lines.is_open());
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn any_bytes_are_answered(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let (id, request) = parse(&line);
            prop_assert!(!id.is_empty());
            if let Ok(Request::Put { value, .. }) = request {
                prop_assert!(sayable(value));
            }
        }
    }
}
