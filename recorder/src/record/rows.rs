//! What the assembler makes, and how it numbers that.

use llmtrace_format::OpSpan;
use llmtrace_format::counters::OpCounter;
use llmtrace_format::tables::{Decode, GraphSpan, Thread, Ubatch};
use std::cell::Cell;
use std::rc::Rc;

/// Numbers of rows, counted from 0 over all processes of a recording.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) decode: Cell<u32>,
    pub(super) ubatch: Cell<u32>,
    pub(super) graph_span: Cell<u32>,
    pub(super) thread: Cell<u32>,
    pub(super) context: Cell<u32>,
    pub(super) run: Cell<u32>,
    pub(super) split: Cell<u32>,
    pub(super) graph: Cell<u32>,
    pub(super) selection: Rc<Cell<u32>>,
}

/// The next number of a kind.
pub(super) fn next(id: &Cell<u32>) -> u32 {
    let now = id.get();
    id.set(now.wrapping_add(1));
    now
}

/// Rows that are complete.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) threads: Vec<Thread>,
    pub(super) decodes: Vec<Decode>,
    pub(super) ubatches: Vec<Ubatch>,
    pub(super) graphs: Vec<FinishedGraph>,
}

/// A graph span with its op spans by lane.
#[derive(Debug)]
pub(super) struct FinishedGraph {
    pub(super) span: GraphSpan,
    pub(super) lanes: Vec<(u32, Vec<OpSpan>)>,
    /// What was counted for the op spans of each lane, in their order; empty when nothing was.
    pub(super) counters: Vec<Vec<OpCounter>>,
}

/// Counts for the status line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) orphans: u64,
    pub(super) op_spans: u64,
    pub(super) prefill_tokens: u64,
    pub(super) decode_tokens: u64,
    pub(super) decode_nanos: u64,
    pub(super) unknown_graphs: u64,
    /// Graphs whose nodes could not be told from arrivals alone.
    pub(super) uncounted_graphs: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.orphans += other.orphans;
        self.op_spans += other.op_spans;
        self.prefill_tokens += other.prefill_tokens;
        self.decode_tokens += other.decode_tokens;
        self.decode_nanos += other.decode_nanos;
        self.unknown_graphs += other.unknown_graphs;
        self.uncounted_graphs += other.uncounted_graphs;
    }
}
