//! One probe a node: which node an arrival at a barrier closes, by counting.
//!
//! The loop over nodes passes exactly one closing barrier a node and thread. So
//! once the order in which a graph's nodes are computed is known, arrivals alone
//! identify them, and the probes at the begins can be detached, which halves the
//! cost. A node then begins when the last thread arrived at the barrier before it.
//!
//! ```text
//!            8 graphs whose begins match the known order, on known threads
//!  explicit ───────────────────────────────────────────────────────────────► counting
//!     ▲                                                                          │
//!     └── a count that does not fit, an unknown order or thread, a loss ◄─────────┘
//! ```
//!
//! Both states are decided for each graph by what was seen of it, so that probes
//! which come or go in the middle of one cannot confuse.

use std::collections::HashMap;
use std::rc::Rc;

/// Graphs that must agree before begins are given up.
const AGREEMENTS: u32 = 8;
/// More orders than engines have.
const MAX_ORDERS: usize = 64;

/// A node as the loop computes it: its index, and how many nodes are fused to it.
pub(super) type Item = (u32, u32);

/// The orders known so far, and whether they can be relied on.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// By structure of the graph: its operators, flags and sources.
    orders: HashMap<u64, Rc<[Item]>>,
    agreed: u32,
    /// Comparison of both ways on graphs that were seen through both.
    pub(super) compared: Compared,
}

/// How much inferred begins differ from those seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) graphs: u64,
    pub(super) nodes: u64,
    /// Nodes whose place in the order differed; must be 0.
    pub(super) misplaced: u64,
    /// Sum and maximum of how much earlier the inferred begin is.
    pub(super) early_nanos: u64,
    pub(super) late_nanos: u64,
}

impl Sequences {
    /// Whether the begins of nodes must be probed.
    pub(super) fn begins_needed(&self) -> bool {
        self.agreed < AGREEMENTS
    }

    /// The order of a graph with this structure.
    pub(super) fn order(&self, structure: u64) -> Option<Rc<[Item]>> {
        self.orders.get(&structure).cloned()
    }

    /// Learns from a graph whose begins were all seen, on each thread.
    pub(super) fn learn(&mut self, structure: u64, threads: &[Vec<Item>], known_threads: bool) {
        let Some((first, others)) = threads.split_first() else { return };
        let regular = others.iter().all(|other| other == first);
        let known = self.orders.get(&structure);
        if regular && known_threads && known.is_some_and(|known| **known == **first) {
            self.agreed = self.agreed.saturating_add(1);
            return;
        }
        self.agreed = 0;
        if self.orders.len() >= MAX_ORDERS {
            self.orders.clear();
        }
        if regular {
            self.orders.insert(structure, first.as_slice().into());
        } else {
            self.orders.remove(&structure);
        }
    }

    /// Something did not fit: see begins again.
    pub(super) fn distrust(&mut self) {
        self.agreed = 0;
    }

    /// Compares inferred begins with those seen, node by node of one thread.
    pub(super) fn compare(&mut self, seen: &[(Item, u64)], inferred: &[(Item, u64)]) {
        let compared = &mut self.compared;
        compared.nodes += seen.len() as u64;
        compared.misplaced += seen.len().abs_diff(inferred.len()) as u64;
        for ((item, begin), (other, guess)) in seen.iter().zip(inferred) {
            compared.misplaced += u64::from(item != other);
            compared.early_nanos += begin.saturating_sub(*guess);
            compared.late_nanos += guess.saturating_sub(*begin);
        }
    }
}

/// When each node of each thread began: at the arrival of the last thread at the
/// barrier before. `arrivals` has one list a thread, each as long as the order.
pub(super) fn begins(arrivals: &[&[u64]], graph_begin: u64) -> Vec<u64> {
    let nodes = arrivals.iter().map(|list| list.len()).min().unwrap_or(0);
    let release = |node: usize| arrivals.iter().filter_map(|list| list.get(node)).max().copied().unwrap_or(0);
    std::iter::once(graph_begin).chain((0..nodes.saturating_sub(1)).map(release)).take(nodes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &[Item] = &[(0, 1), (2, 0), (5, 0)];

    fn trusted() -> Sequences {
        let mut sequences = Sequences::default();
        for _ in 0..=AGREEMENTS {
            sequences.learn(7, &[ORDER.to_vec(), ORDER.to_vec()], true);
        }
        sequences
    }

    #[test]
    fn begins_are_given_up_after_enough_agreement() {
        let mut sequences = Sequences::default();
        assert!(sequences.begins_needed());
        sequences.learn(7, &[ORDER.to_vec()], true);
        assert_eq!(sequences.order(7).as_deref(), Some(ORDER));
        assert!(sequences.begins_needed());
        assert!(!trusted().begins_needed());
    }

    #[test]
    fn irregular_graphs_bring_begins_back() {
        for make_irregular in [
            |s: &mut Sequences| s.learn(7, &[ORDER.to_vec(), ORDER[1..].to_vec()], true),
            |s: &mut Sequences| s.learn(7, &[ORDER[1..].to_vec()], true),
            |s: &mut Sequences| s.learn(8, &[ORDER.to_vec()], true),
            |s: &mut Sequences| s.learn(7, &[ORDER.to_vec()], false),
            |s: &mut Sequences| s.distrust(),
        ] {
            let mut sequences = trusted();
            make_irregular(&mut sequences);
            assert!(sequences.begins_needed());
        }
    }

    #[test]
    fn nodes_begin_when_the_last_thread_arrived() {
        assert_eq!(begins(&[&[10, 20, 30], &[12, 18, 33]], 5), [5, 12, 20]);
        assert_eq!(begins(&[], 5), [0u64; 0]);
        assert_eq!(begins(&[&[]], 5), [0u64; 0]);
    }
}
