//! Sums by node of the graph, as spans arrive: of a segment of a lane, and of
//! all threads together.
//!
//! What the threads of a pool do for one node of one graph run is one
//! *execution*. [`Joiner`] puts it together while it is written:
//!
//! ```text
//! thread 0  ├──compute──┤         ├wait┤
//! thread 1    ├──────compute──────┤
//!           ├───────critical──────┤    first begin to last compute end
//! ```

use crate::OpSpan;
use crate::tables::{ExecutionTotal, ExecutionTotals, NodeTotal, NodeTotals};
use std::collections::{HashMap, VecDeque};

/// Most places for nodes that sums take, so that memory is bounded.
const MAX_PLACES: usize = 1 << 18;

/// A node as a span names it: graph (or none), node, fused nodes.
pub(crate) type NodeId = (u32, u32, u32);

/// A value for each node.
#[derive(Debug, Default)]
struct ByNode<T> {
    /// Place of each graph in `graphs`.
    index: HashMap<u32, usize>,
    graphs: Vec<Places<T>>,
    last: usize,
    /// Nodes that a graph does not have, and other fusions of one that it has.
    rest: HashMap<NodeId, T>,
    places: usize,
}

#[derive(Debug)]
struct Places<T> {
    graph: u32,
    /// By node: how many it is fused with, and its value.
    nodes: Vec<Option<(u32, T)>>,
}

impl<T: Default> ByNode<T> {
    /// The value of a node of a graph with `nodes` nodes; `None` when there are
    /// too many of them.
    fn get(&mut self, (graph, node, fused): NodeId, nodes: usize) -> Option<&mut T> {
        if self.graphs.get(self.last).is_none_or(|places| places.graph != graph) {
            self.last = match self.index.get(&graph) {
                Some(&place) => place,
                None => {
                    self.places += nodes;
                    if self.places > MAX_PLACES {
                        return None;
                    }
                    self.index.insert(graph, self.graphs.len());
                    let empty = std::iter::repeat_with(|| None).take(nodes).collect();
                    self.graphs.push(Places { graph, nodes: empty });
                    self.graphs.len() - 1
                }
            };
        }
        let place = self.graphs.get_mut(self.last).and_then(|places| places.nodes.get_mut(node as usize));
        if let Some(place) = place {
            let (known, value) = place.get_or_insert_with(|| (fused, T::default()));
            if *known == fused {
                return Some(value);
            }
        }
        if self.rest.len() >= MAX_PLACES {
            return None;
        }
        Some(self.rest.entry((graph, node, fused)).or_default())
    }

