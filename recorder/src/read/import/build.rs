//! Slices to rows.

use super::slices::{Counts, Kind, Names, Slice, Track, read};
use anyhow::{Result, bail};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Ending, Graph, Level, Recording, Target, Tensor};
use llmtrace_format::tables::{Decode, GraphSpan, Thread, Ubatch};
use llmtrace_format::{Header, OpSpan, Writer};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::{Read, Write};

/// Spans of a lane that are put in order before they are written.
const WINDOW: usize = 1 << 14;
/// An overlap that rounding explains.
const ROUNDING_NANOS: u64 = 1000;
/// Rows of small tables after which they become blocks.
const ROWS_PER_BLOCK: usize = 60_000;

/// What was imported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) op_spans: u64,
    pub(super) calls: u64,
    pub(super) nested: u64,
    pub(super) counts: Counts,
}

/// Everything but the op spans.
pub(super) struct Plan {
    /// Earliest time, which becomes 0.
    start: i64,
    end: i64,
    decodes: Vec<Slice>,
    ubatches: Vec<Slice>,
    graphs: Vec<Slice>,
    /// Lane of each track with op spans.
    lanes: BTreeMap<Track, u32>,
    /// Lane of each track in the order of their first op span.
    orders: Vec<u32>,
    waits: bool,
    /// Op spans in the spool.
    spans: u64,
    counts: Counts,
}

