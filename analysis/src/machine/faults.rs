//! Page faults: where they were, and in which operator.

use crate::stats::millis;
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::CallKind;
use llmtrace_format::machine::Fault;
use llmtrace_format::meta::{FileTensor, MappedFile};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Sums of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultTotals {
    /// How many.
    pub count: u64,
    /// How many had to wait for a disk, of those of which it is known.
    pub major: u64,
    /// Of how many that is not known.
    pub unknown: u64,
    /// How many system calls made, at addresses that are not known.
    pub unaddressed: u64,
    /// Nanoseconds that threads slept in them; 0 when states of threads were not recorded.
    #[serde(rename = "wait_ms", serialize_with = "millis")]
    pub wait_nanos: u64,
}

impl FaultTotals {
    /// Adds a row.
    pub fn add(&mut self, fault: &Fault) {
        let count = u64::from(fault.count);
        self.count = self.count.saturating_add(count);
        match fault.major {
            NONE => self.unknown = self.unknown.saturating_add(count),
            major => self.major = self.major.saturating_add(u64::from(major)),
        }
        self.unaddressed = self.unaddressed.saturating_add(u64::from(fault.unaddressed));
        self.wait_nanos = self.wait_nanos.saturating_add(fault.wait);
    }
}

impl FaultTotals {
    /// What came since.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            major: self.major.saturating_sub(before.major),
            unknown: self.unknown.saturating_sub(before.unknown),
            unaddressed: self.unaddressed.saturating_sub(before.unaddressed),
            wait_nanos: self.wait_nanos.saturating_sub(before.wait_nanos),
        }
    }
}

/// Faults with the same place and the same operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultGroup {
    /// Operator, or what else the thread did.
    pub during: String,
    /// Base name of the file; empty for memory that is of none.
    pub file: String,
    /// Tensor, or the first of several.
    pub tensor: String,
    /// Sums.
    #[serde(flatten)]
    pub totals: FaultTotals,
}

/// Sums of a range, or of all, by phase or of all.
pub fn fault_totals(trace: &Trace, range: Option<TimeRange>, phase: Option<Phase>) -> FaultTotals {
    let mut totals = FaultTotals::default();
    wanted(trace, range, phase).for_each(|fault| totals.add(fault));
    totals
}

fn wanted(trace: &Trace, range: Option<TimeRange>, phase: Option<Phase>) -> impl Iterator<Item = &Fault> {
    trace.machine.faults.iter().filter(move |fault| {
        range.is_none_or(|range| range.contains(fault.begin))
            && phase.is_none_or(|phase| trace.token_at(fault.begin).is_some_and(|token| token.phase == phase))
    })
}

/// Groups, the longest wait first, then the most faults.
pub fn fault_groups(trace: &Trace, range: Option<TimeRange>, phase: Option<Phase>) -> Vec<FaultGroup> {
    let during = During::new(trace);
    let mut groups: BTreeMap<(String, String, String), FaultTotals> = BTreeMap::new();
    for fault in wanted(trace, range, phase) {
        let (file, tensor) = place_of(trace, fault);
        groups.entry((during.of(fault), file, tensor)).or_default().add(fault);
    }
    let group = |((during, file, tensor), totals)| FaultGroup { during, file, tensor, totals };
    let mut groups: Vec<FaultGroup> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|group| {
        let totals = &group.totals;
        std::cmp::Reverse((totals.wait_nanos, totals.major, totals.count))
    });
    groups
}

/// Tells in what threads entered faults.
pub(crate) struct During<'a> {
    trace: &'a Trace,
    /// Lanes by process and kernel thread.
    lanes: HashMap<(u32, u32), Vec<u32>>,
}

impl<'a> During<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let lanes = trace.lanes_of_threads();
        Self { trace, lanes }
    }

    /// The operator in which a thread entered a fault, or the call.
    pub(crate) fn of(&self, fault: &Fault) -> String {
        let trace = self.trace;
        let at = TimeRange::new(fault.begin, fault.begin.saturating_add(1));
        let lanes = self.lanes.get(&(fault.process, fault.tid)).map_or(&[][..], Vec::as_slice);
        for &lane in lanes {
            let mut found = None;
            trace.each_span(lane, at, |_, span| {
                let is_it = span.begin <= fault.begin
                    && fault.begin < span.end()
                    && trace.thread_of(span).is_some_and(|thread| thread.tid == fault.tid);
                if is_it {
                    found = trace.node_of(span).map(|(_, tensor)| trace.file.string(tensor.op).to_owned());
                }
                found.is_none()
            });
            if let Some(op) = found {
                return op;
            }
        }
        call_at(trace, fault.tid, fault.begin).unwrap_or_else(|| "outside of operators".to_owned())
    }
}

/// The shortest call of a thread at a time.
fn call_at(trace: &Trace, tid: u32, time: Nanos) -> Option<String> {
    let calls = trace.inference.calls.iter();
    let inside = calls.filter(|call| call.tid == tid && call.begin <= time && time < call.end);
    let call = inside.min_by_key(|call| call.end - call.begin)?;
    Some(CallKind::from_u8(call.kind).name().to_owned())
}

/// The file and the tensor, or the first of several, in which a fault was; empty where there is
/// none. `unknown` when nobody knows.
pub fn place_of(trace: &Trace, fault: &Fault) -> (String, String) {
    if fault.known == 0 {
        let what = if fault.unaddressed == fault.count { "by system calls" } else { "unknown" };
        return (what.to_owned(), String::new());
    }
    let Some(file) = file_of(trace, fault) else { return ("no file".to_owned(), String::new()) };
    let name = if file.name.is_empty() { "unknown file".to_owned() } else { file.name.clone() };
    let tensors = tensors_of(trace, fault);
    let tensor = match tensors {
        [] => String::new(),
        [only] => only.name.clone(),
        [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
    };
    (name, tensor)
}

fn file_of<'a>(trace: &'a Trace, fault: &Fault) -> Option<&'a MappedFile> {
    trace.file.recording.as_ref()?.files.get(fault.file as usize)
}

/// The tensors that lie where a fault was.
pub fn tensors_of<'a>(trace: &'a Trace, fault: &Fault) -> &'a [FileTensor] {
    let Some(file) = file_of(trace, fault) else { return &[] };
    let end = fault.offset.saturating_add(fault.bytes);
    let from =
        file.tensors.partition_point(|tensor| tensor.offset.saturating_add(tensor.bytes) <= fault.offset);
    let to = file.tensors.partition_point(|tensor| tensor.offset < end);
    file.tensors.get(from..to.max(from)).unwrap_or_default()
}
