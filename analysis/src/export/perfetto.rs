//! Perfetto's protobuf: track events with interned names.
//!
//! ```text
//! process ─┬─ tokens/s          counter
//!          ├─ decode calls      one track for each calling thread, and so on
//!          ├─ micro-batches
//!          ├─ graph runs        an arrow from the micro-batch of each
//!          ├─ thread 0, 1, …    op spans; wait, operator, shape as arguments
//!          ├─ KV cells in use   and other counters, as [`super::curves`] has them
//!          ├─ calls, splits, …  what goes on around graphs, as [`super::slices`] has it
//!          └─ thread states     one track for each kernel thread
//! ```
//!
//! All packets are of one sequence; a text is sent with the first event that
//! uses it. Tracks are children of the process and no threads, since a lane
//! stays the same while engines start new threads.

use super::counted::Counted;
use super::curves::{Curve, curves};
use super::labels::Labels;
use super::proto::{
    CounterDescriptor, DebugAnnotation, EXPLICIT_ORDER, InternedData, Packet, ProcessDescriptor, Text,
    TrackDescriptor, TrackEvent, event,
};
use super::slices::{Arg, Slice, Track, tracks};
use super::states::Threads;
use super::{ExportReport, each_span, lane_name, process};
use crate::cut::{Progress, touches};
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use prost::Message as _;
use std::collections::{HashMap, HashSet};
use std::io::Write;

const SEQUENCE: u32 = 1;
const STATE_CLEARED: u32 = 1;
const NEEDS_STATE: u32 = 2;
const PROCESS_TRACK: u64 = 1;
const COUNTER_TRACK: u64 = 2;
/// Tracks of a kind begin at its number times this; lanes and thread ids fit.
const KIND: u64 = 1 << 34;
const CALLS: u64 = 1;
const UBATCHES: u64 = 2;
const GRAPHS: u64 = 3;
const LANES: u64 = 4;
const CURVES: u64 = 5;
const AROUND: u64 = 6;
const STATES: u64 = 7;

/// Writes the rows that touch `range` as a Perfetto trace; gives the sink back.
///
/// # Errors
/// When the sink cannot be written, and [`llmtrace_format::Error::Cancelled`].
pub fn perfetto<W: Write>(
    trace: &Trace,
    range: TimeRange,
    sink: W,
    progress: Progress<'_>,
) -> Result<(W, ExportReport)> {
    let mut out = Packets::new(sink);
    let mut report = ExportReport::default();
    let (around, curves) = (tracks(trace, range), curves(trace, range));
    let threads = Threads::of(trace, range);
    out.descriptors(trace, &curves, &around, &threads)?;
    calls(trace, range, &mut out, &mut report)?;
    for (index, of) in (0..).zip(&around) {
        slices(of, track(AROUND, index), &mut out)?;
        report.rows += of.slices.len() as u64;
    }
    for (index, curve) in (0..).zip(&curves) {
        for (time, value) in &curve.points {
            out.counter(*time, track(CURVES, index), *value)?;
        }
    }
    let category = out.category("state");
    report.rows += threads.each(trace, range, |number, state| {
        slice(state, track(STATES, number), category, &mut out)?;
        out.end(state.end, track(STATES, number))
    })?;
    let mut labels = Labels::new(trace);
    let mut known: Vec<Known> = Vec::new();
    // Looked up once, not once a span.
    let category = out.category("op");
    let [wait, cpu, graph_run] = ["wait_ns", "cpu", "graph_run"].map(|name| out.arg(name));
    let counters: Vec<u64> = trace.counters().iter().map(|counter| out.arg(&counter.name)).collect();
    let mut counted = Counted::new(trace);
    each_span(trace, range, &mut report, progress, |lane, span| {
        let label = labels.of(span);
        while known.len() <= label.number as usize {
            known.push(Known {
                name: out.name(&label.both),
                args: [
                    ("op", out.value(&label.op)),
                    ("type", out.value(&label.kind)),
                    ("shape", out.value(&label.shape)),
                ]
                .map(|(name, value)| (out.arg(name), value)),
            });
        }
        let Some(label) = known.get(label.number as usize) else { return Ok(()) };
        let track = track(LANES, lane);
        out.begin(span.begin, track, label.name, category);
        for (name, value) in label.args {
            out.text(name, value);
        }
        out.number(wait, span.wait);
        out.number(cpu, span.cpu.into());
        out.number(graph_run, span.graph_span.into());
        if let Some(counts) = counted.of(lane, span) {
            for (number, name) in counters.iter().enumerate() {
                if let Some(count) = counts.count(number) {
                    out.number(*name, count);
                }
            }
        }
        if span.touched_by_loss {
            let name = out.arg("touched_by_loss");
            out.number(name, 1);
        }
        out.write()?;
        out.end(span.compute_end(), track)
    })?;
    out.sink.flush()?;
    Ok((out.sink, report))
}

