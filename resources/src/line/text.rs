//! The text of a file with one part put right. Pure. Works on bytes: what the rest of a file means, and in which encoding,
//! is nobody's business here.

use mgmt_engine::resource::Fault;

use crate::file::edited::{Edit, Edited};
use crate::kind::Problem;
use crate::lines::Lines;

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) part: Part,
    pub(super) absent: bool,
    /// Where it goes if it is missing.
    pub(super) position: Position,
    /// Make the file.
    pub(super) create: bool,
    /// Lines are shown nowhere.
    pub(super) sensitive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// This line; or what starts like this, if that is all that is known of it.
    Line { line: Option<String>, starts: Option<String> },
    /// These lines between two others.
    Block { lines: Vec<String>, begin: String, end: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    End,
    After(String),
    Before(String),
}

impl Part {
    /// A block with marks that are made from `marker`.
    pub(super) fn block(text: &str, marker: &str) -> Result<Self, Problem> {
        if marker.matches("{}").count() != 1 {
            return Err(Problem::new("marker", "needs {} once, where BEGIN and END are written"));
        }
        let (begin, end) = (marker.replacen("{}", "BEGIN", 1), marker.replacen("{}", "END", 1));
        if text.contains(['\r', '\0']) {
            return Err(Problem::new("block", "contains a carriage return or a NUL"));
        }
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.iter().any(|line| *line == begin || *line == end) {
            return Err(Problem::new("block", "contains one of its own marks"));
        }
        Ok(Self::Block { lines, begin, end })
    }
}

impl Edit for Text {
    fn edited(&self, before: Option<&[u8]>) -> Result<Option<Edited>, Fault> {
        if before.is_none() && self.absent {
            return Ok(None);
        }
        if before.is_none() && !self.create {
            return Err(Fault::new("the file does not exist; create would make it"));
        }
        let mut lines = Lines::of(before.unwrap_or_default());
        let Some((wrong, deed)) = (match &self.part {
            Part::Line { line, starts } => self.line(&mut lines, line.as_deref(), starts.as_deref())?,
            Part::Block { lines: wanted, begin, end } => self.block(&mut lines, wanted, begin, end)?,
        }) else {
            return Ok(None);
        };
        Ok(Some(Edited { after: lines.joined(), wrong, deed }))
    }
}

type Done = Option<(&'static str, &'static str)>;

impl Text {
    fn line(&self, lines: &mut Lines<'_>, line: Option<&str>, starts: Option<&str>) -> Result<Done, Fault> {
        let is = |body: &[u8]| line.is_some_and(|line| body == line.as_bytes());
        let version = |body: &[u8]| starts.is_some_and(|starts| body.starts_with(starts.as_bytes()));
        if self.absent {
            return Ok(lines
                .remove(|_, body| is(body) || version(body))
                .then_some(("present, wanted absent", "line removed")));
        }
        let Some(line) = line else { unreachable!("what shall exist is known") };
        let kept = lines.find(is).or_else(|| lines.find(version));
        let Some(kept) = kept else {
            let at = self.place(lines)?;
            lines.insert(at, &[line]);
            return Ok(Some(("line is missing", "line added")));
        };
        let replaced = lines.replace(kept, line);
        // Other versions of it would contradict it.
        let removed = lines.remove(|number, body| number != kept && version(body));
        Ok((replaced || removed).then_some(("line differs", "line set")))
    }

