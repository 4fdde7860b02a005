//! Events of the scheduler and its backends to rows. Pure, as assemble.rs.
//!
//! ```text
//! scheduler begin ─┬─ copy begin ── copy end ──┐ inputs
//!                  ├─ split begin ◄────────────┘
//!                  │    └─ (CPU: graph begin … graph end)
//!                  ├─ split end ── wait begin ── wait end
//! scheduler end ◄──┘
//! ```
//!
//! Each thread has its own. A copy may call others (from tensor to tensor is a `set` where
//! the source is the host's): what is inside belongs to the outer one. Which backend and
//! which memory an address stands for is told later, by `backends.rs`.

use super::assemble::DescribeGraph;
use super::graphs::GraphCall;
use super::graphs::KnownGraph;
use super::rows::{Ids, next};
use llmtrace_bpf::Event;
use llmtrace_bpf::types::{event_copy_begin, event_split_begin, event_split_nodes};
use llmtrace_format::constants::NONE;
use llmtrace_format::offload::{Copy, CopyCall, Direction, OffloadRow, SchedulerRun, Split, Sync};
use llmtrace_format::{Nanos, TimeRange};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

/// Threads with open calls; engines call from few.
const MAX_THREADS: usize = 1 << 10;
/// Schedulers remembered; each context has one.
const MAX_SCHEDULERS: usize = 1 << 10;
/// Inputs of one split; the scheduler has a limit of 30.
const MAX_INPUTS: usize = 1 << 10;
/// Losses remembered.
const MAX_LOSSES: usize = 64;
/// Twin of `COPY_BY_BACKEND` in events.h.
const COPY_BY_BACKEND: u32 = 7;

/// Where to look for backends, in the target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// In a scheduler.
    Scheduler(u64),
    /// In a list of so many.
    List(u64, u32),
    /// It is one.
    Backend(u64),
}

/// One end of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// A tensor without memory of its own, or one that could not be read.
    #[default]
    Unknown,
    /// The program's own memory.
    Program,
    /// A `ggml_backend_buffer`.
    Buffer(u64),
}

/// A row that is complete but for what addresses stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unnamed {
    pub(super) row: OffloadRow,
    /// Address of the backend that it is of; 0 for copies.
    pub(super) backend: u64,
    /// Source and target of a copy.
    pub(super) ends: [End; 2],
    pub(super) tensor: String,
}

/// Calls that a thread is in.
#[derive(Default)]
struct Open {
    run: Option<(SchedulerRun, u64)>,
    split: Option<OpenSplit>,
    copy: Option<OpenCopy>,
    wait: Option<(Sync, u64)>,
    /// Copies of this run that the next split waits for.
    inputs: Vec<Unnamed>,
}

struct OpenSplit {
    row: Split,
    backend: u64,
    call: Option<GraphCall>,
    graph: u64,
}

struct OpenCopy {
    row: Copy,
    ends: [End; 2],
    name: Vec<u8>,
    may_refuse: bool,
    depth: u32,
}

/// Of one process.
pub(super) struct Offload {
    process: u32,
    ids: Rc<Ids>,
    threads: HashMap<u32, Open>,
    schedulers: HashSet<u64>,
    backends: HashSet<u64>,
    losses: VecDeque<TimeRange>,
    /// From then on, ends of what is open may have been lost.
    doubt: Option<Nanos>,
    /// Where to look for backends.
    pub(super) told: Vec<Told>,
    pub(super) rows: Vec<Unnamed>,
    /// Splits with experts that a device computed: id, end and graph.
    pub(super) elsewhere: Vec<(u32, Nanos, Rc<KnownGraph>)>,
    /// Events that belong to nothing.
    pub(super) orphans: u64,
}

impl Offload {
    pub(super) fn new(process: u8, ids: Rc<Ids>) -> Self {
        Self {
            process: process.into(),
            ids,
            threads: HashMap::new(),
            schedulers: HashSet::new(),
            backends: HashSet::new(),
            losses: VecDeque::new(),
            doubt: None,
            told: Vec::new(),
            rows: Vec::new(),
            elsewhere: Vec::new(),
            orphans: 0,
        }
    }

