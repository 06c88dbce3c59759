//! A text as its lines, for those that change some of them: whatever is not touched stays as it is, byte for byte. Must not
//! know what any line means.

use std::borrow::Cow;

/// The lines of a file, each with its end; only the last may have none.
pub(crate) struct Lines<'a>(Vec<Cow<'a, [u8]>>);

impl<'a> Lines<'a> {
    /// Takes a text apart.
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Self(text.split_inclusive(|byte| *byte == b'\n').map(Into::into).collect())
    }

    /// A line without its end.
    fn body(line: &[u8]) -> &[u8] {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// The first line of which this holds.
    pub(crate) fn find(&self, is: impl Fn(&[u8]) -> bool) -> Option<usize> {
        self.0.iter().position(|line| is(Self::body(line)))
    }

    /// The numbers of all lines of which this holds.
    pub(crate) fn numbers(&self, is: impl Fn(&[u8]) -> bool) -> Vec<usize> {
        self.0.iter().enumerate().filter(|(_, line)| is(Self::body(line))).map(|(number, _)| number).collect()
    }

    /// Lines without their ends, from one number up to another.
    pub(crate) fn bodies(&self, from: usize, to: usize) -> impl Iterator<Item = &[u8]> {
        self.0[from..to].iter().map(|line| Self::body(line))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// How its lines end.
    fn ending(&self) -> &'static str {
        if self.0.first().is_some_and(|line| line.ends_with(b"\r\n")) { "\r\n" } else { "\n" }
    }

    /// Removes lines; whether there were any.
    pub(crate) fn remove(&mut self, which: impl Fn(usize, &[u8]) -> bool) -> bool {
        let before = self.0.len();
        let mut number = 0;
        self.0.retain(|line| {
            number += 1;
            !which(number - 1, Self::body(line))
        });
        self.0.len() != before
    }

    /// Puts another line where one stands, with the same end; whether it was another.
    pub(crate) fn replace(&mut self, number: usize, line: &str) -> bool {
        let old = &self.0[number];
        let body = Self::body(old);
        if body == line.as_bytes() {
            return false;
        }
        let new = [line.as_bytes(), &old[body.len()..]].concat();
        self.0[number] = new.into();
        true
    }

    /// Puts lines before the one of this number, or at the end.
    pub(crate) fn insert(&mut self, at: usize, lines: &[&str]) {
        let ending = self.ending();
        // Only the last line may lack its end, and it is about to be the last no more.
        if at == self.0.len()
            && let Some(last) = self.0.last_mut()
            && !last.ends_with(b"\n")
        {
            last.to_mut().extend_from_slice(ending.as_bytes());
        }
        let new = lines.iter().map(|line| [line.as_bytes(), ending.as_bytes()].concat().into());
        self.0.splice(at..at, new);
    }

    /// The text again.
    pub(crate) fn joined(&self) -> Vec<u8> {
        self.0.concat()
    }
}
