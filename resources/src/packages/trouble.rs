//! Why a transaction has failed: in the tool's own words, as far as they say something.

use std::collections::BTreeMap;

/// How many of the tool's lines are told, and how much of each.
const LINES_MAX: usize = 3;
const CHARS_MAX: usize = 300;

/// What a tool has said of its failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trouble {
    /// It has nothing to do with any one package: to try again with fewer is of no use.
    pub(super) whole: bool,
    /// On one line, for people.
    pub(super) words: String,
    /// What was said of single packages.
    pub(super) about: BTreeMap<String, String>,
}

impl Trouble {
    /// One that concerns everybody.
    pub(super) fn whole(words: impl Into<String>) -> Self {
        Self { whole: true, words: words.into(), about: BTreeMap::new() }
    }

    /// What to tell about one package.
    pub(super) fn of(&self, name: &str) -> &str {
        self.about.get(name).unwrap_or(&self.words)
    }
}

/// Some lines as one, without what a terminal would not show.
pub(super) fn joined<'l>(lines: impl IntoIterator<Item = &'l str>) -> String {
    let cut = |line: &str| line.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect::<String>();
    let mut shown: Vec<String> = Vec::new();
    for line in lines.into_iter().map(|line| cut(line.trim())).filter(|line| !line.is_empty()) {
        if shown.len() < LINES_MAX && !shown.contains(&line) {
            shown.push(line);
        }
    }
    shown.join("; ")
}