    /// Takes an event, if it is one of these; `ubatch` is what its thread computes.
    pub(super) fn handle(
        &mut self,
        time: Nanos,
        event: &Event,
        ubatch: u32,
        describe: &mut dyn DescribeGraph,
    ) {
        let tid = event.head().tid;
        if self.doubt.is_some_and(|after| after < time) {
            self.doubt = None;
            self.forget();
        }
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            self.forget();
        }
        match event {
            Event::Backends(event) => {
                self.told.push(Told::List(event.backends, event.count));
                // What lies where a backend lay may be another one.
                self.backends.clear();
                self.schedulers.clear();
            }
            Event::SchedulerBegin(event) => {
                if self.schedulers.len() >= MAX_SCHEDULERS {
                    self.schedulers.clear();
                }
                if self.schedulers.insert(event.scheduler) {
                    self.told.push(Told::Scheduler(event.scheduler));
                }
                let id = next(&self.ids.run);
                let row = SchedulerRun {
                    id,
                    begin: time,
                    end: time,
                    ubatch,
                    tid,
                    process: self.process,
                    touched_by_loss: 0,
                };
                let open = self.threads.entry(tid).or_default();
                self.orphans += u64::from(open.run.is_some());
                *open = Open { run: Some((row, event.nodes)), ..Open::default() };
            }
            Event::SchedulerEnd(_) => self.run_end(time, tid),
            Event::SplitBegin(event) => self.split_begin(time, tid, event),
            Event::SplitNodes(event) => self.split_nodes(tid, event),
            Event::SplitEnd(_) => self.split_end(time, tid, describe),
            Event::CopyBegin(event) => self.copy_begin(time, tid, event),
            Event::CopyEnds(event) => {
                if let Some(copy) = self.outer_copy(tid) {
                    let end = |buffer, other| if buffer == 0 { other } else { End::Buffer(buffer) };
                    let own = |is_own| if is_own { End::Program } else { End::Unknown };
                    let call = CopyCall::from_u8(copy.row.call);
                    let sets = matches!(call, CopyCall::Set | CopyCall::SetAsync);
                    let gets = matches!(call, CopyCall::Get | CopyCall::GetAsync);
                    copy.ends = [end(event.source, own(sets)), end(event.target, own(gets))];
                }
            }
            Event::CopyName(event) => {
                if let Some(copy) = self.outer_copy(tid) {
                    copy.name.extend(event.name);
                }
            }
            Event::CopyEnd(event) => self.copy_end(time, tid, event.done),
            Event::WaitBegin(event) => {
                self.meet(event.backend);
                let process = self.process;
                let open = self.threads.entry(tid).or_default();
                let run = open.run_id();
                let row = Sync { begin: time, run, tid, process, backend: NONE, ..Sync::default() };
                self.orphans += u64::from(open.wait.replace((row, event.backend)).is_some());
            }
            Event::WaitEnd(_) => match self.threads.get_mut(&tid).and_then(|open| open.wait.take()) {
                Some((row, backend)) => {
                    let row = OffloadRow::Sync(Sync { end: time, ..row });
                    self.push(Unnamed { row, backend, ends: Default::default(), tensor: String::new() });
                }
                None => self.orphans += 1,
            },
            _ => {}
        }
    }

    /// Says that the CPU computes a graph, on this thread.
    pub(super) fn graph_began(&mut self, tid: u32, graph_span: u32, graph: u32) {
        if let Some(split) = self.threads.get_mut(&tid).and_then(|open| open.split.as_mut()) {
            split.row.graph_span = graph_span;
            split.row.graph = graph;
        }
    }

    /// Events were lost: marks what they may have touched, and forgets what is open
    /// once the events have come that far.
    pub(super) fn lost(&mut self, range: TimeRange) {
        self.rows.iter_mut().for_each(|unnamed| mark(&mut unnamed.row, range));
        if self.losses.len() >= MAX_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back(range);
        self.doubt = Some(self.doubt.unwrap_or(0).max(range.end));
    }

    /// Where to look is of no use yet; schedulers tell again.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
        self.schedulers.clear();
        self.backends.clear();
    }

    /// Forgets what is open: probes came or went, or ends were lost.
    pub(super) fn forget(&mut self) {
        self.threads.clear();
    }

    /// The program freed a backend or made others; looks at them again.
    fn meet(&mut self, backend: u64) {
        if self.backends.len() >= MAX_SCHEDULERS {
            self.backends.clear();
        }
        if self.backends.insert(backend) {
            self.told.push(Told::Backend(backend));
        }
    }

    fn push(&mut self, mut unnamed: Unnamed) {
        self.losses.iter().for_each(|range| mark(&mut unnamed.row, *range));
        self.rows.push(unnamed);
    }

    fn run_end(&mut self, time: Nanos, tid: u32) {
        let open = self.threads.remove(&tid).unwrap_or_default();
        let Some((row, _)) = open.run else {
            self.orphans += 1;
            return;
        };
        open.inputs.into_iter().for_each(|copy| self.push(copy));
        let row = OffloadRow::Run(SchedulerRun { end: time, ..row });
        self.push(Unnamed { row, backend: 0, ends: Default::default(), tensor: String::new() });
    }

    fn split_begin(&mut self, time: Nanos, tid: u32, event: &event_split_begin) {
        self.meet(event.backend);
        let process = self.process;
        let open = self.threads.entry(tid).or_default();
        if let Some(split) = &open.split {
            // A backend that passes its work on to another one: the outer one counts.
            self.orphans += u64::from(split.backend == event.backend);
            if split.backend != event.backend {
                return;
            }
        }
        let id = next(&self.ids.split);
        let row = Split {
            id,
            begin: time,
            end: time,
            run: open.run_id(),
            backend: NONE,
            graph: NONE,
            first_node: NONE,
            nodes: 0,
            graph_span: NONE,
            tid,
            process,
            touched_by_loss: 0,
        };
        open.split = Some(OpenSplit { row, backend: event.backend, call: None, graph: event.graph });
        let mut inputs = std::mem::take(&mut open.inputs);
        for input in &mut inputs {
            if let OffloadRow::Copy(copy) = &mut input.row {
                copy.split = id;
            }
        }
        inputs.into_iter().for_each(|input| self.push(input));
    }

    fn split_nodes(&mut self, tid: u32, event: &event_split_nodes) {
        let Some(open) = self.threads.get_mut(&tid) else { return };
        let all = open.run.map(|(_, nodes)| nodes);
        let Some(split) = open.split.as_mut().filter(|split| split.call.is_none()) else { return };
        let Some(count) = event.count() else { return };
        let nodes = event.nodes();
        split.row.nodes = count;
        split.call = Some(GraphCall { graph: split.graph, uid: event.uid, nodes, count });
        // A split's list of nodes is a part of that of the whole graph.
        let first = all.and_then(|all| nodes.checked_sub(all)).filter(|bytes| bytes % 8 == 0);
        let first = first.and_then(|bytes| u32::try_from(bytes / 8).ok()).filter(|first| *first < 1 << 24);
        split.row.first_node = first.unwrap_or(NONE);
    }

    fn split_end(&mut self, time: Nanos, tid: u32, describe: &mut dyn DescribeGraph) {
        let Some(split) = self.threads.get_mut(&tid).and_then(|open| open.split.take()) else {
            self.orphans += 1;
            return;
        };
        let mut row = Split { end: time, ..split.row };
        if row.graph_span == NONE
            && let Some(call) = &split.call
        {
            let known = describe.describe(call);
            row.graph = known.as_ref().map_or(NONE, |known| known.id);
            self.elsewhere.extend(known.filter(|known| !known.gates.is_empty()).map(|it| (row.id, time, it)));
        }
        let row = OffloadRow::Split(row);
        let (backend, tensor) = (split.backend, String::new());
        self.push(Unnamed { row, backend, ends: Default::default(), tensor });
    }

    fn outer_copy(&mut self, tid: u32) -> Option<&mut OpenCopy> {
        self.threads.get_mut(&tid)?.copy.as_mut().filter(|copy| copy.depth == 0)
    }

    fn copy_begin(&mut self, time: Nanos, tid: u32, event: &event_copy_begin) {
        let process = self.process;
        let open = self.threads.entry(tid).or_default();
        if let Some(copy) = &mut open.copy {
            copy.depth += 1;
            return;
        }
        let may_refuse = event.call == COPY_BY_BACKEND;
        let call = if may_refuse { CopyCall::CopyAsync } else { CopyCall::from_u8(event.call as u8) };
        let row = Copy {
            begin: time,
            end: time,
            call: call as u8,
            direction: Direction::Unknown as u8,
            source: NONE,
            target: NONE,
            bytes: event.bytes,
            split: NONE,
            run: open.run_id(),
            tid,
            process,
            ..Copy::default()
        };
        open.copy = Some(OpenCopy { row, ends: Default::default(), name: Vec::new(), may_refuse, depth: 0 });
    }

    fn copy_end(&mut self, time: Nanos, tid: u32, done: u32) {
        let open = self.threads.entry(tid).or_default();
        match &mut open.copy {
            None => {
                self.orphans += 1;
                return;
            }
            Some(copy) if copy.depth > 0 => {
                copy.depth -= 1;
                return;
            }
            Some(_) => {}
        }
        let Some(copy) = open.copy.take() else { return };
        // A backend that cannot copy between these says so, and another way is taken.
        if copy.may_refuse && done == 0 {
            return;
        }
        let row = OffloadRow::Copy(Copy { end: time, ..copy.row });
        let unnamed = Unnamed { row, backend: 0, ends: copy.ends, tensor: text(&copy.name) };
        // Within a split it is no input of the next one.
        let is_input = open.run.is_some() && open.split.is_none() && open.inputs.len() < MAX_INPUTS;
        if is_input {
            open.inputs.push(unnamed);
        } else {
            self.push(unnamed);
        }
    }
}

impl Open {
    fn run_id(&self) -> u32 {
        self.run.map_or(NONE, |(run, _)| run.id)
    }
}

/// A tensor's name, as far as it was sent.
fn text(name: &[u8]) -> String {
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect()
}

fn mark(row: &mut OffloadRow, loss: TimeRange) {
    let range = row.range();
    if TimeRange::new(range.begin, range.end + 1).overlaps(loss) {
        row.touch();
    }
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