/// A label whose texts were sent.
struct Known {
    name: u64,
    args: [(u64, u64); 3],
}

fn track(kind: u64, number: u32) -> u64 {
    kind * KIND + u64::from(number)
}

/// Texts of one kind by id, counted from 1.
#[derive(Default)]
struct Interned {
    ids: HashMap<String, u64>,
    new: Vec<Text>,
}

impl Interned {
    fn id(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.ids.len() as u64 + 1;
        self.ids.insert(text.to_owned(), id);
        self.new.push(Text { iid: Some(id), text: Some(text.to_owned()) });
        id
    }
}

struct Packets<W> {
    sink: W,
    bytes: Vec<u8>,
    /// The packet in hand; its memory is used again.
    packet: Packet,
    event: TrackEvent,
    categories: Interned,
    names: Interned,
    args: Interned,
    values: Interned,
}

impl<W: Write> Packets<W> {
    fn new(sink: W) -> Self {
        Self {
            sink,
            bytes: Vec::with_capacity(512),
            packet: Packet::default(),
            event: TrackEvent::default(),
            categories: Interned::default(),
            names: Interned::default(),
            args: Interned::default(),
            values: Interned::default(),
        }
    }

    fn category(&mut self, text: &str) -> u64 {
        self.categories.id(text)
    }

    fn name(&mut self, text: &str) -> u64 {
        self.names.id(text)
    }

    fn arg(&mut self, text: &str) -> u64 {
        self.args.id(text)
    }

    fn value(&mut self, text: &str) -> u64 {
        self.values.id(text)
    }

    /// Begins a slice; [`Packets::write`] sends it.
    fn begin(&mut self, time: Nanos, track: u64, name: u64, category: u64) {
        self.packet.timestamp = Some(time);
        self.event.kind = Some(event::BEGIN);
        self.event.name_iid = Some(name);
        self.event.track_uuid = Some(track);
        self.event.category_iids.push(category);
    }

    fn annotate(&mut self, annotation: DebugAnnotation) {
        self.event.debug_annotations.push(annotation);
    }

    fn number(&mut self, name: u64, value: u64) {
        let uint_value = Some(value);
        self.annotate(DebugAnnotation { name_iid: Some(name), uint_value, ..DebugAnnotation::default() });
    }

    /// A number that may be below 0.
    fn signed(&mut self, name: u64, value: i64) {
        let int_value = Some(value);
        self.annotate(DebugAnnotation { name_iid: Some(name), int_value, ..DebugAnnotation::default() });
    }

    fn text(&mut self, name: u64, value: u64) {
        let string_value_iid = Some(value);
        self.annotate(DebugAnnotation {
            name_iid: Some(name),
            string_value_iid,
            ..DebugAnnotation::default()
        });
    }

    fn end(&mut self, time: Nanos, track: u64) -> Result<()> {
        self.packet.timestamp = Some(time);
        self.event.kind = Some(event::END);
        self.event.name_iid = None;
        self.event.track_uuid = Some(track);
        self.write()
    }

    fn counter(&mut self, time: Nanos, track: u64, value: f64) -> Result<()> {
        self.packet.timestamp = Some(time);
        self.event.kind = Some(event::COUNTER);
        self.event.track_uuid = Some(track);
        self.event.double_counter_value = Some(value);
        self.write()
    }

