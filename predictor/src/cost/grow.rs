//! One regression tree for several targets at once, grown level by level from histograms.
//!
//! Every row brings a gradient for each head. A split is worth, over all heads, `Σ w·(G_l²/(n_l + λ) + G_r²/(n_r + λ) -
//! G²/(n + λ))`: XGBoost's gain (Chen and Guestrin, KDD 2016) with one row as unit of curvature. Sums of gradients per
//! bin are added up for the smaller of two siblings only and subtracted from the parent's for the other, and rows are
//! kept sorted by node (LightGBM: Ke et al., NeurIPS 2017). One vector addition a row and column serves all heads.

use crate::cost::bins::{BINS, Column};
use crate::cost::forest::{HEADS, LANES, Leaf, Node, PerfectTree};

/// Lane of a gradient that counts rows.
pub(crate) const COUNT: usize = LANES - 1;

/// How to grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrowSettings {
    /// Levels of splits.
    pub depth: usize,
    /// Fewest rows in a leaf.
    pub min_rows: f32,
    /// Rows that a leaf is drawn towards 0 with.
    pub lambda: f32,
    /// Factor on all leaves.
    pub learning_rate: f32,
    /// What each head counts in a gain.
    pub weights: [f32; HEADS],
}

/// Sums of gradients by bin of one column.
type Histogram = [Leaf; BINS];

/// A place where to split.
#[derive(Clone, Copy, Debug)]
struct Split {
    gain: f32,
    /// Index into the chosen columns.
    column: usize,
    /// Rows of bins above this go right.
    bin: usize,
}

/// Grows trees over the same columns, with its memory kept from tree to tree.
#[derive(Debug)]
pub(crate) struct Grower<'a> {
    columns: &'a [Column],
    settings: GrowSettings,
    /// Columns that the tree that grows may ask about, as indices.
    chosen: Vec<usize>,
    /// Rows of the tree that grows, sorted by node.
    order: Vec<u32>,
    moved: Vec<u32>,
    /// Gradients of one node's rows, in the order of the rows.
    gathered: Vec<Leaf>,
}

/// A node that may still be split.
struct Open {
    /// Slot counted from 1.
    slot: usize,
    /// Its rows in `order`.
    start: usize,
    end: usize,
    total: Leaf,
    histograms: Vec<Histogram>,
}

/// A grown tree with its splits in terms of bins, to walk the training rows quickly.
#[derive(Debug)]
pub(crate) struct Grown {
    pub tree: PerfectTree,
    /// Column and bin by slot counted from 1; `None`: always left.
    splits: Vec<Option<(u16, u8)>>,
}

impl Grown {
    /// The leaf that a row of the training set falls into.
    pub(crate) fn leaf(&self, columns: &[Column], row: usize) -> &Leaf {
        let slots = self.splits.len();
        let mut at = 1;
        while at < slots {
            let right =
                self.splits[at].is_some_and(|(column, bin)| columns[usize::from(column)].bins[row] > bin);
            at = 2 * at + usize::from(right);
        }
        &self.tree.leaves[at - slots]
    }
}

