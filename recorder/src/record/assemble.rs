//! Kernel events to rows: the pure core of the recorder.
//!
//! ```text
//! decode begin ── ubatch begin ── graph begin ─┬─ op begin ── barrier … op begin ── barrier ─┐
//!                                              ├─ op begin ── barrier …          (each thread)│
//! decode end ◄─── ubatch end ◄─── graph end ◄──┴──────────────────────────────────────────────┘
//! ```
//!
//! A node ends for a thread at the thread's last barrier arrival before its
//! next begin (earlier arrivals are phases inside the operator). It has waited
//! until the last thread arrived. Rows of a graph are made when it returns.
//!
//! Strange sequences seen in practice: a recorder attaches in the middle of a
//! graph (events without a begin: counted as orphans); an outer decode overload
//! calls an inner one (the inner one only tells the batch size); thread pools
//! are new for every graph (threads are found by `ith`); two contexts compute
//! at once (the second gets lanes of its own).

use super::counters::{self, Packed};
use super::experts::Experts;
use super::graphs::{GraphCall, KnownGraph};
use super::hits::Hits;
use super::inference::Inference;
use super::lanes::{LaneRun, RunningGraph, Step, infer_steps, lane_id, op_counters, op_spans, releases};
use super::offload::Offload;
use super::rows::{Counts, FinishedGraph, Ids, Rows, next};
use super::sequence::{Item, Sequences, begins};
use llmtrace_bpf::types::{event_decode_begin, event_graph_begin, event_graph_nodes};
use llmtrace_bpf::{Bulk, Event};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::CallKind;
use llmtrace_format::tables::{Decode, GraphSpan, Phase, Thread, Ubatch};
use llmtrace_format::{Nanos, TimeRange};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

/// Threads remembered: engines that start new ones for every graph have many.
const MAX_THREADS: usize = 1 << 14;
/// Contexts remembered.
const MAX_CONTEXTS: usize = 1 << 10;
/// Losses remembered: more than happen while a graph runs.
const MAX_LOSSES: usize = 64;
/// Finds out which nodes a graph has, while it runs.
pub(super) trait DescribeGraph {
    /// The graph that begins; `None` when its nodes cannot be read.
    fn describe(&mut self, call: &GraphCall) -> Option<Rc<KnownGraph>>;

    /// Where the KV cache of a context lies; `None` when that cannot be told.
    fn memory_of(&mut self, _context: u64) -> Option<u64> {
        None
    }
}

/// Of one process.
pub(super) struct Assembler {
    start: u64,
    pid: u32,
    /// Our number of the process.
    process: u8,
    ids: Rc<Ids>,
    /// Whether the end of a ubatch is probed; else the next event closes it.
    ubatch_ends: bool,
    /// By address of the context.
    contexts: HashMap<u64, u32>,
    /// What a thread said of the graph that it is about to begin.
    nodes: HashMap<u32, event_graph_nodes>,
    /// When operators were probed: the last few ranges, the newest last.
    ops: VecDeque<TimeRange>,
    /// Ranges in which events were lost, the last few.
    losses: VecDeque<TimeRange>,
    doubts: VecDeque<Doubt>,
    decodes: HashMap<u32, OpenDecode>,
    ubatches: HashMap<u32, Ubatch>,
    running: Vec<RunningGraph>,
    threads: BTreeMap<(u32, u32), u32>,
    /// `ith` of each thread seen.
    places: BTreeMap<u32, u32>,
    /// What a thread counted up to the arrival that it is about to tell of, at its time.
    counted: HashMap<u32, (Nanos, Packed)>,
    /// Whether only those barriers are probed that close nodes.
    only_closing_barriers: bool,
    pub(super) sequences: Sequences,
    pub(super) experts: Experts,
    pub(super) inference: Inference,
    pub(super) rows: Rows,
    pub(super) counts: Counts,
    pub(super) hits: Hits,
    pub(super) offload: Offload,
}

