//! Events of the YAML parser to the flat tree, and all bounds but the file's size on disk.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::{BYTES_MAX, DEPTH_MAX, Document, EXPANSION_MAX, Entry, Form, MARKS_MAX, NODES_MAX, Place, read};
use crate::diagnostic::Problem;

/// Reads a document.
///
/// # Errors
/// The first thing that keeps the bytes from being one YAML document within the bounds. There is only ever one: after
/// it, places mean nothing.
pub fn parse(bytes: &[u8]) -> Result<Document, Problem> {
    if bytes.len() > BYTES_MAX {
        return Err(read::too_big());
    }
    let text = utf8(bytes)?;
    check_marks(bytes)?;
    let mut builder = Builder::default();
    // Most scalars are about as long in the file as in the tree; a node takes some eight bytes of file.
    builder.document.text.reserve(bytes.len() / 2);
    builder.document.entries.reserve(bytes.len() / 16);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| malformed(&error))?;
        builder.take(event, place(&span.start))?;
    }
    if builder.document.entries.is_empty() {
        return Err(Problem::error(None, "", "is empty").hint("the least a graph file has is `graph: NAME`".to_owned()));
    }
    Ok(builder.document)
}

fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    let (valid, message) = match std::str::from_utf8(bytes) {
        Err(error) => (error.valid_up_to(), "is not UTF-8 text"),
        Ok(text) => match text.find('\0') {
            Some(at) => (at, "is binary, not text"),
            None => return Ok(text),
        },
    };
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count() as u32;
    let column = 1 + before.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u32;
    Err(Problem::error(Place { line, column }, "", message))
}

/// Refuses what would make far too many tokens: in brackets, each needs at least one of these bytes.
fn check_marks(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.len() <= MARKS_MAX {
        return Ok(());
    }
    let mark =
        |byte: &u8| matches!(byte, b',' | b'[' | b']' | b'{' | b'}' | b'"' | b'\'' | b'&' | b'*' | b'!' | b':' | b'?');
    // By pieces, so that what has far too many is refused early.
    let mut count = 0;
    if bytes.chunks(1 << 16).all(|piece| {
        count += piece.iter().map(|byte| usize::from(mark(byte))).sum::<usize>();
        count <= MARKS_MAX
    }) {
        return Ok(());
    }
    Err(Problem::error(None, "", format!("has more than {MARKS_MAX} brackets, commas, colons and quotes"))
        .hint(read::LONG_CONTENTS.to_owned()))
}

fn place(mark: &Marker) -> Place {
    Place { line: mark.line() as u32, column: mark.col() as u32 + 1 }
}

fn malformed(error: &ScanError) -> Problem {
    if error.info() == "recursion limit exceeded" {
        return too_deep(place(error.marker()));
    }
    // `after: [file[motd]]` is what people write, and YAML ends a plain text at a bracket inside a list in brackets.
    let brackets = error
        .info()
        .contains("flow sequence")
        .then(|| "inside [ ], a text with brackets or commas needs quotes: [\"file[motd]\"]".to_owned());
    Problem::error(place(error.marker()), "", format!("not YAML: {}", error.info())).hint(brackets)
}

fn too_deep(place: Place) -> Problem {
    Problem::error(place, "", format!("nested deeper than {DEPTH_MAX}"))
}

/// How much a part of the tree is, aliases followed.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn since(self, before: Self) -> Self {
        Self { nodes: self.nodes - before.nodes, bytes: self.bytes - before.bytes }
    }
}

/// A list or map whose end has not been seen.
struct Open {
    number: u32,
    map: bool,
    /// How many entries it has so far; in a map, keys have even numbers.
    children: u32,
    anchor: usize,
    /// What the tree was before it.
    before: Size,
    /// Number of the key `<<`, if the map has one.
    merge: Option<u32>,
}

