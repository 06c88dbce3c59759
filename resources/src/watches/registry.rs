//! Keeps the kernel's watches in step with the trie.
//!
//! One rule makes it safe: a directory is watched *before* the next name is looked up in it. Whatever changes that
//! lookup afterwards is an event, and an event on a name on the way arms everything below that name anew, and raises it.
//! So a path may be replaced while it is being armed: the event that says so is already in the queue.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use mgmt_engine::resource::Signal;

use super::kernel::{self, Added, How, Kernel, Touch, WatchDescriptor};
use super::trie::{NodeId, ROOT, SubId, Trie, Trouble, Turn};

/// How often one node is armed in one turn. Once is normal, twice if a link and its target lie in each other's way; the
/// bound is for links that lead in circles.
const VISITS_MAX: u8 = 8;

/// How many links are followed inside links, as in the kernel.
const LINKS_MAX: u8 = 40;

/// One kernel watch, and every path that reaches its inode.
#[derive(Debug)]
pub(super) struct Held {
    descriptor: WatchDescriptor,
    nodes: Vec<NodeId>,
    wide: bool,
}

/// All subscriptions and watches of the process. Lives behind one lock.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) trie: Trie,
    kernel: Kernel,
    pub(super) held: HashMap<i32, Held>,
    /// Nodes with a trouble.
    pub(super) troubled: HashSet<NodeId>,
    /// Nodes whose trouble may be new to the reader of the log.
    pub(super) unsaid: Vec<NodeId>,
    /// Nodes that a look into a directory has made, still to be armed.
    fresh: Vec<NodeId>,
    /// Nodes that have lost a link to them, and may be needed no more.
    loose: Vec<NodeId>,
    /// What was said already.
    pub(super) said: HashSet<String>,
    /// Something could not be done without a gap: the next turn looks at everything.
    doubt: bool,
    pub(super) overflows: u64,
    /// Links inside links being followed right now.
    depth: u8,
}

impl Registry {
    pub(super) fn new(kernel: Kernel) -> Self {
        let mut registry = Self {
            trie: Trie::new(),
            kernel,
            held: HashMap::new(),
            troubled: HashSet::new(),
            unsaid: Vec::new(),
            fresh: Vec::new(),
            loose: Vec::new(),
            said: HashSet::new(),
            doubt: false,
            overflows: 0,
            depth: 0,
        };
        // Nothing is subscribed: nothing above the root can be raised, and no link can be followed.
        registry.arm(ROOT);
        registry
    }

    /// How often the kernel's queue was full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Whether the next turn must not wait for an event.
    pub(super) fn doubtful(&self) -> bool {
        self.doubt
    }

    /// What is known may be wrong: the next turn looks at everything. Hands out all signals.
    pub(super) fn distrust(&mut self) -> Vec<Signal> {
        self.doubt = true;
        self.trie.all_signals()
    }

    /// Subscribes to `name` in `directory`, an absolute path; to the whole directory without a name.
    pub(super) fn subscribe(&mut self, directory: &Path, name: Option<&OsStr>, signal: &Signal) -> SubId {
        let mut turn = Turn::default();
        let node = self.reach(directory);
        let wide = self.trie.wide_now(node);
        let id = self.trie.subscribe(node, name, signal.clone());
        if name.is_none() {
            turn.work.push(node);
        } else if !wide {
            self.arm(node);
        }
        // Whom this turn would raise is not told: what it finds changed is an event that the reader will see.
        self.settle(&mut turn);
        id
    }

    /// Ends a subscription, and the watches that only it needed.
    pub(super) fn unsubscribe(&mut self, id: SubId) -> Signal {
        let gone = self.trie.unsubscribe(id);
        if gone.tree {
            self.sweep(gone.node);
        }
        self.narrow(gone.node);
        self.release(gone.node);
        self.tidy();
        gone.signal
    }

    /// Takes in one event of the watch `number`.
    pub(super) fn event(&mut self, number: i32, touch: Touch, name: &OsStr, turn: &mut Turn) {
        if touch.overflow {
            self.overflows += 1;
            self.doubt = true;
        }
        if touch.ended {
            let Some(held) = self.held.remove(&number) else { return };
            for id in held.nodes {
                self.trie.node_mut(id).watch = None;
                turn.work.push(id);
            }
        } else if let Some(held) = self.held.get(&number) {
            for id in &held.nodes {
                self.trie.touch(*id, name, touch, turn);
            }
        }
    }

    /// Something was mounted at `point`, or no longer is.
    pub(super) fn mounted(&mut self, point: &Path, turn: &mut Turn) {
        let touch = Touch { rebound: true, directory: true, ..Touch::default() };
        match (point.parent(), point.file_name()) {
            (Some(parent), Some(name)) => {
                for id in self.trie.reaching(parent) {
                    self.trie.touch(id, name, touch, turn);
                }
            }
            _ => turn.work.push(ROOT),
        }
    }