    /// All nodes with a value, in order.
    fn sorted(&self) -> Vec<(NodeId, &T)> {
        let places = self.graphs.iter().flat_map(|places| {
            let nodes = (0u32..).zip(&places.nodes);
            nodes.filter_map(|(node, place)| {
                place.as_ref().map(|(fused, value)| ((places.graph, node, *fused), value))
            })
        });
        let mut all: Vec<_> = places.chain(self.rest.iter().map(|(&id, value)| (id, value))).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

#[derive(Debug, Default)]
struct Sum {
    spans: u64,
    compute: u64,
    wait: u64,
}

/// Sums of a segment.
#[derive(Debug, Default)]
pub(crate) struct NodeSums {
    sums: ByNode<Sum>,
    too_many: bool,
}

impl NodeSums {
    #[inline]
    pub(crate) fn add(&mut self, span: &OpSpan, graph: u32, nodes: usize) {
        match self.sums.get((graph, span.node, span.fused), nodes) {
            Some(sum) => {
                sum.spans += 1;
                sum.compute = sum.compute.saturating_add(span.compute);
                sum.wait = sum.wait.saturating_add(span.wait);
            }
            None => self.too_many = true,
        }
    }

    /// The sums; `None` when there were too many nodes.
    pub(crate) fn table(&self) -> Option<NodeTotals> {
        if self.too_many {
            return None;
        }
        let mut table = NodeTotals::default();
        for ((graph, node, fused), sum) in self.sums.sorted() {
            let Sum { spans, compute, wait } = *sum;
            table.push(NodeTotal { graph, node, fused, spans, compute, wait });
        }
        Some(table)
    }
}

/// An execution that threads may still add to.
#[derive(Clone, Copy, Debug)]
struct Open {
    fused: u32,
    lane: u32,
    begin: u64,
    compute_end: u64,
    compute: u64,
    wait: u64,
}

impl Open {
    fn new(lane: u32, span: &OpSpan) -> Self {
        let (compute, wait, begin) = (span.compute, span.wait, span.begin);
        Self { fused: span.fused, lane, begin, compute_end: span.compute_end(), compute, wait }
    }

    fn join(&mut self, lane: u32, span: &OpSpan) {
        self.fused = self.fused.max(span.fused);
        if (span.begin, lane) < (self.begin, self.lane) {
            (self.begin, self.lane) = (span.begin, lane);
        }
        self.compute_end = self.compute_end.max(span.compute_end());
        self.compute = self.compute.saturating_add(span.compute);
        self.wait = self.wait.saturating_add(span.wait);
    }
}

#[derive(Debug, Default)]
struct Total {
    count: u64,
    compute: u64,
    wait: u64,
    critical: u64,
    first: Option<(u64, u32)>,
}

#[derive(Debug)]
struct Run {
    graph: u32,
    nodes: Vec<Option<Open>>,
}

/// Joins the spans of all threads to executions and sums these up. A graph run
/// is open until so many nodes of later ones came that no thread will add to it.
#[derive(Debug)]
pub(crate) struct Joiner {
    runs: HashMap<u32, Run>,
    order: VecDeque<u32>,
    /// The run of the last span; taken out of `runs`.
    current: Option<(u32, Run)>,
    open: usize,
    most_open: usize,
    /// Executions of nodes that their graph does not have, by graph span.
    strays: HashMap<(u32, u32), (u32, Open)>,
    totals: ByNode<Total>,
    too_many: bool,
}

impl Joiner {
    /// Joins spans of graph runs that have at most `most_open` nodes together.
    pub(crate) fn new(most_open: usize) -> Self {
        Self {
            runs: HashMap::new(),
            order: VecDeque::new(),
            current: None,
            open: 0,
            most_open,
            strays: HashMap::new(),
            totals: ByNode::default(),
            too_many: false,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, lane: u32, span: &OpSpan, graph: u32, nodes: usize) {
        if self.current.as_ref().is_none_or(|(id, _)| *id != span.graph_span) {
            self.switch(span.graph_span, graph, nodes);
        }
        let place = self.current.as_mut().and_then(|(_, run)| run.nodes.get_mut(span.node as usize));
        match place {
            Some(Some(open)) => open.join(lane, span),
            Some(empty) => *empty = Some(Open::new(lane, span)),
            None if self.strays.len() >= MAX_PLACES => self.too_many = true,
            None => {
                let stray = self.strays.entry((span.graph_span, span.node));
                stray
                    .and_modify(|(_, open)| open.join(lane, span))
                    .or_insert_with(|| (graph, Open::new(lane, span)));
            }
        }
    }

    fn switch(&mut self, id: u32, graph: u32, nodes: usize) {
        if let Some((id, run)) = self.current.take() {
            self.runs.insert(id, run);
        }
        let known = self.runs.remove(&id);
        let run = known.unwrap_or_else(|| {
            self.order.push_back(id);
            self.open += nodes;
            Run { graph, nodes: vec![None; nodes] }
        });
        while self.open > self.most_open
            && let Some(oldest) = self.order.pop_front()
        {
            if oldest == id {
                self.order.push_back(oldest);
                break;
            }
            if let Some(run) = self.runs.remove(&oldest) {
                self.close(&run);
            }
        }
        self.current = Some((id, run));
    }

    fn close(&mut self, run: &Run) {
        self.open -= run.nodes.len();
        for (node, open) in (0u32..).zip(&run.nodes) {
            if let Some(open) = open {
                self.total(run.graph, node, run.nodes.len(), open);
            }
        }
    }

    fn total(&mut self, graph: u32, node: u32, nodes: usize, open: &Open) {
        let Some(total) = self.totals.get((graph, node, open.fused), nodes) else {
            self.too_many = true;
            return;
        };
        total.count += 1;
        total.compute = total.compute.saturating_add(open.compute);
        total.wait = total.wait.saturating_add(open.wait);
        total.critical = total.critical.saturating_add(open.compute_end.saturating_sub(open.begin));
        let begin = (open.begin, open.lane);
        total.first = Some(total.first.map_or(begin, |first| first.min(begin)));
    }

    /// The sums of all executions; `None` when there were too many nodes.
    pub(crate) fn finish(mut self) -> Option<ExecutionTotals> {
        if let Some((id, run)) = self.current.take() {
            self.runs.insert(id, run);
        }
        for (_, run) in std::mem::take(&mut self.runs) {
            self.close(&run);
        }
        for ((_, node), (graph, open)) in std::mem::take(&mut self.strays) {
            self.total(graph, node, 0, &open);
        }
        if self.too_many {
            return None;
        }
        let mut table = ExecutionTotals::default();
        for ((graph, node, fused), total) in self.totals.sorted() {
            let Total { count, compute, wait, critical, .. } = *total;
            let (first, lane) = total.first.unwrap_or_default();
            let row = ExecutionTotal { graph, node, fused, count, compute, wait, critical, first, lane };
            table.push(row);
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_joined_over_threads_whatever_the_order() {
        let span = |graph_span, node, begin, compute| OpSpan {
            begin,
            compute,
            wait: 2,
            node,
            graph_span,
            ..OpSpan::default()
        };
        let spans = [
            (0, span(0, 0, 10, 5)),
            (0, span(0, 1, 20, 9)),
            (0, span(1, 0, 40, 5)),
            (1, span(0, 0, 8, 9)),
            (1, span(0, 1, 21, 4)),
            (1, span(0, 7, 30, 1)),
        ];
        let sum = |order: &[usize]| {
            let mut joiner = Joiner::new(100);
            for &index in order {
                let (lane, span) = spans[index];
                joiner.add(lane, &span, 3, 2);
            }
            joiner.finish().expect("few nodes").rows().collect::<Vec<_>>()
        };
        let row = |node, [count, compute, wait, critical]: [u64; 4], (first, lane)| ExecutionTotal {
            graph: 3,
            node,
            fused: 0,
            count,
            compute,
            wait,
            critical,
            first,
            lane,
        };
        let expected = [
            row(0, [2, 19, 6, 9 + 5], (8, 1)),
            row(1, [1, 13, 4, 9], (20, 0)),
            row(7, [1, 1, 2, 1], (30, 1)),
        ];
        assert_eq!(sum(&[0, 1, 2, 3, 4, 5]), expected);
        assert_eq!(sum(&[5, 2, 4, 0, 3, 1]), expected);
    }

    #[test]
    fn memory_is_bounded() {
        let mut joiner = Joiner::new(1000);
        let mut sums = NodeSums::default();
        for id in 0..5000 {
            let span = OpSpan { graph_span: id, ..OpSpan::default() };
            joiner.add(0, &span, 1, 300);
            sums.add(&OpSpan { node: id % 200, ..span }, id, 300);
        }
        assert!(joiner.runs.len() < 6 && joiner.open <= 1300);
        assert_eq!(joiner.finish().map(|table| table.count), Some(vec![5000]));
        assert!(sums.table().is_none() && sums.sums.graphs.len() <= MAX_PLACES / 300);
    }
}