/// From `after` on, calls or graphs that are open may have ended unseen.
struct Doubt {
    after: Nanos,
    calls: bool,
    graphs: bool,
}

struct OpenDecode {
    row: Decode,
    /// Overloads that call each other.
    depth: u32,
}

impl Assembler {
    /// `start` is the monotonic time from which rows count.
    pub(super) fn new(start: u64, pid: u32, process: u8, ids: Rc<Ids>) -> Self {
        Self {
            start,
            pid,
            process,
            experts: Experts::new(ids.selection.clone()),
            offload: Offload::new(process, ids.clone()),
            ids,
            ubatch_ends: true,
            contexts: HashMap::new(),
            nodes: HashMap::new(),
            ops: VecDeque::from([TimeRange::new(0, Nanos::MAX)]),
            losses: VecDeque::new(),
            doubts: VecDeque::new(),
            decodes: HashMap::new(),
            ubatches: HashMap::new(),
            running: Vec::new(),
            threads: BTreeMap::new(),
            places: BTreeMap::new(),
            counted: HashMap::new(),
            only_closing_barriers: false,
            sequences: Sequences::default(),
            inference: Inference::new(process),
            rows: Rows::default(),
            counts: Counts::default(),
            hits: Hits::default(),
        }
    }

    /// Says that operators are probed from `time` on.
    pub(super) fn ops_begin(&mut self, time: Nanos) {
        if self.ops.len() >= 8 {
            self.ops.pop_front();
        }
        self.ops.push_back(TimeRange::new(time, Nanos::MAX));
    }

    /// Says that operators are not probed from `time` on.
    pub(super) fn ops_end(&mut self, time: Nanos) {
        if let Some(range) = self.ops.back_mut() {
            range.end = range.end.min(time);
        }
    }

    /// Says that no event ends a ubatch.
    pub(super) fn close_ubatches_with_decodes(&mut self) {
        self.ubatch_ends = false;
    }

    /// Says that each barrier event closes a node.
    pub(super) fn count_barriers(&mut self) {
        self.only_closing_barriers = true;
    }

    /// Counts an event.
    pub(super) fn count(&mut self, kind: u8) {
        self.counts.events += 1;
        self.hits.count(kind);
    }

    /// Takes one event. Events of a thread come in order.
    pub(super) fn handle(&mut self, event: &Event, describe: &mut dyn DescribeGraph) {
        let head = event.head();
        self.count(head.kind);
        let (time, tid) = (head.time.saturating_sub(self.start), head.tid);
        while self.doubts.front().is_some_and(|doubt| doubt.after < time) {
            self.forget();
        }
        match event {
            Event::DecodeBegin(event) => self.decode_begin(time, tid, event, describe),
            Event::DecodeEnd(event) => self.decode_end(time, tid, event.result),
            Event::UbatchBegin(event) => self.ubatch_begin(time, tid, event.tokens, event.sequences),
            Event::UbatchEnd(_) => self.ubatch_end(time, tid),
            Event::GraphNodes(event) => {
                if self.nodes.len() >= MAX_THREADS {
                    self.nodes.clear();
                }
                self.nodes.insert(tid, *event);
            }
            Event::GraphBegin(event) => self.graph_begin(time, tid, event, describe),
            Event::GraphEnd(_) => self.graph_end(time, tid),
            Event::OpBegin(event) => {
                self.op_begin(time, tid, event.ith, event.tensor, event.tensor, event.head.cpu.into());
            }
            Event::FusedBegin(event) => {
                let (ith, tensor) = (event.ith(), event.tensor());
                self.op_begin(time, tid, ith, tensor, event.last_tensor, event.head.cpu.into());
            }
            Event::Barrier(event) => self.barrier(time, tid, event.head.cpu.into()),
            Event::Counters(event) => {
                if self.counted.len() >= MAX_THREADS {
                    self.counted.clear();
                }
                self.counted.insert(tid, (time, counters::first(event)));
            }
            Event::MoreCounters(event) => {
                if let Some((_, packed)) = self.counted.get_mut(&tid).filter(|(of, _)| *of == time) {
                    counters::further(packed, event);
                }
            }
            // The session's, not a process's own.
            Event::Process(_) => {}
            around => {
                self.around(time, around);
                let ubatch = self.ubatches.get(&tid).map_or(NONE, |ubatch| ubatch.id);
                self.offload.handle(time, event, ubatch, describe);
                self.counts.orphans += std::mem::take(&mut self.offload.orphans);
                for (split, end, known) in self.offload.elsewhere.drain(..) {
                    self.experts.elsewhere(split, end, &known);
                }
            }
        }
    }