impl Plan {
    /// Reads a stream; its op spans go to `spool`, in the order of the stream.
    pub(super) fn read(
        stream: impl Read,
        names: &mut Names,
        spool: &mut impl Write,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self> {
        let mut plan = Self {
            start: i64::MAX,
            end: i64::MIN,
            decodes: Vec::new(),
            ubatches: Vec::new(),
            graphs: Vec::new(),
            lanes: BTreeMap::new(),
            orders: Vec::new(),
            waits: false,
            spans: 0,
            counts: Counts::default(),
        };
        // Most events are of the track of the one before.
        let mut last: Option<(Track, u32)> = None;
        plan.counts = read(stream, names, progress, |slice| {
            plan.start = plan.start.min(slice.begin);
            let wait = slice.facts.wait.unwrap_or(0).min(i64::MAX as u64) as i64;
            plan.end = plan.end.max(slice.end.saturating_add(wait));
            match slice.kind {
                Kind::Decode { .. } => plan.decodes.push(slice),
                Kind::Ubatch => plan.ubatches.push(slice),
                Kind::Graph => plan.graphs.push(slice),
                Kind::Op { node } => {
                    plan.waits |= slice.facts.wait.is_some();
                    let order = match last {
                        Some((track, order)) if track == slice.track => order,
                        _ => {
                            let next = plan.lanes.len() as u32;
                            *plan.lanes.entry(slice.track).or_insert(next)
                        }
                    };
                    last = Some((slice.track, order));
                    plan.spans += 1;
                    spool.write_all(&Spooled { order, node, slice }.to_bytes())?;
                }
            }
            Ok(())
        })?;
        if plan.start > plan.end {
            bail!("no operator, graph or decode call is in it");
        }
        plan.orders = vec![0; plan.lanes.len()];
        for (lane, order) in plan.lanes.values_mut().enumerate() {
            if let Some(found) = plan.orders.get_mut(*order as usize) {
                *found = lane as u32;
            }
            *order = lane as u32;
        }
        for list in [&mut plan.decodes, &mut plan.ubatches, &mut plan.graphs] {
            list.sort_by_key(|slice| (slice.begin, Reverse(slice.end)));
        }
        if plan.graphs.is_empty() && !plan.lanes.is_empty() {
            // Op spans belong to a graph run: the micro-batch, the call, or all of it.
            let runs = if plan.ubatches.is_empty() { &plan.decodes } else { &plan.ubatches };
            plan.graphs = runs.clone();
        }
        if plan.graphs.is_empty() && !plan.lanes.is_empty() {
            let (track, facts) = ((0, 0), Default::default());
            plan.graphs.push(Slice { kind: Kind::Graph, track, begin: plan.start, end: plan.end, facts });
        }
        Ok(plan)
    }

    fn time(&self, time: i64) -> u64 {
        u64::try_from(time.saturating_sub(self.start)).unwrap_or(0)
    }

    fn level(&self) -> Level {
        match (self.lanes.is_empty(), self.waits) {
            (false, true) => Level::Thread,
            (false, false) => Level::Op,
            (true, _) if !self.graphs.is_empty() => Level::Graph,
            (true, _) => Level::Token,
        }
    }

    fn recording(&self, names: &Names) -> Recording {
        let level = self.level();
        Recording {
            recorder_version: concat!(env!("CARGO_PKG_VERSION"), " (imported Chrome trace JSON)").into(),
            level_asked: level,
            level,
            target: Target { exe: names.process.clone().unwrap_or_default(), ..Target::default() },
            ..Recording::default()
        }
    }

    fn small_tables<W: Write>(&self, writer: &mut Writer<W>) -> Result<()> {
        let id = |id: Option<usize>| id.map_or(NONE, |id| id as u32);
        let tid = |slice: &Slice| slice.track.1 as u32;
        let mut pending = 0;
        let mut flush = |writer: &mut Writer<W>| {
            pending += 1;
            if pending % ROWS_PER_BLOCK == 0 { writer.flush() } else { Ok(()) }
        };
        for (index, slice) in self.decodes.iter().enumerate() {
            writer.push_decode(Decode {
                id: index as u32,
                begin: self.time(slice.begin),
                end: self.time(slice.end),
                tid: tid(slice),
                tokens: slice.facts.tokens.unwrap_or(0),
                is_encode: (slice.kind == Kind::Decode { is_encode: true }).into(),
                result: slice.facts.result,
                context: NONE,
                process: 0,
            });
            flush(writer)?;
        }
        for (index, slice) in self.ubatches.iter().enumerate() {
            writer.push_ubatch(Ubatch {
                id: index as u32,
                begin: self.time(slice.begin),
                end: self.time(slice.end),
                decode: id(around(&self.decodes, slice.begin)),
                tokens: slice.facts.tokens.unwrap_or(0),
                sequences: slice.facts.sequences.unwrap_or(0),
                phase: slice.facts.phase,
            });
            flush(writer)?;
        }
        for (index, slice) in self.graphs.iter().enumerate() {
            writer.push_graph_span(GraphSpan {
                id: index as u32,
                begin: self.time(slice.begin),
                end: self.time(slice.end),
                graph: if self.lanes.is_empty() { NONE } else { 0 },
                ubatch: id(around(&self.ubatches, slice.begin)),
                threads: self.lanes.len() as u32,
                tid: tid(slice),
                ..GraphSpan::default()
            });
            flush(writer)?;
        }
        Ok(())
    }
}

/// The slice during which `time` lies.
fn around(sorted: &[Slice], time: i64) -> Option<usize> {
    let index = sorted.partition_point(|slice| slice.begin <= time).checked_sub(1)?;
    sorted.get(index).is_some_and(|slice| time < slice.end || time == slice.begin).then_some(index)
}

/// Writes the trace, with the op spans of the spool; gives the sink back.
pub(super) fn write<W: Write>(
    mut spool: impl Read,
    plan: &Plan,
    names: &Names,
    sink: W,
    mut go_on: impl FnMut() -> bool,
) -> Result<(W, Report)> {
    let mut writer = Writer::new(sink, Header::new(0, 0))?;
    writer.remember_graph_spans();
    writer.write_recording(&plan.recording(names))?;
    if !plan.lanes.is_empty() {
        let tensor = |(op, name): &(String, String)| Tensor {
            name: writer.string(name),
            op: writer.string(op),
            ne: [1; 4],
            ..Tensor::default()
        };
        let tensors: Vec<Tensor> = names.list.iter().map(tensor).collect();
        let nodes = tensors.len() as u32;
        writer.write_graph(&Graph { id: 0, tensors, nodes })?;
    }
    for ((pid, tid), lane) in &plan.lanes {
        writer.push_thread(Thread { id: *lane, ith: *lane, tid: *tid as u32, pid: *pid as u32 });
    }
    plan.small_tables(&mut writer)?;
    let mut report = Report { calls: plan.decodes.len() as u64, counts: plan.counts, ..Report::default() };
    let mut lanes: Vec<Lane> = (0..plan.lanes.len()).map(|id| Lane::new(id as u32)).collect();
    let mut bytes = [0; SPOOLED_LEN];
    for index in 0..plan.spans {
        if index.is_multiple_of(4096) && !go_on() {
            return Err(llmtrace_format::Error::Cancelled.into());
        }
        spool.read_exact(&mut bytes)?;
        let (order, mut item) = Item::from_bytes(&bytes);
        item.begin = item.begin.wrapping_sub(plan.start as u64);
        item.end = item.begin.saturating_add(item.end);
        let lane = plan.orders.get(order as usize).and_then(|lane| lanes.get_mut(*lane as usize));
        let Some(lane) = lane else { continue };
        lane.window.push(item);
        if lane.window.len() > WINDOW {
            lane.pop(plan, &mut writer, &mut report)?;
        }
    }
    for lane in &mut lanes {
        while lane.window.len() > 0 {
            lane.pop(plan, &mut writer, &mut report)?;
        }
    }
    let ending = Ending { reason: "imported".into(), end_nanos: plan.time(plan.end), ..Ending::default() };
    Ok((writer.finish(&ending)?, report))
}

/// A span that waits for its turn; the earliest comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    begin: u64,
    end: u64,
    wait: u64,
    node: u32,
    cpu: u32,
}

