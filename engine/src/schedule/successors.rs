//! Who comes after whom: one flat list of edges, grouped by the vertex they start at. Laid anew with every graph.

/// Edges by the slot they start at. The list of a slot that no edge starts at, or that came later, is empty.
#[derive(Debug, Default)]
pub(super) struct Successors {
    /// Where the edges of each slot start in `edges`; one more than there are slots.
    starts: Vec<u32>,
    edges: Vec<(u32, bool)>,
}

impl Successors {
    /// Lays the edges of so many slots: from, to, whether it notifies.
    pub(super) fn lay(slots: usize, edges: impl ExactSizeIterator<Item = (u32, u32, bool)> + Clone) -> Self {
        let mut starts = vec![0_u32; slots + 1];
        for (from, ..) in edges.clone() {
            starts[from as usize + 1] += 1;
        }
        for slot in 0..slots {
            starts[slot + 1] += starts[slot];
        }
        let mut next = starts.clone();
        let mut laid = vec![(0, false); edges.len()];
        for (from, to, notify) in edges {
            let at = &mut next[from as usize];
            laid[*at as usize] = (to, notify);
            *at += 1;
        }
        Self { starts, edges: laid }
    }

    /// Where the edges of a slot are: a range for [`at`](Self::at), which holds no borrow.
    pub(super) fn of(&self, slot: u32) -> std::ops::Range<u32> {
        match self.starts.get(slot as usize..slot as usize + 2) {
            Some(&[from, to]) => from..to,
            _ => 0..0,
        }
    }

    /// An edge: to whom, and whether it notifies.
    pub(super) fn at(&self, number: u32) -> (u32, bool) {
        self.edges[number as usize]
    }

    /// All edges: from, to.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0_u32..)
            .zip(self.starts.windows(2))
            .flat_map(|(from, range)| (range[0]..range[1]).map(move |n| (from, n)))
            .map(|(from, number)| (from, self.edges[number as usize].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_grouped_in_their_order() {
        let edges = [(2, 0, false), (0, 1, true), (2, 1, true), (0, 2, false)];
        let laid = Successors::lay(3, edges.into_iter());
        let of = |slot| laid.of(slot).map(|n| laid.at(n)).collect::<Vec<_>>();
        assert_eq!(of(0), [(1, true), (2, false)]);
        assert_eq!(of(1), []);
        assert_eq!(of(2), [(0, false), (1, true)]);
        assert_eq!(of(3), [], "a slot that came later");
        assert_eq!(laid.all().collect::<Vec<_>>(), [(0, 1), (0, 2), (2, 0), (2, 1)]);
        assert!(Successors::default().of(0).is_empty());
    }
}
