//! What a new graph changes: which vertices stay as they run, which leave, which enter.

use crate::graph::Graph;

/// The fate of a vertex of the new graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Equal to this vertex of the old graph: left alone.
    Stays(usize),
    /// Takes the place of this vertex of the old graph, which has the same id and leaves.
    Replaces(usize),
    /// New.
    Enters,
}

/// What a new graph changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// For each vertex of the new graph, by number.
    pub fates: Vec<Fate>,
    /// Numbers of the old graph's vertices that leave, replaced ones included, in order.
    pub leaves: Vec<usize>,
}

impl Difference {
    /// How many stay.
    pub fn kept(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Stays(_))).count()
    }

    /// How many are replaced by another version of themselves.
    pub fn replaced(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Replaces(_))).count()
    }

    /// How many are new.
    pub fn entered(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Enters)).count()
    }

    /// How many leave for good.
    pub fn left(&self) -> usize {
        self.leaves.len() - self.replaced()
    }
}

/// Compares two graphs.
pub fn difference(old: &Graph, new: &Graph) -> Difference {
    let mut stays = vec![false; old.vertices().len()];
    let fates = new
        .vertices()
        .iter()
        .enumerate()
        .map(|(number, vertex)| {
            // Most new graphs are the old one with a small edit: the same number is the likeliest place.
            let known = match old.vertices().get(number) {
                Some(same_place) if same_place.id == vertex.id => Some(number),
                _ if old.vertices().is_empty() => None,
                _ => old.number(&vertex.id),
            };
            match known {
                Some(known) if vertex.same(&old.vertices()[known]) => {
                    stays[known] = true;
                    Fate::Stays(known)
                }
                Some(known) => Fate::Replaces(known),
                None => Fate::Enters,
            }
        })
        .collect();
    let leaves = stays.iter().enumerate().filter(|(_, stays)| !**stays).map(|(number, _)| number).collect();
    Difference { fates, leaves }
}
