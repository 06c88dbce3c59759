//! Where boxes and edges go: layers from left to right, few crossings.
//!
//! Longest-path layers; an edge that spans several layers passes through a point of its own in each of them, so that it
//! runs between boxes and not across them; a few sweeps put every point near the middle of its neighbours. Knows sizes
//! and numbers only.

/// How often the layers are put into order, to the right and back. More changes little.
const SWEEPS: usize = 8;

/// Edges are given points of their own up to so many; edges beyond go straight. Bounds time and memory.
const POINTS_MAX: usize = 50_000;

/// The height of a box, and what is free between rows and layers, in pixels.
pub(super) const BOX_HEIGHT: f64 = 28.0;
const ROW_GAP: f64 = 14.0;
const LAYER_GAP: f64 = 56.0;
/// A row that only an edge passes through.
const POINT_HEIGHT: f64 = 8.0;

/// A point of the picture.
pub(super) type Point = (f64, f64);

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Layout {
    /// The left end and the middle of the height of each box.
    pub(super) boxes: Vec<Point>,
    /// Where each edge passes, from its first box's right side to its second box's left side.
    pub(super) edges: Vec<Vec<Point>>,
    /// The size of the whole.
    pub(super) size: Point,
}

/// A place in a layer: a box, or where an edge passes.
struct Slot {
    layer: usize,
    width: f64,
    height: f64,
    /// Neighbours in the layer before and in the one after.
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Lays out boxes of these widths and the edges (first, second) between them, which make no cycle.
pub(super) fn layout(widths: &[f64], edges: &[(usize, usize)]) -> Layout {
    let layer = layers(widths.len(), edges);
    let mut slots: Vec<_> = widths
        .iter()
        .zip(&layer)
        .map(|(width, layer)| Slot {
            layer: *layer,
            width: *width,
            height: BOX_HEIGHT,
            before: Vec::new(),
            after: Vec::new(),
        })
        .collect();
    let chains: Vec<_> = edges.iter().map(|(from, to)| chain(&mut slots, *from, *to)).collect();
    let mut rows = vec![Vec::new(); slots.iter().map(|slot| slot.layer + 1).max().unwrap_or_default()];
    for (number, slot) in slots.iter().enumerate() {
        rows[slot.layer].push(number);
    }
    order(&slots, &mut rows);
    place(&slots, &rows, widths.len(), &chains)
}

/// The layer of each vertex: the length of the longest path that leads to it.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut after = vec![Vec::new(); count];
    let mut waits = vec![0_usize; count];
    for (from, to) in edges {
        after[*from].push(*to);
        waits[*to] += 1;
    }
    let mut layer = vec![0; count];
    let mut ready: Vec<_> = (0..count).filter(|number| waits[*number] == 0).collect();
    while let Some(number) = ready.pop() {
        for next in &after[number] {
            layer[*next] = layer[*next].max(layer[number] + 1);
            waits[*next] -= 1;
            if waits[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    layer
}

/// The slots that an edge passes through, its ends included; those between are made.
fn chain(slots: &mut Vec<Slot>, from: usize, to: usize) -> Vec<usize> {
    let mut chain = vec![from];
    let between = slots[from].layer + 1..slots[to].layer;
    if slots.len() + between.len() <= POINTS_MAX {
        for layer in between {
            chain.push(slots.len());
            slots.push(Slot { layer, width: 0.0, height: POINT_HEIGHT, before: Vec::new(), after: Vec::new() });
        }
    }
    chain.push(to);
    for pair in chain.windows(2) {
        slots[pair[0]].after.push(pair[1]);
        slots[pair[1]].before.push(pair[0]);
    }
    chain
}

/// Puts the slots of each layer into the order of the mean place of their neighbours, sweeping there and back.
fn order(slots: &[Slot], rows: &mut [Vec<usize>]) {
    let mut rank = vec![0.0; slots.len()];
    let note = |row: &[usize], rank: &mut [f64]| {
        for (at, number) in row.iter().enumerate() {
            // Layers of different lengths are compared by the share of the way.
            rank[*number] = (at as f64 + 0.5) / row.len() as f64;
        }
    };
    for row in rows.iter() {
        note(row, &mut rank);
    }
    for sweep in 0..SWEEPS {
        let right = sweep % 2 == 0;
        let count = rows.len();
        for step in 0..count {
            let row = &mut rows[if right { step } else { count - 1 - step }];
            let mean = |number: usize| {
                let neighbours = if right { &slots[number].before } else { &slots[number].after };
                if neighbours.is_empty() {
                    return rank[number];
                }
                neighbours.iter().map(|n| rank[*n]).sum::<f64>() / neighbours.len() as f64
            };
            let mut keyed: Vec<_> = row.iter().map(|number| (mean(*number), *number)).collect();
            // Stable: what nothing tells apart keeps the order of the file.
            keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
            *row = keyed.into_iter().map(|(_, number)| number).collect();
            note(row, &mut rank);
        }
    }
}

/// Turns layers and orders into places. Each layer is centred.
fn place(slots: &[Slot], rows: &[Vec<usize>], boxes: usize, chains: &[Vec<usize>]) -> Layout {
    let height = |row: &Vec<usize>| row.iter().map(|number| slots[*number].height + ROW_GAP).sum::<f64>();
    let tallest = rows.iter().map(height).fold(0.0, f64::max);
    let mut at = vec![(0.0, 0.0); slots.len()];
    let mut left = ROW_GAP;
    for row in rows {
        let width = row.iter().map(|number| slots[*number].width).fold(0.0, f64::max);
        let mut top = (tallest - height(row)) / 2.0 + ROW_GAP;
        for number in row {
            let slot = &slots[*number];
            at[*number] = (left + (width - slot.width) / 2.0, top + slot.height / 2.0);
            top += slot.height + ROW_GAP;
        }
        left += width + LAYER_GAP;
    }
    let way = |chain: &Vec<usize>| {
        let last = chain.len() - 1;
        let point = |(step, number): (usize, &usize)| {
            let (x, y) = at[*number];
            if step == 0 && last > 0 { (x + slots[*number].width, y) } else { (x, y) }
        };
        chain.iter().enumerate().map(point).collect()
    };
    let right = if rows.is_empty() { left + ROW_GAP } else { left - LAYER_GAP + ROW_GAP };
    Layout { boxes: at[..boxes].to_vec(), edges: chains.iter().map(way).collect(), size: (right, tallest + ROW_GAP) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_longest_paths() {
        assert_eq!(layers(4, &[(0, 1), (1, 2), (0, 2), (3, 2)]), [0, 1, 2, 0]);
        assert!(layers(0, &[]).is_empty());
    }

    #[test]
    fn boxes_of_a_layer_do_not_overlap_and_edges_go_to_the_right() {
        let widths = [50.0, 80.0, 20.0, 60.0, 40.0];
        let edges = [(0, 2), (1, 2), (0, 3), (2, 4), (0, 4)];
        let laid = layout(&widths, &edges);
        for (one, (x, y)) in laid.boxes.iter().enumerate() {
            assert!(*x >= 0.0 && x + widths[one] <= laid.size.0, "{laid:?}");
            assert!(y - BOX_HEIGHT / 2.0 >= 0.0 && y + BOX_HEIGHT / 2.0 <= laid.size.1, "{laid:?}");
            for (other, (a, b)) in laid.boxes.iter().enumerate().skip(one + 1) {
                let apart = (y - b).abs() >= BOX_HEIGHT || x + widths[one] < *a || a + widths[other] < *x;
                assert!(apart, "{one} and {other} overlap: {laid:?}");
            }
        }
        for way in &laid.edges {
            assert!(way.windows(2).all(|pair| pair[0].0 < pair[1].0), "{way:?}");
        }
        assert_eq!(laid.edges[4].len(), 3, "an edge over two layers has a point between");
    }

    #[test]
    fn sweeps_take_a_crossing_out() {
        // 0 → 3 and 1 → 2 cross if both layers keep the order of the file.
        let laid = layout(&[10.0; 4], &[(0, 3), (1, 2)]);
        let below = |one: usize, other: usize| laid.boxes[one].1 < laid.boxes[other].1;
        assert_eq!(below(0, 1), below(3, 2));
    }

    #[test]
    fn a_dense_graph_stays_bounded() {
        let edges: Vec<_> = (0..2_000).flat_map(|to| (to.max(5) - 5..to).map(move |from| (from, to))).collect();
        let laid = layout(&[10.0; 2_000], &edges);
        assert_eq!(laid.edges.len(), edges.len());
        let far: Vec<_> = (1..2_000).map(|to| (to - 1, to)).chain((2..2_000).map(|to| (0, to))).collect();
        let points: usize = layout(&[10.0; 2_000], &far).edges.iter().map(Vec::len).sum();
        assert!(points <= POINTS_MAX + 2 * far.len());
    }
}
