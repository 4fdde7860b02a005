//! Records of the bulk channel to selections of experts.
//!
//! ```text
//! graph begin ─► its gates (graphs.rs) ─┐
//! pieces, by thread and time ───────────┴─► gathered ─► graph end: whole ─► rows
//!                                                     └─ else, a moment later: partial, lost, unknown
//! ```
//!
//! A piece belongs to the graph that its thread computes at its time, and to the
//! gate whose tensor it names; pieces of other gathers belong to nothing.

use super::graphs::{Gate, KnownGraph};
use llmtrace_bpf::types::bulk_experts;
use llmtrace_format::constants::NONE;
use llmtrace_format::tables::{Expert, Selection, SelectionStatus};
use llmtrace_format::{Nanos, TimeRange};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Graphs that run or have just ended, at most: far more than one pass of the rings can bring.
/// Pieces come after all events of a pass.
const MAX_GRAPHS: usize = 4096;
/// Ranges in which pieces were lost, the last few.
const MAX_LOSSES: usize = 64;
/// Values that wait for the end of their graph, at most: 16 MB.
const MAX_VALUES: usize = 4 << 20;
/// A piece may come so much later than the end of its graph.
const GRACE: Nanos = 100_000_000;
/// Flag of a piece of which not everything could be read (events.h).
const PARTIAL: u32 = 1;
/// In place of what could not be read (events.h).
const UNREADABLE: u32 = u32::MAX;
/// A piece holds weights (events.h).
const WEIGHTS: u32 = 1;

/// A selection and its experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) selection: Selection,
    pub(super) experts: Vec<Expert>,
}

/// Of one process.
#[derive(Default)]
pub(super) struct Experts {
    graphs: VecDeque<OpenGraph>,
    losses: VecDeque<TimeRange>,
    values: usize,
    next_id: Rc<Cell<u32>>,
    /// Whether what is not seen is to be said.
    pub(super) wanted: bool,
    pub(super) rows: Vec<Selected>,
}

struct OpenGraph {
    span: u32,
    tid: u32,
    begin: Nanos,
    end: Option<Nanos>,
    known: Rc<KnownGraph>,
    gathered: Vec<Gathered>,
}

/// What has come of one gate.
#[derive(Default)]
struct Gathered {
    time: Nanos,
    used: u32,
    tokens: u32,
    partial: bool,
    pieces: BTreeMap<u32, Piece>,
}

/// Some tokens, by the first one.
#[derive(Default)]
struct Piece {
    ranks: u32,
    ids: Vec<u32>,
    weights: Vec<u32>,
}

impl Experts {
    /// Selections are numbered over all processes by `next_id`.
    pub(super) fn new(next_id: Rc<Cell<u32>>) -> Self {
        Self { next_id, wanted: true, ..Self::default() }
    }

    /// A thread begins a graph.
    pub(super) fn graph_begin(&mut self, span: u32, tid: u32, begin: Nanos, known: &Rc<KnownGraph>) {
        // One that did not end never will.
        self.graphs.retain(|graph| graph.tid != tid || graph.end.is_some());
        if known.gates.is_empty() || !self.wanted {
            return;
        }
        if self.graphs.len() >= MAX_GRAPHS
            && let Some(oldest) = self.graphs.pop_front()
        {
            self.close(&oldest, true);
        }
        let gathered = known.gates.iter().map(|_| Gathered::default()).collect();
        self.graphs.push_back(OpenGraph { span, tid, begin, end: None, known: known.clone(), gathered });
    }

    /// It ends.
    pub(super) fn graph_end(&mut self, span: u32, end: Nanos) {
        if let Some(graph) = self.graphs.iter_mut().find(|graph| graph.span == span) {
            graph.end = Some(end);
        }
    }

