//! What is wrong with a graph file, for people and for programs.
//!
//! A [`Problem`] says where, what about, what, and what to do; [`Problems`] keeps those of one file in the order of
//! their places. Knows neither YAML nor resources.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

/// How many problems are shown; the rest is counted.
pub const SHOWN_MAX: usize = 100;

/// How many problems are kept, so that a file of nothing but mistakes costs no more than a good one.
const KEPT_MAX: usize = 10_000;

/// How many characters of a message are shown: enough for a long cycle, too few to fill a screen.
const TEXT_MAX: usize = 2_000;

/// A place in a file. Lines and columns (in characters) count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Whether a problem rejects the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It is reported, and the file loads.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` if it is about the file as a whole.
    pub place: Option<Place>,
    /// Whether it rejects the file.
    pub severity: Severity,
    /// What it is about, such as `file[motd]`; may be empty.
    pub subject: String,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
    /// What was found there is passed over, and the text says so.
    pub ignored: bool,
}

impl Problem {
    /// A problem that rejects the file.
    pub fn error(place: impl Into<Option<Place>>, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            severity: Severity::Error,
            subject: subject.into(),
            message: message.into(),
            hint: None,
            ignored: false,
        }
    }

    /// A problem that does not.
    pub fn warning(place: impl Into<Option<Place>>, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, subject, message) }
    }

    /// With a hint, if there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A key that means nothing here: an error if `strict`, else passed over with a warning.
    pub fn unknown_key(place: Place, subject: String, key: &str, suggestion: Option<&str>, strict: bool) -> Self {
        let mut problem = Self::error(place, subject, format!("unknown key '{}'", Printable(key)));
        problem.hint = suggestion.map(|known| format!("did you mean '{known}'?"));
        if !strict {
            problem.severity = Severity::Warning;
            problem.ignored = true;
        }
        problem
    }

    /// The problem as one line: `graph.yaml:12:5: file[motd]: unknown key 'contents' (did you mean 'content'?) ignored`.
    pub fn line<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        Line { file, problem: self }
    }
}

struct Line<'a> {
    file: &'a str,
    problem: &'a Problem,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file)?;
        if let Some(place) = self.problem.place {
            write!(f, ":{place}")?;
        }
        if !self.problem.subject.is_empty() {
            write!(f, ": {}", Printable(&self.problem.subject))?;
        }
        f.write_str(": ")?;
        escape(&self.problem.message, TEXT_MAX, f)?;
        if let Some(hint) = &self.problem.hint {
            f.write_str(" (")?;
            escape(hint, TEXT_MAX, f)?;
            f.write_str(")")?;
        }
        if self.problem.ignored {
            f.write_str(" ignored")?;
        }
        Ok(())
    }
}

/// A text of a file, made fit to be quoted in a message: escaped where it must be, cut where it is long.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, 120, f)
    }
}

/// A text that is shown whole: only escaped where it must be.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, usize::MAX, f)
    }
}

/// Writes a text so that it cannot move a terminal's cursor, and no more than so many characters of it.
fn escape(text: &str, most: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (count, c) in text.chars().enumerate() {
        if count == most {
            return f.write_str("…");
        }
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
    }
    Ok(())
}

/// All that is wrong with one file.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
    errors: usize,
    beyond: usize,
}

impl Problems {
    /// None yet, of the file of this name.
    pub fn of(file: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        if self.list.len() < KEPT_MAX { self.list.push(problem) } else { self.beyond += 1 }
    }

    /// Puts them in the order of their places; those of the whole file come first.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| (problem.place, problem.severity));
    }

    /// The file's name, as shown.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// How many reject the file.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Whether there are none, not even warnings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that are shown, in order.
    pub fn shown(&self) -> &[Problem] {
        &self.list[..self.list.len().min(SHOWN_MAX)]
    }

    /// How many there are besides those shown.
    pub fn more(&self) -> usize {
        self.list.len() - self.shown().len() + self.beyond
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.shown() {
            writeln!(f, "{}", problem.line(&self.file))?;
        }
        match self.more() {
            0 => Ok(()),
            more => writeln!(f, "{}: and {more} more", self.file),
        }
    }
}

/// A problem as programs read it.
#[derive(Serialize)]
struct Record<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    severity: Severity,
    subject: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

/// A list of records `{file, line, column, severity, subject, message, hint}`, bounded like the text.
impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.shown().iter().map(|problem| Record {
            file: &self.file,
            line: problem.place.map(|place| place.line),
            column: problem.place.map(|place| place.column),
            severity: problem.severity,
            subject: &problem.subject,
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }))
    }
}

/// The known word that a mistyped one was most likely meant to be. The first wins a tie.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // An edit distance costs the product of both lengths; nobody means a long word by a hundred wrong letters.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_lowercase();
    // One mistake in three letters still looks like the word; `at` for `cmd` does not.
    let budget = (wrong.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|word| word.len() <= 64)
        .map(|word| (strsim::osa_distance(&wrong, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= budget)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Place {
        Place { line, column }
    }

    #[test]
    fn a_line_reads_as_the_manual_shows_it() {
        let near = nearest("contents", ["path", "content", "source"]);
        let problem = Problem::unknown_key(at(12, 5), "file[motd]".into(), "contents", near, false);
        assert_eq!(
            problem.line("graph.yaml").to_string(),
            "graph.yaml:12:5: file[motd]: unknown key 'contents' (did you mean 'content'?) ignored"
        );
        let problem = Problem::unknown_key(at(1, 1), String::new(), "zzz", nearest("zzz", ["graph"]), true);
        assert_eq!(problem.line("g").to_string(), "g:1:1: unknown key 'zzz'");
        assert_eq!(Problem::error(None, "", "empty").line("g").to_string(), "g: empty");
    }

    #[test]
    fn the_list_is_sorted_and_bounded() {
        let mut problems = Problems::of("g");
        for line in (1..=20_000).rev() {
            problems.push(Problem::warning(at(line, 1), "", "w"));
        }
        problems.push(Problem::error(None, "", "whole"));
        problems.sort();
        assert_eq!((problems.errors(), problems.shown().len(), problems.more()), (1, 100, 19_901));
        let text = problems.to_string();
        assert_eq!(text.lines().count(), 101);
        assert!(text.ends_with("g: and 19901 more\n"));
    }

    #[test]
    fn programs_read_records() {
        let mut problems = Problems::of("g");
        problems.push(Problem::error(at(2, 3), "file[a]", "bad").hint("do this".to_owned()));
        assert_eq!(
            serde_json::to_string(&problems).expect("plain data serializes"),
            r#"[{"file":"g","line":2,"column":3,"severity":"error","subject":"file[a]","message":"bad","hint":"do this"}]"#
        );
    }

    #[test]
    fn nearest_knows_when_to_keep_quiet() {
        assert_eq!(nearest("Content", ["content"]), Some("content"));
        assert_eq!(nearest("ptah", ["path"]), Some("path"));
        assert_eq!(nearest("at", ["cmd"]), None);
        assert_eq!(nearest(&"a".repeat(10_000), ["path"]), None);
    }
}
