//! Names of vertices. A vertex is identified by its kind and its name, written `kind[name]`.
//!
//! Knows nothing of which kinds exist or which names are allowed: whoever reads the graph file decides that.

use std::fmt;
use std::sync::Arc;

/// The kind of a resource in lower case, such as `file`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Arc<str>);

impl Kind {
    /// Makes a kind; the text is folded to lower case, because kinds are compared so.
    pub fn new(text: &str) -> Self {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Self(text.to_ascii_lowercase().into())
        } else {
            Self(text.into())
        }
    }

    /// The text of the kind.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What identifies a vertex: its kind and name. Ordered by kind, then name; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The kind of the resource.
    pub kind: Kind,
    /// The name of the resource, unique within its kind.
    pub name: Arc<str>,
}

impl Id {
    /// Makes an id of a kind and a name.
    pub fn new(kind: &str, name: &str) -> Self {
        Self { kind: Kind::new(kind), name: name.into() }
    }

    /// Reads `kind[name]`; `None` if the text does not have that form or a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('[')?;
        let name = rest.strip_suffix(']')?;
        (!kind.is_empty() && !name.is_empty()).then(|| Self::new(kind.trim(), name))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.kind, self.name)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
