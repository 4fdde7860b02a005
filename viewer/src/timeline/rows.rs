//! Which lanes there are, and where.

use super::arrange::Group;
use super::{around, backends, experts, levels, machine};
use crate::state::Open;
use crate::theme::{
    BACKEND_HEIGHT, CELLS_HEIGHT, COUNTER_HEIGHT, FAULTS_HEIGHT, GRAPHS_HEIGHT, LANE_GAP, LANE_MAX_HEIGHT,
    LANE_MIN_HEIGHT, LEVELS_HEIGHT, SEQUENCE_HEIGHT, STATES_HEIGHT, TOKENS_HEIGHT,
};
use llmtrace_analysis::counters::Series;

/// Bits of a lane's number below that of its process.
pub(super) const PROCESS_SHIFT: u32 = 20;

/// Space between a thread's lane and the strip that belongs to it.
const STATES_GAP: f32 = 1.0;

/// What a lane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The head of a group of lanes.
    Group(Group),
    /// Prefills and decoded tokens.
    Tokens,
    /// Graph computations.
    Graphs,
    /// What was recorded, and marks.
    Levels,
    /// A sequence, by its place among all; the last one may be several.
    Sequence(usize),
    /// Sampling, tokenising, loading.
    Calls,
    /// Cells of KV caches.
    Cells,
    /// Experts that tokens were sent to.
    Experts,
    /// A counter, or what was sampled.
    Counter(Series),
    /// What one backend was given.
    Backend(u32),
    /// Page faults and reads from disks.
    Faults,
    /// One place in the thread pool.
    Thread(u32),
    /// What the threads that had this place did, under its lane.
    States(u32),
}

/// A lane's place below the ruler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) top: f32,
    pub(crate) height: f32,
}

impl Row {
    /// Its name, as shown and as announced.
    pub(crate) fn name(&self, open: &Open) -> String {
        match self.kind {
            Kind::Group(group) => group.name().into(),
            Kind::Tokens => "tokens".into(),
            Kind::Graphs => "graph".into(),
            Kind::Levels => "recorded".into(),
            Kind::Sequence(lane) => around::sequence_name(open, lane),
            Kind::Calls => "calls".into(),
            Kind::Cells => "KV cells".into(),
            Kind::Experts => "experts".into(),
            Kind::Counter(series) => open.trace.series_name(series).0,
            Kind::Backend(backend) => llmtrace_analysis::offload::backend_name(&open.trace, backend),
            Kind::Faults => "faults, reads".into(),
            // It is small, and belongs to what is above it.
            Kind::States(lane) => {
                format!("state of {}", Row { kind: Kind::Thread(lane), ..*self }.name(open))
            }
            Kind::Thread(lane) => thread_name(open, lane),
        }
    }

    pub(crate) fn contains(&self, y: f32) -> bool {
        self.top <= y && y < self.top + self.height
    }
}

/// What a thread's lane is called. Which process it is of says nothing where there is but one that
/// computes.
pub(crate) fn thread_name(open: &Open, lane: u32) -> String {
    let process = |lane: u32| lane >> PROCESS_SHIFT;
    let only = open.trace.lane_ids().iter().all(|other| process(*other) == process(lane));
    let lane = if only { lane & ((1 << PROCESS_SHIFT) - 1) } else { lane };
    llmtrace_analysis::lane_name(lane)
}

/// All lanes of a trace, in their order; that of experts is `experts_height` high. Where they are,
/// and how high those of threads, is for [`place`] to say.
pub(crate) fn rows(open: &Open, experts_height: f32) -> Vec<Row> {
    let threads = open.trace.lane_ids();
    let mut rows = Vec::with_capacity(threads.len() + 8);
    let mut add = |kind: Kind, height: f32| rows.push(Row { kind, top: 0.0, height });
    if !open.trace.tokens.is_empty() {
        add(Kind::Tokens, TOKENS_HEIGHT);
    }
    if !open.trace.graph_spans.is_empty() {
        add(Kind::Graphs, GRAPHS_HEIGHT);
    }
    if levels::any(open) {
        add(Kind::Levels, LEVELS_HEIGHT);
    }
    for lane in 0..around::sequence_lanes(open) {
        add(Kind::Sequence(lane), SEQUENCE_HEIGHT);
    }
    if !open.trace.inference.calls.is_empty() {
        add(Kind::Calls, GRAPHS_HEIGHT);
    }
    let caches = open.trace.around().kv.len();
    if caches > 0 {
        add(Kind::Cells, CELLS_HEIGHT * caches.min(4) as f32);
    }
    if experts::any(open) {
        add(Kind::Experts, experts_height);
    }
    for &series in &open.counters.shown {
        add(Kind::Counter(series), COUNTER_HEIGHT);
    }
    for lane in backends::lanes(open) {
        add(Kind::Backend(lane.backend), BACKEND_HEIGHT);
    }
    if machine::any_faults(open) {
        add(Kind::Faults, FAULTS_HEIGHT);
    }
    for thread in threads {
        add(Kind::Thread(thread), LANE_MIN_HEIGHT);
        if open.trace.machine.has_lane(thread) {
            add(Kind::States(thread), STATES_HEIGHT);
        }
    }
    rows
}

/// Puts rows one below the other in a window `available` points high; lanes of threads share what
/// the others leave.
pub(crate) fn place(rows: &mut [Row], available: f32) {
    let is_thread = |row: &Row| matches!(row.kind, Kind::Thread(_));
    // A strip lies close under its lane.
    let gap = |row: &Row| if matches!(row.kind, Kind::States(_)) { STATES_GAP } else { LANE_GAP };
    let threads = rows.iter().filter(|row| is_thread(row)).count().max(1);
    let others: f32 = rows.iter().filter(|row| !is_thread(row)).map(|row| row.height + gap(row)).sum();
    let each = (available - others - LANE_GAP) / threads as f32 - LANE_GAP;
    // In a high window they may be higher.
    let most = LANE_MAX_HEIGHT.max(available * 0.17);
    let each = each.clamp(LANE_MIN_HEIGHT, most).floor();
    let mut top = 0.0;
    for row in rows {
        row.top = top + gap(row);
        if is_thread(row) {
            row.height = each;
        }
        top = row.top + row.height;
    }
}

/// Height of all lanes together.
pub(crate) fn height(rows: &[Row]) -> f32 {
    rows.last().map_or(0.0, |row| row.top + row.height + LANE_GAP)
}
