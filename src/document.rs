//! Text to a tree of texts, lists and maps, each with its place. The door to the YAML crate.
//!
//! Promises bounds ([`BYTES_MAX`], [`DEPTH_MAX`], [`EXPANSION_MAX`], [`NODES_MAX`], [`MARKS_MAX`]), and never a panic, whatever the
//! bytes. Aliases and merge keys are resolved, and cost nothing: the tree is one flat list in the order of the file, and
//! an alias is a reference into it. Scalars stay text: what `yes` or `0644` means is for whoever knows what is wanted
//! there. Must not know what a graph is.

mod build;
mod read;

use std::iter::FusedIterator;

pub use crate::diagnostic::Place;
pub use build::parse;
pub use read::read;

/// How big a file may be, in bytes.
pub const BYTES_MAX: usize = 16 << 20;
/// How deep lists and maps may be nested.
pub const DEPTH_MAX: usize = 64;
/// How many nodes aliases may stand for in all. (And their texts for no more than [`BYTES_MAX`].)
pub const EXPANSION_MAX: u64 = 100_000;
/// How many nodes a file may have: far beyond 100,000 resources, far below what fills a machine's memory.
pub const NODES_MAX: usize = 1_000_000;

/// How many brackets, commas, quotes and the like a file may have. The parser keeps a list in brackets to its end
/// before it shows the first item, at some 170 bytes a token; this is what keeps it from filling the memory.
pub const MARKS_MAX: usize = 2_000_000;

/// A document. Its nodes are looked at through [`Node`].
#[derive(Debug, Default)]
pub struct Document {
    /// All scalars, one after the other.
    text: String,
    entries: Vec<Entry>,
}

/// One node, in the order of the file. A list or map is followed by what it contains.
#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    form: Form,
    /// Number of the entry that follows this one and all it contains.
    end: u32,
    /// Where its text starts in [`Document::text`]; of an alias, the number of its target, itself never an alias.
    start: u32,
    /// The length of its text.
    length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Quoted,
    List,
    Map,
    Alias,
    /// The key `<<`, once what it stands for has been added at the end of its map.
    Merged,
}

/// One node of a document.
#[derive(Debug, Clone, Copy)]
pub struct Node<'d> {
    document: &'d Document,
    /// Never that of an alias.
    number: u32,
    place: Place,
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub enum Value<'d> {
    /// A text, number, boolean, or nothing at all.
    Scalar(Scalar<'d>),
    /// A list.
    List(Items<'d>),
    /// A map.
    Map(Pairs<'d>),
}

/// A text as it stands in the file, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scalar<'d> {
    /// The text.
    pub text: &'d str,
    /// Written without quotes, so that it may mean a number, a boolean or nothing.
    pub plain: bool,
}

impl Document {
    /// The outermost node.
    pub fn root(&self) -> Node<'_> {
        self.node(0)
    }

    fn node(&self, number: u32) -> Node<'_> {
        // An alias is what it stands for, at the place where it stands.
        Node { document: self, number: self.target(number), place: self.entry(number).place }
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    fn target(&self, number: u32) -> u32 {
        let entry = self.entry(number);
        if entry.form == Form::Alias { entry.start } else { number }
    }

    fn text(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..(entry.start + entry.length) as usize]
    }
}

impl<'d> Node<'d> {
    /// Where it stands.
    pub fn place(self) -> Place {
        self.place
    }

    /// What it is.
    pub fn value(self) -> Value<'d> {
        let Self { document, number, .. } = self;
        let entry = document.entry(number);
        // What a list or map contains lies between it and its end.
        match entry.form {
            Form::List => Value::List(Items { document, at: number + 1, end: entry.end }),
            Form::Map => Value::Map(Pairs { document, at: number + 1, end: entry.end }),
            form => Value::Scalar(Scalar { text: document.text(entry), plain: form == Form::Plain }),
        }
    }

    /// Whether it is nothing: left empty, `~` or `null`.
    pub fn is_null(self) -> bool {
        matches!(self.value(), Value::Scalar(scalar) if scalar.is_null())
    }

    /// What it is, for a sentence: `a list`.
    pub fn noun(self) -> &'static str {
        match self.value() {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Scalar<'_> {
    /// Whether it is nothing: left empty, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The nodes of a list, in order.
#[derive(Debug, Clone, Copy)]
pub struct Items<'d> {
    document: &'d Document,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Node<'d>;

    fn next(&mut self) -> Option<Node<'d>> {
        if self.at >= self.end {
            return None;
        }
        let item = self.at;
        self.at = self.document.entry(item).end;
        Some(self.document.node(item))
    }
}

impl FusedIterator for Items<'_> {}

/// A key and its value.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'d> {
    /// The key.
    pub key: &'d str,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub value: Node<'d>,
}

/// The pairs of a map, in the order of the file; merged ones last.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'d> {
    document: &'d Document,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Pairs<'d> {
    type Item = Pair<'d>;

    fn next(&mut self) -> Option<Pair<'d>> {
        while self.at < self.end {
            let key = self.at;
            let value = self.document.entry(key).end;
            self.at = self.document.entry(value).end;
            if self.document.entry(key).form != Form::Merged {
                let text = self.document.text(self.document.entry(self.document.target(key)));
                let place = self.document.entry(key).place;
                return Some(Pair { key: text, place, value: self.document.node(value) });
            }
        }
        None
    }
}

impl FusedIterator for Pairs<'_> {}

#[cfg(test)]
mod tests;