    /// What goes on around graphs.
    fn around(&mut self, time: Nanos, event: &Event) {
        self.inference.handle(event, time, &self.contexts);
        if let Event::CallBegin(event) = event
            && event.kind == CallKind::FreeContext as u32
        {
            // The next one at this address is another one.
            self.contexts.remove(&event.context);
        }
    }

    /// Takes a record of the bulk channel, after all events of before.
    pub(super) fn handle_bulk(&mut self, record: &Bulk) {
        let head = record.head();
        self.count(head.kind);
        let time = head.time.saturating_sub(self.start);
        match record {
            Bulk::Experts(record, values) => self.experts.piece(time, record, values),
        }
    }

    /// Events were lost, which is known before all events of that time have come:
    /// marks what they may have touched, as it ends, and forgets what is open once
    /// the events have come that far.
    pub(super) fn lost(&mut self, range: TimeRange, calls: bool, graphs: bool) {
        self.offload.lost(range);
        for graph in &mut self.rows.graphs {
            mark(graph, range);
        }
        if self.losses.len() >= MAX_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back(range);
        if self.doubts.len() >= MAX_LOSSES {
            self.forget();
        }
        self.doubts.push_back(Doubt { after: range.end, calls, graphs });
    }

    /// Acts on the oldest doubt.
    fn forget(&mut self) {
        let Some(Doubt { calls, graphs, .. }) = self.doubts.pop_front() else { return };
        if calls {
            self.forget_open_calls();
        }
        if graphs {
            self.forget_running_graphs();
        }
        self.sequences.distrust();
    }

    /// Forgets calls that are open although their end, or that of an earlier one,
    /// may be among the events lost: nobody could tell an inner call from a next
    /// one. Their ends count as orphans.
    fn forget_open_calls(&mut self) {
        self.decodes.clear();
        self.ubatches.clear();
        self.inference.forget();
    }

    /// Forgets graphs that run although their end may be among the events lost:
    /// a later graph may have the same nodes at the same addresses.
    pub(super) fn forget_running_graphs(&mut self) {
        self.counts.orphans += self.running.iter().map(RunningGraph::steps).sum::<u64>();
        self.running.clear();
        self.offload.forget();
    }

    /// Closes what is open: the target is gone or the recording ends. Unfinished
    /// calls and graphs are counted as orphans, not given an invented end.
    pub(super) fn finish(&mut self) {
        self.forget_running_graphs();
    }

    fn decode_begin(
        &mut self,
        time: u64,
        tid: u32,
        event: &event_decode_begin,
        describe: &mut dyn DescribeGraph,
    ) {
        if let Some(open) = self.decodes.get_mut(&tid) {
            open.depth += 1;
            open.row.tokens = open.row.tokens.max(event.tokens);
            return;
        }
        self.inference.decode_begin(tid);
        if self.contexts.len() >= MAX_CONTEXTS {
            self.contexts.clear();
        }
        let context = *self.contexts.entry(event.context).or_insert_with(|| {
            let number = next(&self.ids.context);
            self.inference.context(event.context, describe.memory_of(event.context), number);
            number
        });
        let row = Decode {
            id: next(&self.ids.decode),
            begin: time,
            tid,
            tokens: event.tokens,
            is_encode: event.is_encode.min(1) as u8,
            context,
            process: self.process.into(),
            ..Decode::default()
        };
        self.decodes.insert(tid, OpenDecode { row, depth: 0 });
    }