    /// A device computed a split of a graph: what was chosen there is not to be seen.
    pub(super) fn elsewhere(&mut self, split: u32, end: Nanos, known: &KnownGraph) {
        // Of no tokens: the last layer of a micro-batch without outputs.
        for gate in known.gates.iter().filter(|gate| self.wanted && gate.tokens > 0) {
            let id = self.next_id.get();
            self.next_id.set(id.wrapping_add(1));
            let (tokens, used) = (gate.tokens, gate.used);
            let status = SelectionStatus::Unknown as u8;
            let row = Selection {
                id,
                time: end,
                graph_span: NONE,
                node: gate.node,
                tokens,
                used,
                recorded: 0,
                status,
                split,
            };
            self.rows.push(Selected { selection: row, experts: Vec::new() });
        }
    }

    /// Pieces were lost.
    pub(super) fn lost(&mut self, range: TimeRange) {
        if self.losses.len() >= MAX_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back(range);
    }

    /// Takes a piece.
    pub(super) fn piece(&mut self, time: Nanos, record: &bulk_experts, values: &[u32]) {
        let of_it = |graph: &&mut OpenGraph| {
            graph.tid == record.head.tid && graph.begin <= time && graph.end.is_none_or(|end| time <= end)
        };
        let Some(graph) = self.graphs.iter_mut().find(of_it) else { return };
        let Some(gate) = graph.known.gates.iter().position(|gate| gate.ids == record.ids) else { return };
        let Some(gathered) = graph.gathered.get_mut(gate) else { return };
        // Other nodes may gather by the same selection.
        if gathered.time != 0 && gathered.time != time || self.values + values.len() > MAX_VALUES {
            return;
        }
        self.values += values.len();
        (gathered.time, gathered.used, gathered.tokens) = (time, record.used, record.tokens);
        gathered.partial |= record.head.flags & PARTIAL != 0 && record.what != WEIGHTS;
        let piece = gathered.pieces.entry(record.first).or_default();
        piece.ranks = record.ranks;
        *(if record.what == WEIGHTS { &mut piece.weights } else { &mut piece.ids }) = values.to_vec();
    }

    /// Makes rows of graphs whose pieces have all come, or had the time to:
    /// events up to `until` have been passed on.
    pub(super) fn settle(&mut self, until: Nanos) {
        let ready = |graph: &OpenGraph| {
            let whole = || {
                let mut all = graph.known.gates.iter().zip(&graph.gathered);
                all.all(|(gate, gathered)| gate.tokens == 0 || gathered.status() == SelectionStatus::Whole)
            };
            graph.end.is_some_and(|end| end.saturating_add(GRACE) < until || end < until && whole())
        };
        while self.graphs.front().is_some_and(ready)
            && let Some(graph) = self.graphs.pop_front()
        {
            self.close(&graph, false);
        }
    }

    /// Makes rows of what a graph chose; `lost` when not all of its pieces could come.
    fn close(&mut self, graph: &OpenGraph, lost: bool) {
        let range = TimeRange::new(graph.begin, graph.end.unwrap_or(graph.begin) + 1);
        let lost = lost || self.losses.iter().any(|loss| loss.overlaps(range));
        for (gate, gathered) in graph.known.gates.iter().zip(&graph.gathered) {
            // Of no tokens: the last layer of a micro-batch without outputs.
            if gate.tokens == 0 && gathered.time == 0 {
                continue;
            }
            let id = self.next_id.get();
            self.next_id.set(id.wrapping_add(1));
            let selected = gathered.rows(id, gate, graph.span, range.end.saturating_sub(1), lost);
            self.values = self.values.saturating_sub(gathered.values());
            self.rows.push(selected);
        }
    }
}

impl Gathered {
    fn values(&self) -> usize {
        self.pieces.values().map(|piece| piece.ids.len() + piece.weights.len()).sum()
    }

    /// How much of it is there, as the pieces say.
    fn status(&self) -> SelectionStatus {
        let tokens: usize =
            self.pieces.values().map(|piece| piece.ids.len() / piece.ranks.max(1) as usize).sum();
        match tokens {
            0 => SelectionStatus::Unknown,
            _ if self.partial || tokens < self.tokens as usize => SelectionStatus::Partial,
            _ => SelectionStatus::Whole,
        }
    }