impl<'a> Grower<'a> {
    pub(crate) fn new(columns: &'a [Column], settings: GrowSettings) -> Self {
        Self {
            columns,
            settings,
            chosen: Vec::new(),
            order: Vec::new(),
            moved: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// Grows a tree over `rows`, asking about `chosen` columns (both as indices); `gradients` are of all rows, by row,
    /// each with a 1 in [`COUNT`].
    pub(crate) fn grow(&mut self, rows: &[u32], chosen: &[u32], gradients: &[Leaf]) -> Grown {
        let depth = self.settings.depth;
        let slots = 1usize << depth;
        let mut grown = Grown { tree: PerfectTree::zero(depth), splits: vec![None; slots] };
        self.chosen.clear();
        self.chosen.extend(chosen.iter().map(|&column| column as usize));
        self.order.clear();
        self.order.extend_from_slice(rows);
        let (histograms, total) = self.histograms(0, rows.len(), gradients);
        let mut level = vec![Open { slot: 1, start: 0, end: rows.len(), total, histograms }];
        for below in (0..depth).rev() {
            let mut next = Vec::with_capacity(2 * level.len());
            for node in level {
                match self.best_split(&node) {
                    Some(split) => {
                        self.note(&node, split, &mut grown);
                        next.extend(self.split(node, split, (below > 0).then_some(gradients)));
                    }
                    None => self.close(&node, slots, &mut grown),
                }
            }
            level = next;
        }
        for node in &level {
            self.close(node, slots, &mut grown);
        }
        grown
    }

    /// Histograms of all columns over a range of rows, and the sum of their gradients.
    fn histograms(&mut self, start: usize, end: usize, gradients: &[Leaf]) -> (Vec<Histogram>, Leaf) {
        let rows = &self.order[start..end];
        self.gathered.clear();
        self.gathered.extend(rows.iter().map(|&row| gradients[row as usize]));
        let mut total = [0f32; LANES];
        self.gathered.iter().for_each(|gradient| add(&mut total, gradient));
        let mut histograms = vec![[[0f32; LANES]; BINS]; self.chosen.len()];
        let bins = |column: usize| self.columns[column].bins.as_slice();
        let (pairs, last) = histograms.as_chunks_mut::<2>();
        let (pairs_of_columns, last_column) = self.chosen.as_chunks::<2>();
        // Two columns at a time: an addition need not wait until the one before it has reached the same bin.
        for ([one, other], &[first, second]) in pairs.iter_mut().zip(pairs_of_columns) {
            let (first, second) = (bins(first), bins(second));
            for (&row, gradient) in rows.iter().zip(&self.gathered) {
                add(&mut one[usize::from(first[row as usize]) % BINS], gradient);
                add(&mut other[usize::from(second[row as usize]) % BINS], gradient);
            }
        }
        for (histogram, &column) in last.iter_mut().zip(last_column) {
            for (&row, gradient) in rows.iter().zip(&self.gathered) {
                add(&mut histogram[usize::from(bins(column)[row as usize]) % BINS], gradient);
            }
        }
        (histograms, total)
    }

    fn best_split(&self, node: &Open) -> Option<Split> {
        let GrowSettings { min_rows, .. } = self.settings;
        if node.end - node.start < 2 * min_rows as usize {
            return None;
        }
        let nothing = self.worth(&node.total);
        let mut best: Option<Split> = None;
        for (column, histogram) in node.histograms.iter().enumerate() {
            let mut left = [0f32; LANES];
            for (bin, sums) in histogram[..self.columns[self.chosen[column]].edges.len()].iter().enumerate() {
                add(&mut left, sums);
                if left[COUNT] < min_rows || sums[COUNT] == 0.0 {
                    continue;
                }
                let mut right = node.total;
                subtract(&mut right, &left);
                if right[COUNT] < min_rows {
                    break;
                }
                let gain = self.worth(&left) + self.worth(&right) - nothing;
                if gain > best.map_or(0.0, |best| best.gain) {
                    best = Some(Split { gain, column, bin });
                }
            }
        }
        best
    }

    /// `Σ w·G² / (n + λ)` over the heads.
    fn worth(&self, sums: &Leaf) -> f32 {
        let squares: f32 = (0..HEADS).map(|head| self.settings.weights[head] * sums[head] * sums[head]).sum();
        squares / (sums[COUNT] + self.settings.lambda)
    }

    /// Writes a split into the tree.
    fn note(&self, node: &Open, split: Split, grown: &mut Grown) {
        let chosen = self.chosen[split.column];
        let column = &self.columns[chosen];
        let threshold = column.edges[split.bin];
        grown.tree.nodes[node.slot - 1] = Node::new(column.feature, threshold);
        grown.splits[node.slot] = Some((chosen as u16, split.bin as u8));
    }

    /// The two children of a node; with histograms if `again` gives the gradients to split them by.
    fn split(&mut self, node: Open, split: Split, again: Option<&[Leaf]>) -> [Open; 2] {
        let middle = self.partition(&node, split);
        let mut left_total = [0f32; LANES];
        node.histograms[split.column][..=split.bin].iter().for_each(|sums| add(&mut left_total, sums));
        let mut right_total = node.total;
        subtract(&mut right_total, &left_total);
        let (mut left_histograms, mut right_histograms) = (Vec::new(), Vec::new());
        if let Some(gradients) = again {
            let left_is_small = middle - node.start <= node.end - middle;
            let (start, end) = if left_is_small { (node.start, middle) } else { (middle, node.end) };
            let (small, _) = self.histograms(start, end, gradients);
            let mut large = node.histograms;
            for (large, small) in large.iter_mut().flatten().zip(small.iter().flatten()) {
                subtract(large, small);
            }
            (left_histograms, right_histograms) = if left_is_small { (small, large) } else { (large, small) };
        }
        let slot = 2 * node.slot;
        let (start, end) = (node.start, node.end);
        [
            Open { slot, start, end: middle, total: left_total, histograms: left_histograms },
            Open { slot: slot + 1, start: middle, end, total: right_total, histograms: right_histograms },
        ]
    }

    /// Sorts a node's rows into left and right, each in their order; where the right ones begin.
    fn partition(&mut self, node: &Open, split: Split) -> usize {
        let bins = &self.columns[self.chosen[split.column]].bins;
        self.moved.clear();
        let mut middle = node.start;
        for at in node.start..node.end {
            let row = self.order[at];
            if usize::from(bins[row as usize]) > split.bin {
                self.moved.push(row);
            } else {
                self.order[middle] = row;
                middle += 1;
            }
        }
        self.order[middle..node.end].copy_from_slice(&self.moved);
        middle
    }

    /// Writes a node's answer to the leaf that is reached when all below goes left.
    fn close(&self, node: &Open, slots: usize, grown: &mut Grown) {
        let mut slot = node.slot;
        while slot < slots {
            slot *= 2;
        }
        let rows = node.total[COUNT] + self.settings.lambda;
        let leaf = &mut grown.tree.leaves[slot - slots];
        for (value, total) in leaf.iter_mut().zip(&node.total).take(HEADS) {
            *value = self.settings.learning_rate * total / rows;
        }
    }
}

fn add(sums: &mut Leaf, more: &Leaf) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

fn subtract(sums: &mut Leaf, less: &Leaf) {
    sums.iter_mut().zip(less).for_each(|(sum, less)| *sum -= less);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::bins::columns;
    use crate::cost::features::{FEATURES, Features};
    use crate::cost::forest::Forest;

    #[test]
    fn a_tree_finds_steps_of_two_heads_and_serves_what_it_trained() {
        let row = |i: usize| {
            let mut row = Features([0.0; FEATURES]);
            row.0[1] = (i % 10) as f32;
            row.0[2] = (i / 10 % 10) as f32;
            row
        };
        let rows: Vec<Features> = (0..1_000).map(row).collect();
        let columns = columns(&rows.iter().collect::<Vec<_>>());
        let gradient = |row: &Features| {
            let mut gradient = [0f32; LANES];
            gradient[0] = if row.0[1] > 4.0 { 1.0 } else { -1.0 };
            gradient[1] = if row.0[2] > 6.0 { 7.0 } else { -3.0 };
            gradient[COUNT] = 1.0;
            gradient
        };
        let gradients: Vec<Leaf> = rows.iter().map(gradient).collect();
        let settings =
            GrowSettings { depth: 3, min_rows: 5.0, lambda: 0.0, learning_rate: 1.0, weights: [1.0; HEADS] };
        let grown =
            Grower::new(&columns, settings).grow(&(0..1_000).collect::<Vec<_>>(), &[0, 1], &gradients);
        let forest = Forest::new([0.0; LANES], 3, vec![grown.tree.clone()]);
        for (i, row) in rows.iter().enumerate() {
            let (served, wanted) = (forest.sums(row), gradients[i]);
            assert!((served[0] - wanted[0]).abs() < 1e-3 && (served[1] - wanted[1]).abs() < 1e-3);
            assert_eq!(grown.leaf(&columns, i)[..HEADS], served[..HEADS]);
        }
    }
}
