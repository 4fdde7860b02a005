//! Chrome's trace event format: one JSON object with a list of events.
//!
//! Calls, micro-batches and graph runs nest on one track for each calling
//! thread; op spans have one track a lane, what goes on around graphs those of
//! [`super::slices`]. `ts` and `dur` are microseconds with
//! three decimals, so nanoseconds stay exact. Written by hand: a JSON library
//! would cost half of the speed, and only strings need care.

use super::counted::Counted;
use super::curves::{Curve, curves};
use super::labels::{Label, Labels};
use super::slices::{Arg, Slice, Track, tracks};
use super::states::Threads;
use super::{ExportReport, each_span, lane_name, process};
use crate::cut::{Progress, touches};
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::counters::OpCounter;
use llmtrace_format::{OpSpan, Result};
use std::io::Write;

/// Track of lane 0; the calls' tracks come after all lanes.
const FIRST_LANE: u64 = 1;
const FIRST_CALLER: u64 = 1 << 33;
const FIRST_AROUND: u64 = 1 << 34;
const FIRST_STATES: u64 = 1 << 35;

/// Writes the rows that touch `range` as Chrome trace JSON; gives the sink back.
///
/// # Errors
/// When the sink cannot be written, and [`llmtrace_format::Error::Cancelled`].
pub fn chrome<W: Write>(
    trace: &Trace,
    range: TimeRange,
    sink: W,
    progress: Progress<'_>,
) -> Result<(W, ExportReport)> {
    let mut out = Events { sink, line: Vec::with_capacity(512), pid: process(trace).1, first: true };
    let mut report = ExportReport::default();
    out.sink
        .write_all(b"{\"displayTimeUnit\":\"ns\",\"otherData\":{\"tool\":\"llmtrace\"},\"traceEvents\":[")?;
    metadata(trace, &mut out)?;
    calls(trace, range, &mut out, &mut report)?;
    let after = callers(trace).len() as u64 + trace.lane_ids().last().map_or(0, |lane| u64::from(*lane) + 1);
    let tracks = tracks(trace, range);
    for (index, track) in (0..).zip(&tracks) {
        around(track, FIRST_AROUND + index, after + index, &mut out)?;
        report.rows += track.slices.len() as u64;
    }
    let after = after + tracks.len() as u64;
    let threads = Threads::of(trace, range);
    for (index, name) in threads.names() {
        let index = u64::from(index);
        out.name("thread_name", FIRST_STATES + index, &name, after + index)?;
    }
    report.rows += threads.each(trace, range, |number, state| {
        slice(state, "state", FIRST_STATES + u64::from(number), &mut out)
    })?;
    counters(&curves(trace, range), &mut out)?;
    let names: Vec<Vec<u8>> = trace.counters().iter().map(|counter| escaped(&counter.name)).collect();
    let mut counted = Counted::new(trace);
    let mut labels = Labels::new(trace);
    // Text of each label, escaped once.
    let mut texts: Vec<Texts> = Vec::new();
    each_span(trace, range, &mut report, progress, |lane, span| {
        let label = labels.of(span);
        while texts.len() <= label.number as usize {
            texts.push(Texts::new(label));
        }
        let Some(text) = texts.get(label.number as usize) else { return Ok(()) };
        out.span(lane, span, text, &names, counted.of(lane, span))
    })?;
    out.sink.write_all(b"\n]}\n")?;
    out.sink.flush()?;
    Ok((out.sink, report))
}

/// The parts of an event that its label gives.
struct Texts {
    /// `"name":…,"cat":"op"`
    head: Vec<u8>,
    /// `"type":…,"shape":…,"layer":…`
    args: Vec<u8>,
}

impl Texts {
    fn new(label: &Label) -> Self {
        let (mut head, mut args) = (b"\"name\":".to_vec(), b"\"op\":".to_vec());
        string(&label.both, &mut head);
        head.extend_from_slice(b",\"cat\":\"op\"");
        string(&label.op, &mut args);
        args.extend_from_slice(b",\"tensor\":");
        string(&label.name, &mut args);
        args.extend_from_slice(b",\"type\":");
        string(&label.kind, &mut args);
        args.extend_from_slice(b",\"shape\":");
        string(&label.shape, &mut args);
        if let Some(layer) = label.layer {
            args.extend_from_slice(b",\"layer\":");
            number(layer.into(), &mut args);
        }
        Self { head, args }
    }
}