    /// Sends the event in hand, with the texts that are new.
    fn write(&mut self) -> Result<()> {
        let new = [&mut self.categories, &mut self.names, &mut self.args, &mut self.values];
        if new.iter().any(|texts| !texts.new.is_empty()) {
            let [categories, names, args, values] = new.map(|texts| std::mem::take(&mut texts.new));
            self.packet.interned_data = Some(InternedData {
                event_categories: categories,
                event_names: names,
                debug_annotation_names: args,
                debug_annotation_string_values: values,
            });
        }
        self.packet.sequence_flags = Some(NEEDS_STATE);
        self.packet.track_event = Some(std::mem::take(&mut self.event));
        self.send()?;
        // Keeps the memory of the lists.
        let mut event = self.packet.track_event.take().unwrap_or_default();
        event.category_iids.clear();
        event.debug_annotations.clear();
        event.flow_ids.clear();
        event.name_iid = None;
        event.double_counter_value = None;
        self.event = event;
        self.packet.interned_data = None;
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.packet.trusted_packet_sequence_id = Some(SEQUENCE);
        self.bytes.clear();
        // Field 1 of the file, a message.
        self.bytes.push(0x0A);
        // A vector has room for everything.
        let _ = self.packet.encode_length_delimited(&mut self.bytes);
        Ok(self.sink.write_all(&self.bytes)?)
    }

    fn descriptor(&mut self, descriptor: TrackDescriptor) -> Result<()> {
        self.packet.track_descriptor = Some(descriptor);
        self.send()?;
        self.packet.track_descriptor = None;
        self.packet.sequence_flags = None;
        Ok(())
    }

    fn descriptors(
        &mut self,
        trace: &Trace,
        curves: &[Curve],
        around: &[Track],
        threads: &Threads,
    ) -> Result<()> {
        let (name, pid) = process(trace);
        let process = ProcessDescriptor { pid: Some(pid as i32), process_name: Some(name.to_owned()) };
        self.packet.sequence_flags = Some(STATE_CLEARED);
        self.descriptor(TrackDescriptor {
            uuid: Some(PROCESS_TRACK),
            process: Some(process),
            child_ordering: Some(EXPLICIT_ORDER),
            ..TrackDescriptor::default()
        })?;
        let mut tracks = vec![(COUNTER_TRACK, "tokens/s".to_owned())];
        let calls = trace.decodes.iter().map(|row| (CALLS, row.tid));
        let ubatches = trace.ubatches.iter().map(|row| (UBATCHES, caller(trace, row.decode)));
        let graphs = trace.graph_spans.iter().map(|row| (GRAPHS, row.tid));
        let mut seen = HashSet::new();
        let mut callers: Vec<_> = calls.chain(ubatches).chain(graphs).filter(|it| seen.insert(*it)).collect();
        callers.sort_unstable();
        for (kind, tid) in callers {
            let what = match kind {
                CALLS => "decode calls",
                UBATCHES => "micro-batches",
                _ => "graph runs",
            };
            tracks.push((track(kind, tid), format!("{what} (thread id {tid})")));
        }
        tracks.extend(trace.lane_ids().into_iter().map(|lane| (track(LANES, lane), lane_name(lane))));
        tracks.extend((0..).zip(curves).map(|(index, of)| (track(CURVES, index), of.name.clone())));
        tracks.extend((0..).zip(around).map(|(index, of)| (track(AROUND, index), of.name.clone())));
        tracks.extend(threads.names().map(|(index, name)| (track(STATES, index), name)));
        for (rank, (uuid, name)) in tracks.into_iter().enumerate() {
            let unit = match uuid {
                COUNTER_TRACK => Some("tokens/s"),
                uuid if uuid / KIND == CURVES => curves.get((uuid % KIND) as usize).map(|curve| curve.unit),
                _ => None,
            };
            self.descriptor(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(name),
                parent_uuid: Some(PROCESS_TRACK),
                counter: unit.map(|unit| CounterDescriptor { unit_name: Some(unit.to_owned()) }),
                sibling_order_rank: Some(rank as i32),
                ..TrackDescriptor::default()
            })?;
        }
        Ok(())
    }
}

/// Thread that made a decode call.
fn caller(trace: &Trace, decode: u32) -> u32 {
    let first = trace.decodes.first().map_or(0, |row| row.id);
    let guess = decode.checked_sub(first).and_then(|index| trace.decodes.get(index as usize));
    guess.or_else(|| trace.decodes.first()).map_or(0, |row| row.tid)
}