    fn rows(&self, id: u32, gate: &Gate, graph_span: u32, end: Nanos, lost: bool) -> Selected {
        let mut experts = Vec::new();
        let (mut recorded, mut invalid) = (0, false);
        for (&first, piece) in &self.pieces {
            let ranks = piece.ranks.max(1) as usize;
            let tokens = piece.ids.chunks_exact(ranks);
            let weights = piece.weights.chunks_exact(ranks).map(Some).chain(std::iter::repeat(None));
            for ((ids, weights), token) in tokens.zip(weights).zip(first..) {
                // Not what a router chose: unreadable, or no selection at all.
                if ids.iter().any(|&id| id == UNREADABLE || id >= gate.experts) {
                    invalid = true;
                    continue;
                }
                recorded += 1;
                let weights = weights.into_iter().flatten().copied().chain(std::iter::repeat(NONE));
                let expert = |(&expert, weight)| Expert { selection: id, token, expert, weight };
                experts.extend(ids.iter().zip(weights).map(expert));
            }
        }
        let status = match self.status() {
            _ if recorded == 0 && lost => SelectionStatus::Lost,
            _ if recorded == 0 => SelectionStatus::Unknown,
            _ if invalid => SelectionStatus::Partial,
            status => status,
        };
        let seen = self.time != 0;
        let selection = Selection {
            id,
            time: if seen { self.time } else { end },
            graph_span,
            node: gate.node,
            tokens: if seen { self.tokens } else { gate.tokens },
            used: if seen { self.used } else { gate.used },
            recorded,
            status: status as u8,
            split: NONE,
        };
        Selected { selection, experts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_bpf::types::bulk_head;

    const IDS: u64 = 4096;

    fn graph() -> Rc<KnownGraph> {
        let gates = vec![Gate { ids: IDS, node: 7, used: 2, tokens: 3, experts: 8 }];
        let mut known = KnownGraph::new(0, vec![1, 2, 3], 0);
        known.gates = gates;
        Rc::new(known)
    }

    fn record(first: u32, what: u32) -> bulk_experts {
        let head = bulk_head { tid: 5, ..bulk_head::default() };
        bulk_experts { head, ids: IDS, used: 2, tokens: 3, first, ranks: 2, what, ..bulk_experts::default() }
    }

    /// Begins a graph, gives it pieces, and ends it.
    fn selected(pieces: &[(u32, u32, &[u32])], loss: Option<TimeRange>) -> Selected {
        let mut experts = Experts::new(Rc::default());
        experts.graph_begin(11, 5, 100, &graph());
        for (first, what, values) in pieces {
            experts.piece(150, &record(*first, *what), values);
        }
        experts.graph_end(11, 200);
        loss.into_iter().for_each(|range| experts.lost(range));
        experts.settle(200 + GRACE + 1);
        assert_eq!(experts.values, 0);
        experts.rows.pop().unwrap()
    }

    fn status(selected: &Selected) -> (SelectionStatus, u32, Vec<(u32, u32)>) {
        let experts = selected.experts.iter().map(|row| (row.token, row.expert)).collect();
        (SelectionStatus::from_u8(selected.selection.status), selected.selection.recorded, experts)
    }

    #[test]
    fn graphs_that_are_too_many_are_lost_and_said_to_be() {
        let mut experts = Experts::new(Rc::default());
        for span in 0..=MAX_GRAPHS as u32 {
            let begin = u64::from(span) * 100;
            experts.graph_begin(span, 5, begin, &graph());
            experts.graph_end(span, begin + 50);
        }
        let rows: Vec<_> = experts.rows.iter().map(status).collect();
        assert_eq!(rows, [(SelectionStatus::Lost, 0, Vec::new())]);
    }

    #[test]
    fn pieces_make_a_whole_selection() {
        let whole = selected(&[(2, 0, &[5, 6]), (0, 0, &[1, 2, 3, 4]), (0, 1, &[10, 20, 30, 40])], None);
        let expected = vec![(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)];
        assert_eq!(status(&whole), (SelectionStatus::Whole, 3, expected));
        let weights: Vec<u32> = whole.experts.iter().map(|row| row.weight).collect();
        assert_eq!(weights, [10, 20, 30, 40, NONE, NONE]);
        assert_eq!((whole.selection.time, whole.selection.graph_span, whole.selection.node), (150, 11, 7));
    }

    #[test]
    fn what_is_missing_is_partial_lost_or_unknown_and_never_guessed() {
        let some = vec![(0, 1), (0, 2), (1, 3), (1, 4)];
        let partial = selected(&[(0, 0, &[1, 2, 3, 4])], None);
        assert_eq!(status(&partial), (SelectionStatus::Partial, 2, some.clone()));
        // One token could not be read; one has an expert that there is not.
        let unreadable = selected(&[(0, 0, &[1, 2, 3, 4, UNREADABLE, 0])], None);
        assert_eq!(status(&unreadable), (SelectionStatus::Partial, 2, some.clone()));
        let invalid = selected(&[(0, 0, &[1, 2, 3, 4, 8, 0])], None);
        assert_eq!(status(&invalid), (SelectionStatus::Partial, 2, some));
        let nothing = selected(&[], None);
        assert_eq!(status(&nothing), (SelectionStatus::Unknown, 0, vec![]));
        assert_eq!((nothing.selection.tokens, nothing.selection.used, nothing.selection.time), (3, 2, 200));
        let lost = selected(&[], Some(TimeRange::new(120, 130)));
        assert_eq!(status(&lost), (SelectionStatus::Lost, 0, vec![]));
        let elsewhere = selected(&[], Some(TimeRange::new(300, 400)));
        assert_eq!(status(&elsewhere).0, SelectionStatus::Unknown);
        let device = selected(&[(0, 0, &[UNREADABLE, 0, UNREADABLE, 0, UNREADABLE, 0])], None);
        assert_eq!(status(&device).0, SelectionStatus::Unknown);
    }

    #[test]
    fn pieces_of_other_graphs_threads_and_tensors_belong_to_nothing() {
        let mut experts = Experts::new(Rc::default());
        experts.graph_begin(11, 5, 100, &graph());
        experts.graph_begin(12, 6, 100, &graph());
        let other = bulk_experts { ids: 1, ..record(0, 0) };
        experts.piece(150, &other, &[1, 2, 3, 4, 5, 6]);
        experts.piece(90, &record(0, 0), &[1, 2, 3, 4, 5, 6]);
        experts.graph_end(11, 200);
        experts.piece(250, &record(0, 0), &[1, 2, 3, 4, 5, 6]);
        experts.settle(Nanos::MAX);
        assert_eq!(experts.rows.len(), 1);
        assert_eq!(experts.rows[0].selection.recorded, 0);
        // A second gather by the same selection is not taken for a part of it.
        experts.piece(
            150,
            &bulk_experts { head: bulk_head { tid: 6, ..bulk_head::default() }, ..record(0, 0) },
            &[1, 2],
        );
        experts.piece(
            160,
            &bulk_experts { head: bulk_head { tid: 6, ..bulk_head::default() }, ..record(1, 0) },
            &[3, 4, 5, 6],
        );
        experts.graph_end(12, 200);
        experts.settle(Nanos::MAX);
        assert_eq!(experts.rows[1].selection.recorded, 1);
    }

    #[test]
    fn what_a_device_computes_is_unknown() {
        let mut experts = Experts::new(Rc::default());
        experts.elsewhere(9, 300, &graph());
        let row = experts.rows.pop().unwrap();
        assert_eq!(status(&row), (SelectionStatus::Unknown, 0, vec![]));
        let Selection { split, graph_span, node, tokens, used, time, .. } = row.selection;
        assert_eq!((split, graph_span, node, tokens, used, time), (9, NONE, 7, 3, 2, 300));
        experts.wanted = false;
        experts.elsewhere(10, 300, &graph());
        assert!(experts.rows.is_empty());
    }

    #[test]
    fn a_whole_selection_does_not_wait() {
        let mut experts = Experts::new(Rc::default());
        experts.graph_begin(11, 5, 100, &graph());
        experts.piece(150, &record(0, 0), &[1, 2, 3, 4, 5, 6]);
        experts.graph_end(11, 200);
        experts.settle(200);
        assert!(experts.rows.is_empty());
        experts.settle(201);
        assert_eq!(experts.rows.len(), 1);
    }
}
