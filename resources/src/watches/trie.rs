//! Who wants to hear of which name in which directory: directories by their path, entries by their name. Pure.
//!
//! A node is a directory on the way to a subscription, or one below a subscribed tree. Whether anything stands there,
//! and which kernel watch it has, is written into the node by [`registry`](super::registry); this file never asks the
//! system.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::Signal;

use super::kernel::Touch;
use super::slab::{NONE, Slab};

pub(super) type Name = Arc<OsStr>;
pub(super) type NodeId = u32;
pub(super) type SubId = u32;

/// The root directory: always there.
pub(super) const ROOT: NodeId = 0;

/// How many links lie between a path and its directory at most, as in the kernel.
const LINKS_MAX: usize = 40;

/// Why the kernel's word on a directory is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No watch was left for it.
    Limit,
    /// It may not be read.
    Denied,
    /// Other machines or processes may change it unseen.
    Remote,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    pub(super) name: Name,
    entries: HashMap<Name, Entry>,
    /// How many entries have a subscription.
    leaves: u32,
    /// Subscriptions for this directory and all below.
    trees: Vec<SubId>,
    /// Subscriptions here and below, and links that lead here or below. Nobody needs the node when this is zero, but
    /// for a tree above.
    pub(super) weight: u32,
    /// Subscriptions alone.
    subs_below: u32,
    /// A directory stands here.
    pub(super) present: bool,
    /// Its kernel watch.
    pub(super) watch: Option<i32>,
    pub(super) trouble: Option<Trouble>,
    /// If a symbolic link stands here: the nodes its way depends on; the last one is where it leads.
    pub(super) links: Vec<NodeId>,
    /// The nodes that have this one in `links`.
    pub(super) aliases: Vec<NodeId>,
}

/// A name in a directory: the first of its subscriptions, and its node if it is on the way to others.
#[derive(Debug, Clone, Copy)]
struct Entry {
    sub: SubId,
    child: NodeId,
}

/// A subscription.
#[derive(Debug)]
struct Sub {
    signal: Signal,
    node: NodeId,
    /// The entry; `None` for a tree.
    name: Option<Name>,
    /// The next one for the same entry.
    next: SubId,
}

/// A subscription that has ended.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) node: NodeId,
    /// It was for a whole tree.
    pub(super) tree: bool,
    /// Handed back because dropping it may run code of others, which must not happen under a lock.
    pub(super) signal: Signal,
}

/// What one turn has to look at, and whom it will raise.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Nodes whose directory may be another one now.
    pub(super) work: Vec<NodeId>,
    /// May hold one several times.
    pub(super) raised: Vec<SubId>,
}

/// All nodes and subscriptions.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Slab<Node>,
    subs: Slab<Sub>,
    trees: usize,
}