    fn block(&self, lines: &mut Lines<'_>, wanted: &[String], begin: &str, end: &str) -> Result<Done, Fault> {
        let all = |mark: &str| lines.numbers(|body| body == mark.as_bytes());
        let (begins, ends) = (all(begin), all(end));
        let (first, last) = match (begins.as_slice(), ends.as_slice()) {
            ([], []) if self.absent => return Ok(None),
            ([], []) => {
                let at = self.place(lines)?;
                let all: Vec<&str> =
                    std::iter::once(begin).chain(wanted.iter().map(String::as_str)).chain([end]).collect();
                lines.insert(at, &all);
                return Ok(Some(("block is missing", "block added")));
            }
            ([first], [last]) if first < last => (*first, *last),
            _ => return Err(damaged(&begins, &ends)),
        };
        if self.absent {
            lines.remove(|number, _| (first..=last).contains(&number));
            return Ok(Some(("present, wanted absent", "block removed")));
        }
        let same = lines.bodies(first + 1, last).eq(wanted.iter().map(String::as_bytes));
        if same {
            return Ok(None);
        }
        lines.remove(|number, _| number > first && number < last);
        lines.insert(first + 1, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(Some(("block differs", "block replaced")))
    }

    /// Before which line a missing part goes.
    fn place(&self, lines: &Lines<'_>) -> Result<usize, Fault> {
        let (line, word, further) = match &self.position {
            Position::End => return Ok(lines.count()),
            Position::After(line) => (line, "after", 1),
            Position::Before(line) => (line, "before", 0),
        };
        let shown = if self.sensitive { "(hidden)" } else { line };
        let found = lines.find(|body| body == line.as_bytes()).map(|number| number + further);
        found.ok_or_else(|| Fault::new(format!("the file has no line '{shown}' to put it {word}")))
    }
}

fn damaged(begins: &[usize], ends: &[usize]) -> Fault {
    let shown = |numbers: &[usize]| match numbers {
        [] => "nowhere".to_owned(),
        [one] => format!("in line {}", one + 1),
        many => {
            format!("in lines {}", many.iter().map(|number| (number + 1).to_string()).collect::<Vec<_>>().join(", "))
        }
    };
    let (begins, ends) = (shown(begins), shown(ends));
    Fault::new(format!(
        "the marks of the block are damaged: BEGIN is {begins}, END {ends}; put them right, or remove them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: Part) -> Text {
        Text { part, absent: false, position: Position::End, create: true, sensitive: false }
    }

    fn line(line: &str) -> Text {
        text(Part::Line { line: Some(line.to_owned()), starts: None })
    }

    fn version(line: &str, starts: &str) -> Text {
        text(Part::Line { line: Some(line.to_owned()), starts: Some(starts.to_owned()) })
    }

    fn block(lines: &str) -> Text {
        text(Part::block(lines, "# {} x").unwrap())
    }

    /// What becomes of a text, `=` if nothing, or why nothing can. A second time, nothing becomes of it.
    fn edited(of: &Text, before: &str) -> String {
        match of.edited(Some(before.as_bytes())) {
            Ok(None) => "=".to_owned(),
            Ok(Some(edited)) => {
                assert_eq!(of.edited(Some(&edited.after)), Ok(None), "a second time changes nothing");
                String::from_utf8(edited.after).unwrap()
            }
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_line_is_there_once_it_was_put_there() {
        assert_eq!(edited(&line("b"), ""), "b\n");
        assert_eq!(edited(&line("b"), "a\n"), "a\nb\n");
        assert_eq!(edited(&line("b"), "a"), "a\nb\n");
        assert_eq!(edited(&line("b"), "a\nb"), "=");
        assert_eq!(edited(&line("b"), "b\nbb\nb\n"), "=");
        assert_eq!(edited(&line("b"), "a\r\nc\r\n"), "a\r\nc\r\nb\r\n");
        assert_eq!(edited(&line("b"), "a\r\nb\r\n"), "=");
    }

    #[test]
    fn other_versions_of_it_are_replaced() {
        assert_eq!(edited(&version("k yes", "k "), "a\nk no\nz\nk maybe\n"), "a\nk yes\nz\n");
        assert_eq!(edited(&version("k yes", "k "), "k no\nk yes\nk yes\n"), "k yes\n");
        assert_eq!(edited(&version("k yes", "#k "), "#k no\r\nz"), "k yes\r\nz");
        assert_eq!(edited(&version("k yes", "k "), "k no"), "k yes");
        assert_eq!(edited(&version("k yes", "k "), "k yes\n"), "=");
    }

    #[test]
    fn it_goes_where_it_was_asked_for() {
        let after = |at: &str| Text { position: Position::After(at.to_owned()), ..line("b") };
        let before = |at: &str| Text { position: Position::Before(at.to_owned()), ..line("b") };
        assert_eq!(edited(&after("[s]"), "[s]\nz\n[s]\n"), "[s]\nb\nz\n[s]\n");
        assert_eq!(edited(&after("z"), "[s]\nz"), "[s]\nz\nb\n");
        assert_eq!(edited(&before("z"), "[s]\nz"), "[s]\nb\nz");
        assert_eq!(edited(&before("y"), "[s]\nz"), "the file has no line 'y' to put it before");
        assert_eq!(edited(&after("z"), "b\nz\n"), "=", "what stands elsewhere stays");
        let hidden = Text { sensitive: true, ..after("y") };
        assert_eq!(edited(&hidden, "z\n"), "the file has no line '(hidden)' to put it after");
    }

    #[test]
    fn a_line_is_removed() {
        let absent = |of: Text| Text { absent: true, ..of };
        assert_eq!(edited(&absent(line("b")), "a\nb\nbb\nb"), "a\nbb\n");
        assert_eq!(edited(&absent(version("b", "c")), "a\nb\ncc\n"), "a\n");
        assert_eq!(edited(&absent(line("b")), "a\n"), "=");
        assert_eq!(absent(line("b")).edited(None), Ok(None));
    }

    #[test]
    fn a_block_is_kept_between_its_marks() {
        let marked = "a\n# BEGIN x\n1\n2\n# END x\n";
        assert_eq!(edited(&block("1\n2\n"), "a"), marked);
        assert_eq!(edited(&block("1\n2"), marked), "=");
        assert_eq!(edited(&block("3\n"), &format!("{marked}z")), "a\n# BEGIN x\n3\n# END x\nz");
        assert_eq!(edited(&block(""), marked), "a\n# BEGIN x\n# END x\n");
        assert_eq!(edited(&Text { absent: true, ..block("") }, &format!("{marked}z\n")), "a\nz\n");
        assert_eq!(edited(&block("1"), "a\r\n"), "a\r\n# BEGIN x\r\n1\r\n# END x\r\n");
    }

    #[test]
    fn damaged_marks_are_told_and_left() {
        let fault = |text: &str| edited(&block("1"), text);
        let told = |which: &str| format!("the marks of the block are damaged: {which}; put them right, or remove them");
        assert_eq!(fault("a\n# BEGIN x\n1\n"), told("BEGIN is in line 2, END nowhere"));
        assert_eq!(fault("# END x\n# BEGIN x\n"), told("BEGIN is in line 2, END in line 1"));
        assert_eq!(fault("# BEGIN x\n# END x\n# BEGIN x\n"), told("BEGIN is in lines 1, 3, END in line 2"));
    }

    #[test]
    fn a_missing_file_is_made_only_if_asked_for() {
        let fault = Text { create: false, ..line("b") }.edited(None).unwrap_err();
        assert_eq!(fault.to_string(), "the file does not exist; create would make it");
        assert_eq!(line("b").edited(None).unwrap().unwrap().after, b"b\n");
    }

    #[test]
    fn marks_and_blocks_that_cannot_be_are_refused() {
        assert_eq!(Part::block("1", "# x").unwrap_err().field, "marker");
        assert_eq!(Part::block("1\n# END x\n", "# {} x").unwrap_err().field, "block");
    }
}