fn calls<W: Write>(
    trace: &Trace,
    range: TimeRange,
    out: &mut Packets<W>,
    report: &mut ExportReport,
) -> Result<()> {
    let inside = |begin, end| touches(begin, end, range);
    for row in trace.decodes.iter().filter(|row| inside(row.begin, row.end)) {
        let name = out.name(if row.is_encode == 0 { "llama_decode" } else { "llama_encode" });
        let category = out.category("decode");
        out.begin(row.begin, track(CALLS, row.tid), name, category);
        let tokens = out.arg("tokens");
        out.number(tokens, row.tokens.into());
        out.write()?;
        out.end(row.end, track(CALLS, row.tid))?;
        report.rows += 1;
    }
    for row in trace.ubatches.iter().filter(|row| inside(row.begin, row.end)) {
        let track = track(UBATCHES, caller(trace, row.decode));
        let name = out.name(Phase::from_u8(row.phase).name());
        let category = out.category("ubatch");
        out.begin(row.begin, track, name, category);
        let tokens = out.arg("tokens");
        out.number(tokens, row.tokens.into());
        let sequences = out.arg("sequences");
        out.number(sequences, row.sequences.into());
        out.event.flow_ids.push(u64::from(row.id) + 1);
        out.write()?;
        out.end(row.end, track)?;
        report.rows += 1;
    }
    for row in trace.graph_spans.iter().filter(|row| inside(row.begin, row.end)) {
        let name = out.name("ggml_graph_compute");
        let category = out.category("graph");
        out.begin(row.begin, track(GRAPHS, row.tid), name, category);
        let graph_run = out.arg("graph_run");
        out.number(graph_run, row.id.into());
        let graph = out.arg("graph");
        out.number(graph, row.graph.into());
        let threads = out.arg("threads");
        out.number(threads, row.threads.into());
        if row.ubatch != NONE {
            out.event.flow_ids.push(u64::from(row.ubatch) + 1);
        }
        out.write()?;
        out.end(row.end, track(GRAPHS, row.tid))?;
        report.rows += 1;
    }
    for token in trace.tokens.iter().filter(|token| inside(token.range.begin, token.range.end)) {
        let seconds = token.range.nanos() as f64 / 1e9;
        if token.tokens > 0 && seconds > 0.0 {
            out.counter(token.range.begin, COUNTER_TRACK, f64::from(token.tokens) / seconds)?;
        }
    }
    Ok(())
}

/// The begin of a slice.
fn slice<W: Write>(slice: &Slice, track: u64, category: u64, out: &mut Packets<W>) -> Result<()> {
    let name = out.name(&slice.name);
    out.begin(slice.begin, track, name, category);
    for (name, value) in &slice.args {
        let name = out.arg(name);
        match value {
            Arg::Number(value) => out.signed(name, *value),
            Arg::Text(text) => {
                let value = out.value(text);
                out.text(name, value);
            }
        }
    }
    out.write()
}