    fn decode_end(&mut self, time: u64, tid: u32, result: i32) {
        if !self.ubatch_ends && self.ubatches.contains_key(&tid) {
            self.ubatch_end(time, tid);
        }
        let Some(open) = self.decodes.get_mut(&tid) else {
            self.counts.orphans += 1;
            return;
        };
        if let Some(depth) = open.depth.checked_sub(1) {
            open.depth = depth;
            return;
        }
        if let Some(OpenDecode { mut row, .. }) = self.decodes.remove(&tid) {
            row.end = time;
            row.result = result as u32;
            self.rows.decodes.push(row);
        }
    }

    fn ubatch_begin(&mut self, time: u64, tid: u32, tokens: u32, sequences: u32) {
        if !self.ubatch_ends && self.ubatches.contains_key(&tid) {
            self.ubatch_end(time, tid);
        }
        self.inference.ubatch_begin(tid);
        let decode = self.decodes.get_mut(&tid);
        let phase = match &decode {
            Some(open) if open.row.is_encode == 1 => Phase::Encode,
            _ if tokens == 0 || sequences == 0 => Phase::Unknown,
            _ if tokens > sequences => Phase::Prefill,
            _ => Phase::Decode,
        };
        let decode = decode.map_or(NONE, |open| open.row.id);
        let row = Ubatch {
            id: next(&self.ids.ubatch),
            begin: time,
            decode,
            tokens,
            sequences,
            phase: phase as u8,
            ..Ubatch::default()
        };
        self.ubatches.insert(tid, row);
    }

    fn ubatch_end(&mut self, time: u64, tid: u32) {
        let Some(mut row) = self.ubatches.remove(&tid) else {
            self.counts.orphans += 1;
            return;
        };
        row.end = time;
        self.inference.ubatch_end(tid, &row);
        match Phase::from_u8(row.phase) {
            Phase::Decode => {
                self.counts.decode_tokens += u64::from(row.tokens);
                self.counts.decode_nanos += row.end.saturating_sub(row.begin);
            }
            _ => self.counts.prefill_tokens += u64::from(row.tokens),
        }
        self.rows.ubatches.push(row);
    }

    fn graph_begin(
        &mut self,
        time: u64,
        tid: u32,
        event: &event_graph_begin,
        describe: &mut dyn DescribeGraph,
    ) {
        // A thread computes one graph at a time: an end was lost.
        if let Some(at) = self.running.iter().position(|graph| graph.span.tid == tid) {
            self.counts.orphans += self.running.remove(at).steps();
        }
        let nodes = self.nodes.remove(&tid).unwrap_or_default();
        let call =
            GraphCall { graph: event.graph, uid: event.uid, nodes: nodes.nodes, count: nodes.node_count };
        let known = describe.describe(&call);
        self.counts.unknown_graphs += u64::from(known.is_none());
        let span = GraphSpan {
            id: next(&self.ids.graph_span),
            begin: time,
            end: time,
            graph: known.as_ref().map_or(NONE, |known| known.id),
            ubatch: self.ubatches.get(&tid).map_or(NONE, |ubatch| ubatch.id),
            threads: nodes.threads,
            tid,
            process: self.process.into(),
            ..GraphSpan::default()
        };
        if let Some(known) = &known {
            self.experts.graph_begin(span.id, tid, time, known);
        }
        self.offload.graph_began(tid, span.id, span.graph);
        let free = |slot: &u32| self.running.iter().all(|graph| graph.slot != *slot);
        let slot = (0..).find(free).unwrap_or(0);
        self.running.push(RunningGraph { span, slot, known, lanes: Vec::new() });
    }