impl Trie {
    pub(super) fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NONE, OsStr::new("").into()));
        Self { nodes, subs: Slab::new(), trees: 0 }
    }

    pub(super) fn subs_count(&self) -> usize {
        self.subs.len()
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    pub(super) fn holds(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some()
    }

    /// The node of `name` in `at`, if there is one.
    pub(super) fn child(&self, at: NodeId, name: &OsStr) -> Option<NodeId> {
        self.nodes[at].entries.get(name).map(|entry| entry.child).filter(|child| *child != NONE)
    }

    /// Makes the node of `name` in `at`, which has none.
    pub(super) fn grow(&mut self, at: NodeId, name: &OsStr) -> NodeId {
        let name: Name = match self.nodes[at].entries.get_key_value(name) {
            Some((held, _)) => Arc::clone(held),
            None => name.into(),
        };
        let child = self.nodes.insert(Node::new(at, Arc::clone(&name)));
        self.nodes[at].entries.entry(name).or_insert(Entry { sub: NONE, child }).child = child;
        child
    }

    pub(super) fn children(&self, at: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[at].entries.values().map(|entry| entry.child).filter(|child| *child != NONE)
    }

    /// The path by which the subscriber reaches the node.
    pub(super) fn path(&self, id: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            names.push(&*self.nodes[at].name);
            at = self.nodes[at].parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().rev());
        path
    }

    /// The path of the node's directory without links on the way.
    pub(super) fn real_path(&self, id: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let (mut at, mut hops) = (id, 0);
        while at != ROOT {
            match self.nodes[at].links.last() {
                Some(target) if hops < LINKS_MAX => {
                    at = *target;
                    hops += 1;
                }
                _ => {
                    names.push(&*self.nodes[at].name);
                    at = self.nodes[at].parent;
                }
            }
        }
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().rev());
        path
    }

    /// Whether a tree at or above the node reaches it. Trees do not reach through links below them.
    pub(super) fn covered(&self, id: NodeId) -> bool {
        if self.trees == 0 {
            return false;
        }
        let mut at = id;
        loop {
            let node = &self.nodes[at];
            if !node.trees.is_empty() {
                return true;
            }
            if at == ROOT || !node.links.is_empty() {
                return false;
            }
            at = node.parent;
        }
    }

    /// Whether entries of this directory matter, not only the way through it: if a link stands here, or if none does.
    pub(super) fn wide(&self, id: NodeId, link: bool) -> bool {
        let node = &self.nodes[id];
        node.leaves > 0 || !node.trees.is_empty() || (!link && id != ROOT && self.covered(node.parent))
    }

    /// Whether entries of this directory matter, as things stand.
    pub(super) fn wide_now(&self, id: NodeId) -> bool {
        self.wide(id, !self.nodes[id].links.is_empty())
    }

    /// Whether `id` is `above` or lies below it.
    pub(super) fn within(&self, id: NodeId, above: NodeId) -> bool {
        let mut at = id;
        while at != above {
            if at == ROOT {
                return false;
            }
            at = self.nodes[at].parent;
        }
        true
    }

    /// Adds a subscription for `name` in `at`; for the whole tree below `at` without a name.
    pub(super) fn subscribe(&mut self, at: NodeId, name: Option<&OsStr>, signal: Signal) -> SubId {
        let Some(name) = name else {
            let id = self.subs.insert(Sub { signal, node: at, name: None, next: NONE });
            self.nodes[at].trees.push(id);
            self.trees += 1;
            self.weigh(at, 1, 1);
            return id;
        };
        let node = &mut self.nodes[at];
        let held: Name = match node.entries.get_key_value(name) {
            Some((held, _)) => Arc::clone(held),
            None => name.into(),
        };
        let entry = node.entries.entry(Arc::clone(&held)).or_insert(Entry { sub: NONE, child: NONE });
        node.leaves += u32::from(entry.sub == NONE);
        entry.sub = self.subs.insert(Sub { signal, node: at, name: Some(held), next: entry.sub });
        let id = entry.sub;
        self.weigh(at, 1, 1);
        id
    }

    /// Ends a subscription. The node stays until [`Self::spare`] says that nobody needs it.
    pub(super) fn unsubscribe(&mut self, id: SubId) -> Gone {
        let sub = self.subs.remove(id);
        let node = &mut self.nodes[sub.node];
        if let Some(name) = &sub.name {
            let entry = node.entries.get_mut(name).expect("an entry stays while it has a subscription");
            if entry.sub == id {
                entry.sub = sub.next;
            } else {
                let mut before = entry.sub;
                while self.subs[before].next != id {
                    before = self.subs[before].next;
                }
                self.subs[before].next = sub.next;
            }
            if entry.sub == NONE {
                node.leaves -= 1;
                if entry.child == NONE {
                    node.entries.remove(name);
                }
            }
        } else {
            node.trees.retain(|tree| *tree != id);
            self.trees -= 1;
        }
        self.weigh(sub.node, -1, -1);
        Gone { node: sub.node, tree: sub.name.is_none(), signal: sub.signal }
    }

    /// Notes that the link at `from` depends on `to`, or no longer does.
    pub(super) fn tie(&mut self, from: NodeId, to: NodeId) {
        self.nodes[to].aliases.push(from);
        self.weigh(to, 1, 0);
    }

    pub(super) fn untie(&mut self, from: NodeId, to: NodeId) {
        let aliases = &mut self.nodes[to].aliases;
        if let Some(found) = aliases.iter().position(|alias| *alias == from) {
            aliases.swap_remove(found);
            self.weigh(to, -1, 0);
        }
    }

    fn weigh(&mut self, id: NodeId, by: i32, subs: i32) {
        let mut at = id;
        while at != NONE {
            let node = &mut self.nodes[at];
            node.weight = node.weight.checked_add_signed(by).expect("what is taken off was put on");
            node.subs_below = node.subs_below.checked_add_signed(subs).expect("what is taken off was put on");
            at = node.parent;
        }
    }

    /// Whether nobody needs the node any more.
    pub(super) fn spare(&self, id: NodeId) -> bool {
        let node = &self.nodes[id];
        id != ROOT && node.weight == 0 && !(node.present && self.covered(id))
    }

    /// If only links keep the node, and no subscription keeps those: the links, which lead in a circle.
    pub(super) fn circle(&self, id: NodeId) -> Vec<NodeId> {
        let (mut links, mut stack) = (Vec::new(), vec![id]);
        while let Some(at) = stack.pop() {
            let node = &self.nodes[at];
            if node.subs_below > 0 {
                return Vec::new();
            }
            stack.extend(self.children(at));
            for alias in &node.aliases {
                if !links.contains(alias) {
                    links.push(*alias);
                    stack.push(*alias);
                }
            }
        }
        links
    }

    /// Takes a node without children out.
    pub(super) fn cut(&mut self, id: NodeId) -> Node {
        let node = self.nodes.remove(id);
        let entries = &mut self.nodes[node.parent].entries;
        if let Some(entry) = entries.get_mut(&node.name) {
            entry.child = NONE;
            if entry.sub == NONE {
                entries.remove(&node.name);
            }
        }
        node
    }

    /// Something happened to `name` in the directory of `at`: notes whom to raise and which nodes to look at again.
    pub(super) fn touch(&mut self, at: NodeId, name: &OsStr, touch: Touch, turn: &mut Turn) {
        let entry = self.nodes[at].entries.get(name).copied().unwrap_or(Entry { sub: NONE, child: NONE });
        self.raise_list(entry.sub, turn);
        if name.is_empty() {
            turn.work.extend(touch.rebound.then_some(at));
        } else if entry.child != NONE {
            let denied = self.nodes[entry.child].trouble == Some(Trouble::Denied);
            turn.work.extend((touch.rebound || denied).then_some(entry.child));
        } else if touch.directory && self.covered(at) {
            let child = self.grow(at, name);
            turn.work.push(child);
        }
        self.raise_trees(at, turn);
    }

    /// Raises all that is subscribed right here.
    pub(super) fn raise_here(&self, id: NodeId, turn: &mut Turn) {
        for entry in self.nodes[id].entries.values() {
            self.raise_list(entry.sub, turn);
        }
        self.raise_trees(id, turn);
    }

    fn raise_list(&self, first: SubId, turn: &mut Turn) {
        let mut at = first;
        while at != NONE {
            turn.raised.push(at);
            at = self.subs[at].next;
        }
    }

    /// Raises the trees that reach `id`.
    fn raise_trees(&self, id: NodeId, turn: &mut Turn) {
        let mut at = if self.trees == 0 { NONE } else { id };
        while at != NONE {
            let node = &self.nodes[at];
            turn.raised.extend_from_slice(&node.trees);
            at = if node.links.is_empty() { node.parent } else { NONE };
        }
    }

    /// Every subscription that `id` or what lies below it, also through links, decides about.
    pub(super) fn below(&self, id: NodeId, turn: &mut Turn) {
        let mut stack = vec![id];
        let mut seen = std::collections::HashSet::new();
        while let Some(at) = stack.pop() {
            if seen.insert(at) {
                self.raise_here(at, turn);
                stack.extend(self.children(at));
                stack.extend(&self.nodes[at].aliases);
            }
        }
    }

    /// The signals of a turn, each once.
    pub(super) fn signals(&self, turn: &mut Turn) -> Vec<Signal> {
        turn.raised.sort_unstable();
        turn.raised.dedup();
        turn.raised.drain(..).filter_map(|id| self.subs.get(id)).map(|sub| sub.signal.clone()).collect()
    }

    /// The signals of all subscriptions.
    pub(super) fn all_signals(&self) -> Vec<Signal> {
        self.subs.values().map(|sub| sub.signal.clone()).collect()
    }

    /// All nodes that reach the directory at `path`, which has no links on the way.
    pub(super) fn reaching(&self, path: &Path) -> Vec<NodeId> {
        let mut nodes = vec![ROOT];
        self.close_over_aliases(&mut nodes);
        for part in path.components() {
            if let Component::Normal(name) = part {
                nodes = nodes.into_iter().filter_map(|at| self.child(at, name)).collect();
                self.close_over_aliases(&mut nodes);
            }
        }
        nodes
    }

    fn close_over_aliases(&self, nodes: &mut Vec<NodeId>) {
        let mut next = 0;
        while let Some(at) = nodes.get(next).copied() {
            for alias in &self.nodes[at].aliases {
                // Only the last link is where the alias leads; the others are stations on its way.
                if self.nodes[*alias].links.last() == Some(&at) && !nodes.contains(alias) {
                    nodes.push(*alias);
                }
            }
            next += 1;
        }
    }
}

impl Node {
    fn new(parent: NodeId, name: Name) -> Self {
        Self {
            parent,
            name,
            entries: HashMap::new(),
            leaves: 0,
            trees: Vec::new(),
            weight: 0,
            subs_below: 0,
            present: false,
            watch: None,
            trouble: None,
            links: Vec::new(),
            aliases: Vec::new(),
        }
    }
}