struct Events<W> {
    sink: W,
    line: Vec<u8>,
    pid: u32,
    first: bool,
}

impl<W: Write> Events<W> {
    fn begin(&mut self, head: &[u8], kind: u8, track: u64) {
        self.line.clear();
        self.line.extend_from_slice(if self.first { b"\n{" } else { b",\n{" });
        self.first = false;
        self.line.extend_from_slice(head);
        self.line.extend_from_slice(b",\"ph\":\"");
        self.line.push(kind);
        self.line.extend_from_slice(b"\",\"pid\":");
        number(self.pid.into(), &mut self.line);
        self.line.extend_from_slice(b",\"tid\":");
        number(track, &mut self.line);
    }

    fn times(&mut self, begin: Nanos, nanos: u64) {
        self.line.extend_from_slice(b",\"ts\":");
        micros(begin, &mut self.line);
        self.line.extend_from_slice(b",\"dur\":");
        micros(nanos, &mut self.line);
        self.line.extend_from_slice(b",\"args\":{");
    }

    fn args(&mut self, numbers: &[(&str, u64)]) {
        for (index, (name, value)) in numbers.iter().enumerate() {
            self.line.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            self.line.extend_from_slice(name.as_bytes());
            self.line.extend_from_slice(b"\":");
            number(*value, &mut self.line);
        }
    }

    fn end(&mut self) -> Result<()> {
        self.line.extend_from_slice(b"}}");
        Ok(self.sink.write_all(&self.line)?)
    }

    /// `names` are those of the counters, escaped.
    fn span(
        &mut self,
        lane: u32,
        span: &OpSpan,
        text: &Texts,
        names: &[Vec<u8>],
        counts: Option<OpCounter>,
    ) -> Result<()> {
        self.begin(&text.head, b'X', FIRST_LANE + u64::from(lane));
        self.times(span.begin, span.compute);
        self.line.extend_from_slice(&text.args);
        self.line.extend_from_slice(b",\"wait_us\":");
        micros(span.wait, &mut self.line);
        let numbers = [("cpu", span.cpu.into()), ("graph_run", span.graph_span.into())];
        self.line.push(b',');
        self.args(&numbers);
        for (index, name) in names.iter().enumerate() {
            if let Some(count) = counts.and_then(|counts| counts.count(index)) {
                self.line.push(b',');
                self.line.extend_from_slice(name);
                self.line.push(b':');
                number(count, &mut self.line);
            }
        }
        if span.touched_by_loss {
            self.line.extend_from_slice(b",\"touched_by_loss\":true");
        }
        self.end()
    }

    fn name(&mut self, what: &str, track: u64, name: &str, order: u64) -> Result<()> {
        self.begin(format!("\"name\":\"{what}\"").as_bytes(), b'M', track);
        self.line.extend_from_slice(b",\"args\":{\"name\":");
        string(name, &mut self.line);
        self.end()?;
        if what == "thread_name" {
            self.begin(b"\"name\":\"thread_sort_index\"", b'M', track);
            self.line.extend_from_slice(b",\"args\":{");
            self.args(&[("sort_index", order)]);
            self.end()?;
        }
        Ok(())
    }
}

/// The threads that call, in order of their ids.
fn callers(trace: &Trace) -> Vec<u32> {
    let decodes = trace.decodes.iter().map(|row| row.tid);
    let mut tids: Vec<u32> = decodes.chain(trace.graph_spans.iter().map(|row| row.tid)).collect();
    tids.sort_unstable();
    tids.dedup();
    tids
}

fn metadata<W: Write>(trace: &Trace, out: &mut Events<W>) -> Result<()> {
    out.name("process_name", 0, process(trace).0, 0)?;
    let callers = callers(trace);
    for (order, tid) in callers.iter().enumerate() {
        let track = FIRST_CALLER + u64::from(*tid);
        out.name("thread_name", track, &format!("calls (thread id {tid})"), order as u64)?;
    }
    for lane in trace.lane_ids() {
        let order = callers.len() as u64 + u64::from(lane);
        out.name("thread_name", FIRST_LANE + u64::from(lane), &lane_name(lane), order)?;
    }
    Ok(())
}