/// Slices around graphs.
fn slices<W: Write>(of: &Track, track: u64, out: &mut Packets<W>) -> Result<()> {
    let category = out.category(of.category);
    // Ends are sent when the next slice begins after them: the inner ones first.
    let mut open: Vec<Nanos> = Vec::new();
    for slice in &of.slices {
        while let Some(end) = open.pop_if(|end| *end <= slice.begin) {
            out.end(end, track)?;
        }
        self::slice(slice, track, category, out)?;
        // Rows of a damaged file may cross; a slice does not end after one that holds it.
        let end = slice.end.max(slice.begin);
        open.push(open.last().map_or(end, |outer| end.min(*outer)));
    }
    while let Some(end) = open.pop() {
        out.end(end, track)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::proto::File;
    use super::*;
    use llmtrace_format::Source;

    fn export(name: &str) -> (Trace, File, ExportReport) {
        let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
        let trace = Trace::open(Source::Bytes(std::fs::read(path).unwrap()), &mut |_| true).unwrap();
        let all = TimeRange::new(0, Nanos::MAX);
        let (bytes, report) = perfetto(&trace, all, Vec::new(), &mut |_| true).unwrap();
        (trace, File::decode(&bytes[..]).unwrap(), report)
    }

    #[test]
    fn every_row_is_a_slice_with_a_name_that_was_sent_before() {
        let names = [
            "gemma3-270m-1t",
            "gemma3-270m-2t",
            "qwen3moe-synthetic-2t",
            "gemma3-270m-server-1t",
            "gemma3-270m-vulkan9-2t",
            "gemma3-270m-preempted-2t",
            "gemma3-270m-cold-1t",
            "gemma3-270m-counters-2t",
        ];
        for name in names {
            let (trace, file, report) = export(name);
            assert_eq!(report.op_spans, trace.op_span_count());
            let events: Vec<_> =
                file.packet.iter().filter_map(|packet| packet.track_event.as_ref()).collect();
            let count = |kind| events.iter().filter(|event| event.kind == Some(kind)).count() as u64;
            assert_eq!(count(event::BEGIN), report.op_spans + report.rows);
            assert_eq!(count(event::END), count(event::BEGIN));
            let on_lanes = |it: &&&TrackEvent| it.track_uuid.unwrap() / KIND == LANES;
            let op_begins = events.iter().filter(on_lanes).filter(|it| it.kind == Some(event::BEGIN));
            assert_eq!(op_begins.count() as u64, report.op_spans);
            let mut names = HashMap::new();
            let mut tracks = HashSet::new();
            for packet in &file.packet {
                tracks.extend(packet.track_descriptor.iter().filter_map(|track| track.uuid));
                for text in packet.interned_data.iter().flat_map(|data| &data.event_names) {
                    assert!(names.insert(text.iid.unwrap(), text.text.clone().unwrap()).is_none());
                }
                let Some(event) = &packet.track_event else { continue };
                assert!(tracks.contains(&event.track_uuid.unwrap()));
                assert!(event.name_iid.is_none_or(|name| names.contains_key(&name)));
            }
            assert!(names.values().any(|name| name.starts_with("MUL_MAT-")), "{names:?}");
        }
    }

    #[test]
    fn slices_around_graphs_nest_and_cells_are_counted() {
        let (trace, file, _) = export("gemma3-270m-vulkan9-2t");
        let events = |kind| {
            file.packet.iter().filter_map(move |packet| {
                let event = packet.track_event.as_ref()?;
                (event.track_uuid? / KIND == kind).then_some((packet.timestamp?, event))
            })
        };
        let mut open: HashMap<u64, (u64, u32)> = HashMap::new();
        let mut begins = 0;
        for (time, event) in events(AROUND) {
            let (last, depth) = open.entry(event.track_uuid.unwrap()).or_default();
            assert!(time >= *last, "{event:?}");
            *last = time;
            match event.kind {
                Some(event::BEGIN) => *depth += 1,
                _ => *depth = depth.checked_sub(1).unwrap(),
            }
            begins += usize::from(event.kind == Some(event::BEGIN));
        }
        assert!(open.values().all(|(_, depth)| *depth == 0), "{open:?}");
        let offload = &trace.offload;
        let rows = [offload.runs.len(), offload.splits.len(), offload.copies.len(), offload.syncs.len()];
        let machine = trace.machine.faults.len() + trace.machine.reads.len();
        assert_eq!(begins, rows.into_iter().sum::<usize>() + trace.inference.calls.len() + machine);
        let descriptors = file.packet.iter().filter_map(|packet| packet.track_descriptor.as_ref());
        let of_cells = |track: &&TrackDescriptor| {
            track.counter.as_ref().is_some_and(|counter| counter.unit_name.as_deref() == Some("cells"))
        };
        let tracks: HashSet<u64> = descriptors.filter(of_cells).filter_map(|track| track.uuid).collect();
        let cells = events(CURVES).filter(|(_, event)| tracks.contains(&event.track_uuid.unwrap()));
        let most = cells.filter_map(|(_, event)| event.double_counter_value).fold(0.0, f64::max);
        let curves = crate::inference::kv_curves(&trace);
        assert_eq!(most as u64, curves.iter().map(|curve| curve.most()).max().unwrap());
        assert!(most > 0.0);
    }

    #[test]
    fn the_first_packet_alone_clears_the_state() {
        let (_, file, _) = export("gemma3-270m-1t");
        let cleared = file.packet.iter().map(|packet| packet.sequence_flags == Some(STATE_CLEARED));
        assert_eq!(cleared.clone().filter(|cleared| *cleared).count(), 1);
        assert_eq!(cleared.clone().next(), Some(true));
        assert!(file.packet.iter().all(|packet| packet.trusted_packet_sequence_id == Some(SEQUENCE)));
    }
}