    /// Ends a turn: arms again what may have moved, and hands out whom to raise, to be done without any lock.
    pub(super) fn finish(&mut self, mut turn: Turn) -> Vec<Signal> {
        if std::mem::take(&mut self.doubt) {
            turn.work.push(ROOT);
        }
        self.settle(&mut turn);
        self.trie.signals(&mut turn)
    }

    /// Arms the work's nodes and everything below them, also through links, and raises what is subscribed there.
    /// Parents come before children: a child's lookup is only as good as its parent's watch.
    fn settle(&mut self, turn: &mut Turn) {
        turn.work.append(&mut self.fresh);
        self.topmost(&mut turn.work);
        let mut visits: HashMap<NodeId, u8> = HashMap::new();
        while let Some(id) = turn.work.pop() {
            let visit = visits.entry(id).or_default();
            if *visit == VISITS_MAX || !self.trie.holds(id) {
                continue;
            }
            *visit += 1;
            self.arm(id);
            self.trie.raise_here(id, turn);
            turn.work.extend(&self.trie.node(id).aliases);
            turn.work.extend(self.trie.children(id));
            // Fresh nodes below this one are among its children; others come from where a link leads.
            let Self { fresh, trie, .. } = self;
            turn.work.extend(fresh.drain(..).filter(|fresh| trie.node(*fresh).parent != id));
            if self.trie.spare(id) && self.trie.children(id).next().is_none() {
                self.release(id);
            }
        }
        self.tidy();
    }

    /// Keeps the nodes that have none above them in the list: they are reached from there, after their parents.
    fn topmost(&self, work: &mut Vec<NodeId>) {
        let listed: HashSet<NodeId> = work.drain(..).filter(|id| self.trie.holds(*id)).collect();
        let hidden = |id: &NodeId| {
            let mut at = *id;
            while at != ROOT {
                at = self.trie.node(at).parent;
                if listed.contains(&at) {
                    return true;
                }
            }
            false
        };
        work.extend(listed.iter().filter(|id| !hidden(id)));
    }

    /// The node of `directory`, made and armed from the root downwards where it does not exist yet.
    fn reach(&mut self, directory: &Path) -> NodeId {
        let mut at = ROOT;
        for part in directory.components() {
            let Component::Normal(name) = part else { continue };
            at = self.trie.child(at, name).unwrap_or_else(|| {
                let child = self.trie.grow(at, name);
                // It is about to be needed, so a link there has to be followed already now.
                self.trie.node_mut(child).weight += 1;
                self.arm(child);
                self.trie.node_mut(child).weight -= 1;
                child
            });
        }
        at
    }

    /// Brings one node in step with what stands at its path.
    fn arm(&mut self, id: NodeId) {
        let above = self.trie.node(id).parent;
        let path = self.trie.path(id);
        let mut wide = self.trie.wide(id, false);
        let mut added = Added::Absent;
        let mut links = Vec::new();
        if id == ROOT || self.trie.node(above).present {
            added = self.kernel.add(&path, How { wide, follow: false });
        }
        if matches!(added, Added::NotDirectory)
            && self.trie.node(id).weight > 0
            && let Some(text) = kernel::link(&path)
        {
            links = self.follow(id, &text);
            wide = self.trie.wide(id, true);
            added = self.kernel.add(&path, How { wide, follow: true });
        }
        self.relink(id, links);
        let (present, trouble) = match added {
            Added::Watched(descriptor) => {
                self.attach(id, descriptor, wide);
                (true, self.kernel.remote(&path).map(|name| self.say_remote(id, &path, name)))
            }
            Added::Absent | Added::NotDirectory => (false, None),
            Added::Denied => (true, Some(Trouble::Denied)),
            Added::Limit => (true, Some(Trouble::Limit)),
        };
        let node = self.trie.node_mut(id);
        node.present = present;
        node.trouble = trouble;
        if node.watch.is_some() && (!present || matches!(trouble, Some(Trouble::Denied | Trouble::Limit))) {
            self.detach(id);
        }
        if trouble.is_none() {
            self.troubled.remove(&id);
        } else if self.troubled.insert(id) {
            self.unsaid.push(id);
        }
        if !present && id != ROOT && self.trie.node(above).trouble.is_some() {
            self.unsaid.push(above);
        }
        if present && self.trie.covered(id) {
            self.scan(id, &path);
        }
    }