#[derive(Default)]
struct Builder {
    document: Document,
    open: Vec<Open>,
    /// Anchored nodes that are complete: their number and size.
    anchors: HashMap<usize, (u32, Size)>,
    /// The whole tree so far.
    size: Size,
    /// What aliases stand for so far.
    expanded: Size,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), place),
            Event::SequenceStart(anchor, tag) => self.enter(Form::List, anchor, tag.as_deref(), place),
            Event::MappingStart(anchor, tag) => self.enter(Form::Map, anchor, tag.as_deref(), place),
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::error(place, "", "a second document starts here: a graph file is one"));
                }
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), Problem> {
        check_tag(tag, place)?;
        // `!!str 5` and `! 5` are texts, as if in quotes.
        let quoted = style != ScalarStyle::Plain || tag.is_some_and(is_text);
        let form = if quoted { Form::Quoted } else { Form::Plain };
        let before = self.size;
        let start = self.document.text.len() as u32;
        self.document.text.push_str(text);
        let number = self.push(Entry { place, form, end: 0, start, length: text.len() as u32 })?;
        self.size.add(Size { nodes: 0, bytes: text.len() as u64 });
        if anchor != 0 {
            self.anchors.insert(anchor, (number, self.size.since(before)));
        }
        if form == Form::Plain
            && text == "<<"
            && let Some(open) = self.open.last_mut()
            && open.map
            && open.children % 2 == 1
        {
            open.merge = Some(number);
        }
        Ok(())
    }

    fn enter(&mut self, form: Form, anchor: usize, tag: Option<&Tag>, place: Place) -> Result<(), Problem> {
        check_tag(tag, place)?;
        if self.open.len() == DEPTH_MAX {
            return Err(too_deep(place));
        }
        if self.open.last().is_some_and(|open| open.map && open.children % 2 == 0) {
            return Err(not_a_key(place));
        }
        let before = self.size;
        let number = self.push(Entry { place, form, end: 0, start: 0, length: 0 })?;
        self.open.push(Open { number, map: form == Form::Map, children: 0, anchor, before, merge: None });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Problem> {
        let open = self.open.pop().expect("the parser ends only what it began");
        if open.map {
            self.check_keys(&open)?;
            if let Some(key) = open.merge {
                self.merge(&open, key)?;
            }
        }
        self.document.entries[open.number as usize].end = self.document.entries.len() as u32;
        if open.anchor != 0 {
            self.anchors.insert(open.anchor, (open.number, self.size.since(open.before)));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Problem> {
        let Some(&(target, size)) = self.anchors.get(&anchor) else {
            return Err(Problem::error(place, "", "an alias inside of what it stands for"));
        };
        let key = self.open.last().is_some_and(|open| open.map && open.children % 2 == 0);
        if key && matches!(self.document.entry(target).form, Form::List | Form::Map) {
            return Err(not_a_key(place));
        }
        self.size.add(size);
        self.expand(size, place)?;
        self.push(Entry { place, form: Form::Alias, end: 0, start: target, length: 0 }).map(drop)
    }

    fn expand(&mut self, size: Size, place: Place) -> Result<(), Problem> {
        self.expanded.add(size);
        if self.expanded.nodes > EXPANSION_MAX {
            return Err(Problem::error(place, "", format!("aliases stand for more than {EXPANSION_MAX} nodes in all")));
        }
        if self.expanded.bytes > BYTES_MAX as u64 {
            let message = format!("aliases stand for more than {} MiB of text in all", BYTES_MAX >> 20);
            return Err(Problem::error(place, "", message));
        }
        Ok(())
    }

    /// Adds an entry that ends where it began.
    fn push(&mut self, mut entry: Entry) -> Result<u32, Problem> {
        let number = self.document.entries.len();
        if number >= NODES_MAX {
            return Err(Problem::error(entry.place, "", format!("more than {NODES_MAX} nodes")));
        }
        entry.end = number as u32 + 1;
        self.document.entries.push(entry);
        self.size.nodes = self.size.nodes.saturating_add(1);
        if let Some(open) = self.open.last_mut() {
            open.children += 1;
        }
        Ok(number as u32)
    }

    /// Numbers of the keys of a map, in order.
    fn keys(&self, map: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = map + 1;
        std::iter::from_fn(move || {
            let key = at;
            (key < end).then(|| {
                at = self.document.entry(self.document.entry(key).end).end;
                key
            })
        })
    }

    fn key(&self, number: u32) -> &str {
        self.document.text(self.document.entry(self.document.target(number)))
    }

    /// No key twice.
    fn check_keys(&self, open: &Open) -> Result<(), Problem> {
        let end = self.document.entries.len() as u32;
        // Most maps have a handful of keys, and comparing those is cheaper than a set.
        let repeated = if open.children <= 32 {
            self.keys(open.number, end).find_map(|key| {
                let first = self.keys(open.number, key).find(|earlier| self.key(*earlier) == self.key(key));
                first.map(|first| (first, key))
            })
        } else {
            let mut seen = HashMap::new();
            self.keys(open.number, end).find_map(|key| seen.insert(self.key(key), key).map(|first| (first, key)))
        };
        match repeated {
            None => Ok(()),
            Some((first, key)) => {
                let message = format!("the key '{}' is there twice", crate::diagnostic::Printable(self.key(key)));
                let first = self.document.entry(first).place;
                Err(Problem::error(self.document.entry(key).place, "", message).hint(format!("also at {first}")))
            }
        }
    }

    /// Adds to the end of a map what its key `<<` stands for: pairs whose keys it does not have. Earlier maps win.
    fn merge(&mut self, open: &Open, key: u32) -> Result<(), Problem> {
        let value = self.document.entry(key).end;
        let place = self.document.entry(value).place;
        let mut sources = Vec::new();
        let target = self.document.target(value);
        match self.document.entry(target).form {
            Form::Map => sources.push(target),
            Form::List => {
                let (mut at, end) = (target + 1, self.document.entry(target).end);
                while at < end {
                    sources.push(self.document.target(at));
                    at = self.document.entry(at).end;
                }
            }
            _ => {}
        }
        if sources.is_empty() || sources.iter().any(|source| self.document.entry(*source).form != Form::Map) {
            return Err(Problem::error(place, "", "`<<` wants a map, or a list of maps"));
        }
        self.document.entries[key as usize].form = Form::Merged;
        let end = self.document.entries.len() as u32;
        let mut known: HashSet<String> = self.keys(open.number, end).map(|key| self.key(key).to_owned()).collect();
        for source in sources {
            let pairs: Vec<u32> = self.keys(source, self.document.entry(source).end).collect();
            for key in pairs {
                if self.document.entry(key).form == Form::Merged || !known.insert(self.key(key).to_owned()) {
                    continue;
                }
                for part in [key, self.document.entry(key).end] {
                    let (start, place) = (self.document.target(part), self.document.entry(part).place);
                    self.push(Entry { place, form: Form::Alias, end: 0, start, length: 0 })?;
                }
                self.expand(Size { nodes: 2, bytes: 0 }, place)?;
            }
        }
        Ok(())
    }
}

fn not_a_key(place: Place) -> Problem {
    Problem::error(place, "", "a key must be a text, not a list or a map")
}

fn is_text(tag: &Tag) -> bool {
    (tag.is_yaml_core_schema() && tag.suffix == "str") || (tag.handle.is_empty() && tag.suffix == "!")
}

/// Tags say nothing here that the place of a value does not say better; only one would change what it means.
fn check_tag(tag: Option<&Tag>, place: Place) -> Result<(), Problem> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "binary" => {
            Err(Problem::error(place, "", "`!!binary` is not supported").hint("name a file by `source`".to_owned()))
        }
        _ => Ok(()),
    }
}
