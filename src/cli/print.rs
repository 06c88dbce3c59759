//! How verbs put data on standard output: objects for programs, and text that fits the terminal for people.
//!
//! Knows nothing of what is printed.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::Failure;
use crate::diagnostic::Printable;

/// Longer lines are hard to read, however wide the terminal is.
const WIDTH_MAX: usize = 100;

/// Narrower than this, text is cut by the terminal instead of being wrapped to slivers.
const WIDTH_MIN: usize = 40;

/// How wide a text for standard output may be.
pub fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
    // A terminal that does not know its size says 0.
    let columns = terminal.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    columns.unwrap_or(WIDTH_MAX).clamp(WIDTH_MIN, WIDTH_MAX)
}

/// Prints one object, indented, with its newline.
///
/// # Errors
/// Output cannot be written.
pub fn json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let written = serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from);
    written.and_then(|()| writeln!(out)).map_err(|error| Failure::output(&error))
}

/// Prints a text.
///
/// # Errors
/// Output cannot be written.
pub fn text(text: &str, out: &mut dyn Write) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// An object with the version of its form, first.
pub fn versioned(value: serde_json::Value) -> serde_json::Value {
    let mut object = serde_json::Map::from_iter([("format_version".to_owned(), 1.into())]);
    match value {
        serde_json::Value::Object(fields) => object.extend(fields),
        serde_json::Value::Null => {}
        other => {
            object.insert("value".to_owned(), other);
        }
    }
    object.into()
}

/// Rows as aligned columns; the first row is the head, in capitals.
pub fn table(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| wide(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = Printable(cell).to_string();
            let cell = if number == 0 { cell.to_uppercase() } else { cell };
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Breaks one paragraph into lines of at most so many characters. A longer word has a line of its own.
pub fn wrap(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut columns = 0;
    for word in paragraph.split_whitespace() {
        let word_columns = word.chars().count();
        if columns > 0 && columns + 1 + word_columns > width {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        if columns > 0 {
            line.push(' ');
            columns += 1;
        }
        line += word;
        columns += word_columns;
    }
    if columns > 0 {
        lines.push(line);
    }
    lines
}

/// One row of a two-column table: a term, and its text wrapped beside it from this column on. A term that is too long
/// has the first line to itself.
pub fn row(term: &str, column: usize, text: &str, width: usize) -> String {
    let mut lines = wrap(text, width.saturating_sub(column).max(WIDTH_MIN / 2)).into_iter();
    let mut row = format!("  {term}");
    if term.chars().count() + 4 <= column
        && let Some(first) = lines.next()
    {
        row = format!("{row:column$}{first}");
    }
    for line in lines {
        row += &format!("\n{:column$}{line}", "");
    }
    row.push('\n');
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_at_words() {
        assert_eq!(wrap("one  two\nthree four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("a incomprehensible b", 5), ["a", "incomprehensible", "b"]);
        assert_eq!(wrap("größer als", 10), ["größer als"]);
        assert!(wrap(" \n ", 10).is_empty());
    }

    #[test]
    fn rows_are_aligned() {
        assert_eq!(row("mode", 10, "some bits", 60), "  mode    some bits\n");
        assert_eq!(row("a-long-name", 10, "some bits", 60), "  a-long-name\n          some bits\n");
        assert_eq!(row("bare", 10, "", 60), "  bare\n");
    }
}