/// An op span on its way from the first pass to the second.
struct Spooled {
    order: u32,
    node: u32,
    slice: Slice,
}

/// Begin, length, wait; track, node, CPU.
const SPOOLED_LEN: usize = 36;

impl Spooled {
    fn to_bytes(&self) -> [u8; SPOOLED_LEN] {
        let mut bytes = [0; SPOOLED_LEN];
        let Slice { begin, end, facts, .. } = self.slice;
        let length = end.saturating_sub(begin).max(0);
        let wide = [begin as u64, length as u64, facts.wait.unwrap_or(0)].map(u64::to_le_bytes);
        let narrow = [self.order, self.node, facts.cpu].map(u32::to_le_bytes);
        let all = wide.as_flattened().iter().chain(narrow.as_flattened());
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }
}

impl Item {
    /// The order of its track, and a span whose begin is absolute and whose end
    /// is its length.
    fn from_bytes(bytes: &[u8; SPOOLED_LEN]) -> (u32, Self) {
        let wide =
            |at: usize| bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes);
        let narrow =
            |at: usize| bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes);
        (narrow(24), Self { begin: wide(0), end: wide(8), wait: wide(16), node: narrow(28), cpu: narrow(32) })
    }
}

/// Spans that wait for their turn: those that came in order, and the others.
#[derive(Default)]
struct Window {
    sorted: VecDeque<Item>,
    late: BinaryHeap<Reverse<Item>>,
}

impl Window {
    fn len(&self) -> usize {
        self.sorted.len() + self.late.len()
    }

    fn push(&mut self, item: Item) {
        match self.sorted.back() {
            Some(last) if item < *last => self.late.push(Reverse(item)),
            _ => self.sorted.push_back(item),
        }
    }

    /// The earliest.
    fn pop(&mut self) -> Option<Item> {
        match (self.sorted.front(), self.late.peek()) {
            (Some(sorted), Some(Reverse(late))) if sorted <= late => self.sorted.pop_front(),
            (_, Some(_)) => self.late.pop().map(|Reverse(item)| item),
            _ => self.sorted.pop_front(),
        }
    }
}

struct Lane {
    id: u32,
    window: Window,
    /// End of the last span that was written.
    end: u64,
    /// Its graph run.
    run: usize,
}

impl Lane {
    fn new(id: u32) -> Self {
        Self { id, window: Window::default(), end: 0, run: 0 }
    }

    /// Writes the earliest span.
    fn pop<W: Write>(&mut self, plan: &Plan, writer: &mut Writer<W>, report: &mut Report) -> Result<()> {
        let Some(mut item) = self.window.pop() else { return Ok(()) };
        if item.begin < self.end {
            if self.end - item.begin > ROUNDING_NANOS || item.end < self.end {
                report.nested += 1;
                return Ok(());
            }
            item.begin = self.end;
        }
        let begins = |run: usize| plan.graphs.get(run).is_some_and(|run| plan.time(run.begin) <= item.begin);
        while begins(self.run + 1) {
            self.run += 1;
        }
        self.end = item.end.saturating_add(item.wait);
        report.op_spans += 1;
        let span = OpSpan {
            begin: item.begin,
            compute: item.end - item.begin,
            wait: item.wait,
            node: item.node,
            graph_span: self.run as u32,
            thread: self.id,
            cpu: item.cpu,
            ..OpSpan::default()
        };
        Ok(writer.push_op_span(self.id, span)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_the_earliest_first() {
        let mut window = Window::default();
        let begins = [5, 7, 6, 9, 1, 9, 8, 20, 3];
        for begin in begins {
            window.push(Item { begin, end: begin, wait: 0, node: 0, cpu: 0 });
        }
        let mut sorted = begins.to_vec();
        sorted.sort_unstable();
        assert_eq!(window.len(), sorted.len());
        let popped: Vec<u64> = std::iter::from_fn(|| window.pop().map(|item| item.begin)).collect();
        assert_eq!(popped, sorted);
    }
}