    fn op_begin(&mut self, time: u64, tid: u32, ith: u32, tensor: u64, last_tensor: u64, cpu: u32) {
        // The newest first: an older one with the same nodes has ended unseen.
        for graph in self.running.iter_mut().rev() {
            let Some(known) = &graph.known else { continue };
            let lane = graph.lanes.iter_mut().find(|lane| lane.tid == tid);
            let after = lane.as_ref().and_then(|lane| lane.steps.last()).map_or(0, |step| step.node + 1);
            let Some(node) = known.node(tensor, after) else { continue };
            let last = if last_tensor == tensor { Some(node) } else { known.node(last_tensor, node + 1) };
            let fused = last.map_or(0, |last| last.saturating_sub(node));
            let step = Step { node, fused, cpu, begin: time, arrival: 0 };
            if lane.is_none() {
                graph.lanes.push(LaneRun::new(tid, ith));
            }
            // The last one is the new one.
            let lane = graph.lanes.iter_mut().rev().find(|lane| lane.tid == tid);
            let Some(lane) = lane else { continue };
            lane.hits += 1;
            lane.fused_hits += u32::from(last_tensor != tensor);
            lane.steps.push(step);
            lane.before.push(lane.arrivals.len() as u32);
            return;
        }
        self.counts.orphans += 1;
    }

    fn barrier(&mut self, time: u64, tid: u32, cpu: u32) {
        let counted = if self.counted.is_empty() { None } else { self.counted.remove(&tid) };
        let counts = counted.filter(|(of, _)| *of == time).map(|(_, packed)| packed);
        // The newest first, as above.
        for graph in self.running.iter_mut().rev() {
            if let Some(lane) = graph.lanes.iter_mut().find(|lane| lane.tid == tid) {
                lane.arrive(time, cpu);
                lane.counted(counts);
                return;
            }
        }
        // Without begins, a thread's first arrival introduces it.
        if let [graph] = &mut self.running[..]
            && self.only_closing_barriers
            && let Some(&ith) = self.places.get(&tid)
        {
            let mut lane = LaneRun::new(tid, ith);
            lane.arrive(time, cpu);
            lane.counted(counts);
            graph.lanes.push(lane);
        }
        // Other barriers belong to nothing.
    }

    fn graph_end(&mut self, time: u64, tid: u32) {
        let Some(at) = self.running.iter().position(|graph| graph.span.tid == tid) else {
            self.counts.orphans += 1;
            return;
        };
        let mut graph = self.running.remove(at);
        graph.span.end = time;
        self.experts.graph_end(graph.span.id, time);
        // The calling thread also hit the begin and the end of the graph.
        self.hits.of_graph(&graph);
        match self.ops_probed(TimeRange::new(graph.span.begin, time)) {
            true => self.settle(&mut graph),
            // Of a graph that ran while probes came or went, some were seen: none tells nothing wrong.
            false => graph.lanes.clear(),
        }
        let hits = |lane: &LaneRun| lane.hits + if lane.tid == tid { 2 } else { 0 };
        graph.span.probe_hits = graph.lanes.iter().map(hits).max().unwrap_or(2);
        let release = releases(&graph);
        let mut lanes = Vec::with_capacity(graph.lanes.len());
        let mut counters = Vec::new();
        graph.lanes.sort_by_key(|lane| lane.ith);
        for lane in &graph.lanes {
            let thread = self.thread(lane.ith, lane.tid);
            let spans = op_spans(lane, &graph.span, &release, thread);
            self.counts.op_spans += spans.len() as u64;
            counters.push(op_counters(lane, &graph.span, &spans));
            lanes.push((lane_id(self.process, graph.slot, lane.ith), spans));
        }
        let mut finished = FinishedGraph { span: graph.span, lanes, counters };
        self.losses.iter().for_each(|range| mark(&mut finished, *range));
        self.rows.graphs.push(finished);
    }