fn calls<W: Write>(
    trace: &Trace,
    range: TimeRange,
    out: &mut Events<W>,
    report: &mut ExportReport,
) -> Result<()> {
    let inside = |begin, end| touches(begin, end, range);
    let track = |tid: u32| FIRST_CALLER + u64::from(tid);
    for row in trace.decodes.iter().filter(|row| inside(row.begin, row.end)) {
        let name: &[u8] =
            if row.is_encode == 0 { b"\"name\":\"llama_decode\"" } else { b"\"name\":\"llama_encode\"" };
        out.begin(&[name, b",\"cat\":\"decode\""].concat(), b'X', track(row.tid));
        out.times(row.begin, row.end.saturating_sub(row.begin));
        out.args(&[("tokens", row.tokens.into()), ("result", row.result.into())]);
        out.end()?;
        report.rows += 1;
    }
    let tid_of = |decode: u32| {
        let guess = trace.decodes.get(decode as usize).filter(|row| row.id == decode);
        guess.or_else(|| trace.decodes.first()).map_or(0, |row| row.tid)
    };
    for row in trace.ubatches.iter().filter(|row| inside(row.begin, row.end)) {
        out.begin(b"\"name\":\"process_ubatch\",\"cat\":\"ubatch\"", b'X', track(tid_of(row.decode)));
        out.times(row.begin, row.end.saturating_sub(row.begin));
        out.args(&[("tokens", row.tokens.into()), ("sequences", row.sequences.into())]);
        let phase = Phase::from_u8(row.phase).name();
        out.line.extend_from_slice(format!(",\"phase\":\"{phase}\"").as_bytes());
        out.end()?;
        report.rows += 1;
    }
    for row in trace.graph_spans.iter().filter(|row| inside(row.begin, row.end)) {
        out.begin(b"\"name\":\"ggml_graph_compute\",\"cat\":\"graph\"", b'X', track(row.tid));
        out.times(row.begin, row.end.saturating_sub(row.begin));
        let graph =
            [("graph_run", row.id.into()), ("graph", row.graph.into()), ("threads", row.threads.into())];
        out.args(&graph);
        out.end()?;
        report.rows += 1;
    }
    Ok(())
}

/// Slices around graphs; `order` is the track's place.
fn around<W: Write>(track: &Track, id: u64, order: u64, out: &mut Events<W>) -> Result<()> {
    out.name("thread_name", id, &track.name, order)?;
    for of in &track.slices {
        slice(of, track.category, id, out)?;
    }
    Ok(())
}

fn slice<W: Write>(slice: &Slice, category: &str, track: u64, out: &mut Events<W>) -> Result<()> {
    let mut head = b"\"name\":".to_vec();
    string(&slice.name, &mut head);
    head.extend_from_slice(format!(",\"cat\":\"{category}\"").as_bytes());
    out.begin(&head, b'X', track);
    out.times(slice.begin, slice.end.saturating_sub(slice.begin));
    for (index, (name, value)) in slice.args.iter().enumerate() {
        out.line.extend_from_slice(if index == 0 { b"" } else { b"," });
        string(name, &mut out.line);
        out.line.push(b':');
        match value {
            Arg::Number(value) => out.line.extend_from_slice(value.to_string().as_bytes()),
            Arg::Text(text) => string(text, &mut out.line),
        }
    }
    out.end()
}

/// Counters belong to the process; their names tell them apart.
fn counters<W: Write>(curves: &[Curve], out: &mut Events<W>) -> Result<()> {
    for curve in curves {
        let mut head = b"\"name\":".to_vec();
        string(&curve.name, &mut head);
        for (time, value) in &curve.points {
            out.begin(&head, b'C', 0);
            out.line.extend_from_slice(b",\"ts\":");
            micros(*time, &mut out.line);
            out.line.extend_from_slice(b",\"args\":{\"");
            out.line.extend_from_slice(curve.unit.as_bytes());
            // The shortest text that is read as the same number.
            out.line.extend_from_slice(format!("\":{value}").as_bytes());
            out.end()?;
        }
    }
    Ok(())
}

/// A string in JSON, by itself.
fn escaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    string(text, &mut out);
    out
}

/// A number in decimal.
fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Nanoseconds as microseconds with three decimals.
fn micros(nanos: u64, out: &mut Vec<u8>) {
    number(nanos / 1000, out);
    let rest = nanos % 1000;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// A string in JSON.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            c if (c as u32) < 0x20 => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
