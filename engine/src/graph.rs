//! The graph: vertices, and edges that order them. Directed and without cycles, once [`Graph::seal`] has said so.
//!
//! The door to petgraph. Vertices are numbered in the order they were added.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use petgraph::acyclic::Acyclic;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef as _;

use crate::erased::AnyResource;
use crate::id::Id;
use crate::meta::Meta;

/// One resource of the graph.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// What identifies it.
    pub id: Id,
    /// What it is.
    pub resource: AnyResource,
    /// How the engine treats it.
    pub meta: Meta,
}

impl Vertex {
    /// Equal in everything that matters to a running engine: such a vertex is left alone by a new graph.
    pub fn same(&self, other: &Self) -> bool {
        self.id == other.id && self.meta == other.meta && self.resource.same(&*other.resource)
    }
}

/// `from` runs before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Number of the vertex that comes first.
    pub from: usize,
    /// Number of the vertex that waits.
    pub to: usize,
    /// A change of `from` refreshes `to`.
    pub notify: bool,
    /// Found by the program, not written by the user.
    pub automatic: bool,
}

/// Edges that form a circle: each vertex comes before the next, and the last before the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these wait for each other: {}", .vertices.iter().chain(.vertices.first()).map(|n| .names[*n].to_string()).collect::<Vec<_>>().join(" → "))]
pub struct Cycle {
    /// Numbers of the vertices, in order, starting at the lowest.
    pub vertices: Vec<usize>,
    names: Vec<Id>,
}

/// A graph in the making, or made.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    name: String,
    vertices: Vec<Vertex>,
    numbers: HashMap<Id, usize>,
    edges: Vec<Edge>,
    pairs: HashMap<(usize, usize), usize>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a vertex and returns its number.
    ///
    /// # Errors
    /// The number of the vertex that has this id already.
    pub fn add(&mut self, vertex: Vertex) -> Result<usize, usize> {
        let number = self.vertices.len();
        match self.numbers.entry(vertex.id.clone()) {
            Entry::Occupied(taken) => Err(*taken.get()),
            Entry::Vacant(free) => {
                free.insert(number);
                self.vertices.push(vertex);
                Ok(number)
            }
        }
    }

    /// Puts `from` before `to`. A repeated edge is merged: `notify` is or-ed.
    ///
    /// # Panics
    /// If a number is not of this graph.
    pub fn connect(&mut self, from: usize, to: usize, notify: bool) {
        self.insert(Edge { from, to, notify, automatic: false });
    }

    fn insert(&mut self, edge: Edge) {
        assert!(
            edge.from < self.vertices.len() && edge.to < self.vertices.len(),
            "an edge joins vertices of its graph"
        );
        match self.pairs.entry((edge.from, edge.to)) {
            Entry::Occupied(known) => {
                let known = &mut self.edges[*known.get()];
                known.notify |= edge.notify;
                known.automatic &= edge.automatic;
            }
            Entry::Vacant(free) => {
                free.insert(self.edges.len());
                self.edges.push(edge);
            }
        }
    }

    /// The number of a vertex.
    pub fn number(&self, id: &Id) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    /// All vertices, by number.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// All edges, in the order they were added.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The vertices in an order in which each comes after its predecessors; among those that could come next, the lowest
    /// number does. Vertices on a cycle are left out.
    pub fn order(&self) -> Vec<usize> {
        let mut waits = vec![0_usize; self.vertices.len()];
        let mut after = vec![Vec::new(); self.vertices.len()];
        for edge in &self.edges {
            waits[edge.to] += 1;
            after[edge.from].push(edge.to);
        }
        let free = waits.iter().enumerate().filter(|(_, waits)| **waits == 0);
        let mut ready: BinaryHeap<Reverse<usize>> = free.map(|(number, _)| Reverse(number)).collect();
        let mut order = Vec::with_capacity(self.vertices.len());
        while let Some(Reverse(number)) = ready.pop() {
            order.push(number);
            for next in &after[number] {
                waits[*next] -= 1;
                if waits[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
        order
    }

    /// Checks that there is no cycle, then adds those of the weaker edges that make none, in their order: edges that must
    /// not keep a graph from running. Returns the ones left out because they would have closed a cycle.
    ///
    /// # Errors
    /// One cycle among the edges that were there before.
    pub fn seal(&mut self, weaker: &[Edge]) -> Result<Vec<Edge>, Cycle> {
        let mut plain = DiGraph::<(), (), u32>::with_capacity(self.vertices.len(), self.edges.len());
        for _ in &self.vertices {
            plain.add_node(());
        }
        for edge in &self.edges {
            plain.add_edge(node(edge.from), node(edge.to), ());
        }
        if weaker.is_empty() {
            return match petgraph::algo::toposort(&plain, None) {
                Ok(_) => Ok(Vec::new()),
                Err(_) => Err(self.cycle(&plain)),
            };
        }
        let mut acyclic = match Acyclic::try_from_graph(plain) {
            Ok(acyclic) => acyclic,
            Err(_) => {
                let mut plain = DiGraph::<(), (), u32>::new();
                for _ in &self.vertices {
                    plain.add_node(());
                }
                for edge in &self.edges {
                    plain.add_edge(node(edge.from), node(edge.to), ());
                }
                return Err(self.cycle(&plain));
            }
        };
        let mut left_out = Vec::new();
        for edge in weaker {
            let known = self.pairs.contains_key(&(edge.from, edge.to));
            if known || (edge.from != edge.to && acyclic.try_add_edge(node(edge.from), node(edge.to), ()).is_ok()) {
                self.insert(*edge);
            } else {
                left_out.push(*edge);
            }
        }
        Ok(left_out)
    }

    /// Names one cycle of a graph that has one.
    fn cycle(&self, plain: &DiGraph<(), (), u32>) -> Cycle {
        let knot = petgraph::algo::tarjan_scc(plain)
            .into_iter()
            .filter(|knot| knot.len() > 1 || plain.find_edge(knot[0], knot[0]).is_some())
            .min_by_key(|knot| knot.iter().min().copied())
            .expect("toposort found a cycle, so some component is strongly connected");
        // Breadth first from its lowest vertex, within the component, back to itself: a shortest cycle through it.
        let start = *knot.iter().min().expect("a component is not empty");
        let members: std::collections::BTreeSet<_> = knot.into_iter().collect();
        let mut before: HashMap<NodeIndex<u32>, NodeIndex<u32>> = HashMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        let mut last = None;
        while let Some(at) = queue.pop_front() {
            let mut next: Vec<_> = plain.edges(at).map(|edge| edge.target()).filter(|n| members.contains(n)).collect();
            next.sort_unstable();
            if next.contains(&start) {
                last = Some(at);
                break;
            }
            for n in next {
                if n != start && !before.contains_key(&n) {
                    before.insert(n, at);
                    queue.push_back(n);
                }
            }
        }
        let mut at = last.expect("every vertex of a strongly connected component lies on a cycle");
        let mut vertices = vec![at.index()];
        while let Some(previous) = before.get(&at) {
            at = *previous;
            vertices.push(at.index());
        }
        vertices.reverse();
        Cycle { vertices, names: self.vertices.iter().map(|v| v.id.clone()).collect() }
    }
}

fn node(number: usize) -> NodeIndex<u32> {
    NodeIndex::new(number)
}