    /// Makes nodes for the directories in a directory of a tree. The watch came first, so one that is made while we
    /// read is an event. Whoever called arms them.
    fn scan(&mut self, id: NodeId, path: &Path) {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.trie.child(id, &entry.file_name()).is_none() {
                self.fresh.push(self.trie.grow(id, &entry.file_name()));
            }
        }
    }

    /// The nodes that the link at `id` depends on, made and armed: where it leads is last. The kernel looks names up
    /// one after the other, and so does this: `..` leads up from where a link ended, not from where it stood.
    fn follow(&mut self, id: NodeId, text: &Path) -> Vec<NodeId> {
        let mut links = Vec::new();
        if self.depth == LINKS_MAX {
            return links;
        }
        self.depth += 1;
        let mut at = self.trie.real_path(self.trie.node(id).parent);
        for part in text.components() {
            match part {
                Component::RootDir => at = PathBuf::from("/"),
                Component::Normal(name) => at.push(name),
                Component::ParentDir => {
                    let station = self.reach(&at);
                    links.push(station);
                    at = self.trie.real_path(station);
                    at.pop();
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        links.push(self.reach(&at));
        self.depth -= 1;
        // A link that leads through itself leads nowhere, and would keep itself alive here.
        if links.iter().any(|link| self.trie.within(*link, id)) {
            self.loose.append(&mut links);
        }
        links
    }

    fn relink(&mut self, id: NodeId, links: Vec<NodeId>) {
        for to in &links {
            self.trie.tie(id, *to);
        }
        let before = std::mem::replace(&mut self.trie.node_mut(id).links, links);
        for to in before {
            self.trie.untie(id, to);
            self.loose.push(to);
        }
    }

    /// Takes out what has lost its last link. Only at the end of a turn: nodes in the making are needed by nobody yet.
    fn tidy(&mut self) {
        while let Some(id) = self.loose.pop() {
            self.release(id);
        }
    }

    fn attach(&mut self, id: NodeId, descriptor: WatchDescriptor, wide: bool) {
        let number = descriptor.get_watch_descriptor_id();
        let held = self.held.entry(number).or_insert_with(|| Held { descriptor, nodes: Vec::new(), wide: false });
        held.wide |= wide;
        if self.trie.node(id).watch != Some(number) {
            held.nodes.push(id);
            self.detach(id);
            self.trie.node_mut(id).watch = Some(number);
        }
        self.count_held();
    }

    fn detach(&mut self, id: NodeId) {
        let Some(number) = self.trie.node_mut(id).watch.take() else { return };
        let Some(held) = self.held.get_mut(&number) else { return };
        held.nodes.retain(|node| *node != id);
        if held.nodes.is_empty()
            && let Some(held) = self.held.remove(&number)
        {
            self.kernel.remove(held.descriptor);
        }
        self.count_held();
    }

    /// Tells the tests' stand-in for the kernel's limit how many watches there are.
    fn count_held(&mut self) {
        #[cfg(test)]
        {
            self.kernel.pretence.held = self.held.len();
        }
    }

    /// Takes out nodes that nobody needs, from `id` upwards.
    fn release(&mut self, id: NodeId) {
        let mut at = id;
        while self.trie.holds(at) && self.trie.spare(at) {
            let parent = self.trie.node(at).parent;
            self.remove(at);
            at = parent;
        }
        if self.trie.holds(at) {
            for link in self.trie.circle(at) {
                self.relink(link, Vec::new());
                self.loose.push(link);
            }
        }
    }

    /// Takes out a node and all below it.
    fn remove(&mut self, id: NodeId) {
        let below: Vec<NodeId> = self.trie.children(id).collect();
        for child in below {
            self.remove(child);
        }
        self.relink(id, Vec::new());
        self.detach(id);
        self.troubled.remove(&id);
        self.trie.cut(id);
    }

    /// Takes out what a tree at `id` needed, and nobody else.
    fn sweep(&mut self, id: NodeId) {
        let below: Vec<NodeId> = self.trie.children(id).collect();
        for child in below {
            if self.trie.spare(child) {
                self.remove(child);
            } else {
                self.sweep(child);
                self.narrow(child);
            }
        }
    }

    /// Watches a directory for less, once its last entry is no longer subscribed.
    fn narrow(&mut self, id: NodeId) {
        let Some(number) = self.trie.node(id).watch else { return };
        let Some(held) = self.held.get_mut(&number) else { return };
        if !held.wide || held.nodes.iter().any(|node| self.trie.wide_now(*node)) {
            return;
        }
        held.wide = false;
        let path = self.trie.path(id);
        if let Added::Watched(descriptor) = self.kernel.narrow(&path)
            && descriptor.get_watch_descriptor_id() != number
        {
            // Another directory stands here now, and its watch may have lost a part of what it was held for.
            self.doubt = true;
            if !self.held.contains_key(&descriptor.get_watch_descriptor_id()) {
                self.attach(id, descriptor, false);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn kernel_mut(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}