    /// Whether operators were probed throughout a range.
    fn ops_probed(&self, range: TimeRange) -> bool {
        self.ops.iter().any(|probed| probed.begin <= range.begin && range.end <= probed.end)
    }

    /// Decides which nodes the threads of a graph computed: those whose begins
    /// were seen, or those that their arrivals count.
    fn settle(&mut self, graph: &mut RunningGraph) {
        let known_threads = graph.lanes.iter().all(|lane| self.places.get(&lane.tid) == Some(&lane.ith));
        self.places.extend(graph.lanes.iter().map(|lane| (lane.tid, lane.ith)));
        let Some(known) = graph.known.clone().filter(|_| self.only_closing_barriers) else { return };
        let order = self.sequences.order(known.structure());
        let all_there = graph.lanes.len() == graph.span.threads as usize;
        let explicit = all_there && graph.lanes.iter().all(|lane| lane.steps.len() == lane.arrivals.len());
        let fits =
            |order: &[Item]| all_there && graph.lanes.iter().all(|lane| lane.arrivals.len() == order.len());
        let order = order.filter(|order| fits(order));
        if explicit {
            if let Some(order) = &order {
                self.compare(graph, order);
            }
            let seen: Vec<Vec<Item>> = graph.lanes.iter().map(LaneRun::items).collect();
            self.sequences.learn(known.structure(), &seen, known_threads);
            return;
        }
        match order {
            Some(order) => {
                graph.span.inferred_begins = 1;
                infer_steps(graph, &order);
            }
            None => {
                self.sequences.distrust();
                // What was seen of it is kept while begins are seen at all.
                if graph.lanes.iter().any(|lane| lane.steps.is_empty()) {
                    self.counts.uncounted_graphs += 1;
                    self.counts.orphans +=
                        graph.lanes.iter().map(|lane| lane.arrivals.len() as u64).sum::<u64>();
                    graph.lanes.clear();
                }
            }
        }
    }

    /// Keeps account of how well counting agrees with seeing.
    fn compare(&mut self, graph: &RunningGraph, order: &[Item]) {
        let arrivals: Vec<&[u64]> = graph.lanes.iter().map(|lane| lane.arrivals.as_slice()).collect();
        let begins = begins(&arrivals, graph.span.begin);
        self.sequences.compared.graphs += 1;
        let inferred: Vec<(Item, u64)> = order.iter().copied().zip(begins).collect();
        for lane in &graph.lanes {
            let seen = lane.steps.iter().map(|step| ((step.node, step.fused), step.begin));
            let seen: Vec<(Item, u64)> = seen.collect();
            // A thread's first begin depends on when it woke up; nothing tells.
            let rest = |list: &[(Item, u64)]| list.get(1..).unwrap_or_default().to_vec();
            self.sequences.compare(&rest(&seen), &rest(&inferred));
        }
    }

    fn thread(&mut self, ith: u32, tid: u32) -> u32 {
        if let Some(&id) = self.threads.get(&(ith, tid)) {
            return id;
        }
        if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
            self.places.clear();
        }
        let id = next(&self.ids.thread);
        self.threads.insert((ith, tid), id);
        self.rows.threads.push(Thread { id, ith, tid, pid: self.pid });
        id
    }
}

/// Marks a graph and its nodes as touched by a loss, where they overlap it.
fn mark(graph: &mut FinishedGraph, loss: TimeRange) {
    if TimeRange::new(graph.span.begin, graph.span.end).overlaps(loss) {
        graph.span.touched_by_loss = 1;
        for span in graph.lanes.iter_mut().flat_map(|(_, spans)| spans) {
            span.touched_by_loss |= TimeRange::new(span.begin, span.end() + 1).overlaps(loss);
        }
    }
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
