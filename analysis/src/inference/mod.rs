//! What goes on around graphs: requests on sequences, the KV cache, calls.
//!
//! ```text
//! sequence runs ─► steps ─► requests   (when each began, its first output, its pace)
//! steps, KV operations ─► kv           (cells in use over time, by replaying)
//! calls, speculation ─► around         (sampling, loading; drafts and what came of them)
//! graphs ─► attention                  (how long attention took by its length)
//! ```
//!
//! Nothing is guessed: what a recording does not tell is `None`.

mod around;
mod attention;
mod kv;
mod report;
mod requests;
#[cfg(test)]
mod tests;

pub use around::{CallSummary, SpeculationSummary, call_summaries, speculation};
pub use attention::{AttentionRow, attention};
pub use kv::{KvCurve, KvPoint, kv_curves};
pub use report::{InferenceReport, KvReport, RequestReport, report};
pub use requests::{Request, requests};

use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::constants::{NONE, kind};
use llmtrace_format::inference::{
    Call, CallKind, InferenceRow, KvOperationRow, SequenceRun, Speculation, TokenRow, read_rows,
};
use llmtrace_format::{TraceFile, Warning};
use std::collections::HashMap;

/// Rows of the tables, each in order of time.
#[derive(Debug, Default)]
pub struct Inference {
    /// Which sequences each micro-batch has.
    pub sequences: Vec<SequenceRun>,
    /// Operations on KV caches.
    pub kv: Vec<KvOperationRow>,
    /// Calls, by begin.
    pub calls: Vec<Call>,
    /// Rounds of speculative decoding.
    pub speculations: Vec<Speculation>,
    /// Ids of tokens: private. Empty unless they were asked for.
    pub tokens: Vec<TokenRow>,
}

impl Inference {
    /// Reads the tables; what cannot be read is left out and reported.
    pub(crate) fn read(file: &TraceFile, warnings: &mut Vec<Warning>) -> Self {
        let mut all = Self::default();
        for info in
            file.blocks.iter().filter(|info| (kind::SEQUENCE_RUNS..=kind::TOKENS).contains(&info.kind))
        {
            let what = llmtrace_format::inference::table_name(info.kind).unwrap_or_default();
            match read_rows(file, info) {
                Some(Ok(rows)) => rows.into_iter().for_each(|row| all.push(row)),
                Some(Err(_)) => warnings.push(Warning::Unreadable { what, offset: info.offset }),
                None => {}
            }
        }
        all.sequences.sort_by_key(|row| row.time);
        all.kv.sort_by_key(|row| row.time);
        all.calls.sort_by_key(|row| row.begin);
        all.speculations.sort_by_key(|row| row.time);
        all.tokens.sort_by_key(|row| row.time);
        all
    }

    fn push(&mut self, row: InferenceRow) {
        match row {
            InferenceRow::Sequence(row) => self.sequences.push(row),
            InferenceRow::Kv(row) => self.kv.push(row),
            InferenceRow::Call(row) => self.calls.push(row),
            InferenceRow::Speculation(row) => self.speculations.push(row),
            InferenceRow::Token(row) => self.tokens.push(row),
        }
    }
}

/// A sequence of a context of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct SequenceKey {
    /// Index into [`llmtrace_format::meta::Recording::processes`].
    pub process: u32,
    /// As in [`llmtrace_format::tables::Decode`]; [`NONE`] when unknown.
    pub context: u32,
    /// The sequence's id; for a server the number of its slot.
    pub sequence: u32,
}

/// What follows from the rows, found once.
#[derive(Debug, Default)]
pub struct Around {
    /// The steps of each sequence.
    pub sequences: Vec<(SequenceKey, Vec<Step>)>,
    /// Requests by begin.
    pub requests: Vec<Request>,
    /// KV caches by context.
    pub kv: Vec<KvCurve>,
    /// Contexts that draft for others.
    pub drafts: Vec<u32>,
}

impl Trace {
    /// What goes on around graphs; found when it is first asked for.
    pub fn around(&self) -> &Around {
        self.around.get_or_init(|| Around {
            sequences: steps(self),
            requests: requests(self),
            kv: kv_curves(self),
            drafts: draft_contexts(self),
        })
    }
}

impl Around {
    /// The request that a sequence works on at a time.
    pub fn request_at(&self, key: SequenceKey, time: Nanos) -> Option<&Request> {
        let after = self.requests.partition_point(|request| request.begin <= time);
        let before = self.requests.get(..after).unwrap_or_default();
        before.iter().rev().find(|request| request.key == key).filter(|request| time <= request.end)
    }
}

/// What one micro-batch does for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The micro-batch.
    pub ubatch: u32,
    /// Its entry and return.
    pub range: TimeRange,
    /// Entry and return of the decode call: only then can outputs be read.
    pub call: TimeRange,
    /// The decode call; [`NONE`] when unknown.
    pub decode: u32,
    /// First position.
    pub position: u32,
    /// Last position.
    pub last: u32,
    /// Tokens of the sequence in it.
    pub tokens: u32,
    /// How many have an output; `None` when the build does not tell.
    pub outputs: Option<u32>,
    /// Whether the call failed.
    pub failed: bool,
}

/// The steps of each sequence, in order of time, without those of encoders.
pub fn steps(trace: &Trace) -> Vec<(SequenceKey, Vec<Step>)> {
    let decodes: HashMap<u32, _> = trace.decodes.iter().map(|row| (row.id, row)).collect();
    let ubatches: HashMap<u32, _> = trace.ubatches.iter().map(|row| (row.id, row)).collect();
    let mut steps: HashMap<SequenceKey, Vec<Step>> = HashMap::new();
    for run in &trace.inference.sequences {
        let Some(ubatch) = ubatches.get(&run.ubatch) else { continue };
        let decode = decodes.get(&ubatch.decode);
        if run.sequence == NONE || decode.is_some_and(|decode| decode.is_encode != 0) {
            continue;
        }
        let range = TimeRange::new(ubatch.begin, ubatch.end);
        let key = SequenceKey {
            process: decode.map_or(0, |decode| decode.process),
            context: decode.map_or(NONE, |decode| decode.context),
            sequence: run.sequence,
        };
        let last = run.position.saturating_add(run.tokens.saturating_sub(1));
        let outputs = Some(run.outputs).filter(|outputs| *outputs != NONE);
        let of_it = steps.entry(key).or_default();
        if let Some(step) = of_it.last_mut().filter(|step| step.ubatch == run.ubatch) {
            step.last = step.last.max(last);
            step.position = step.position.min(run.position);
            step.tokens = step.tokens.saturating_add(run.tokens);
            step.outputs = step.outputs.zip(outputs).map(|(a, b)| a.saturating_add(b));
            continue;
        }
        of_it.push(Step {
            ubatch: run.ubatch,
            range,
            call: decode.map_or(range, |decode| TimeRange::new(decode.begin, decode.end)),
            decode: ubatch.decode,
            position: run.position,
            last,
            tokens: run.tokens,
            outputs,
            failed: decode.is_some_and(|decode| decode.result != 0),
        });
    }
    let mut steps: Vec<_> = steps.into_iter().collect();
    steps.sort_by_key(|(key, _)| *key);
    steps
}

/// Tokens of micro-batches of which the sequences are not known: of a layout that the
/// recorder does not know, or lost. `None` when sequences were not recorded at all.
pub fn unknown_tokens(trace: &Trace) -> Option<u64> {
    let mut known: HashMap<u32, u64> = HashMap::new();
    for run in trace.inference.sequences.iter().filter(|run| run.sequence != NONE) {
        *known.entry(run.ubatch).or_default() += u64::from(run.tokens);
    }
    let recorded = is_recorded(trace, "sequences") || !trace.inference.sequences.is_empty();
    let missing = |row: &llmtrace_format::tables::Ubatch| {
        u64::from(row.tokens).saturating_sub(known.get(&row.id).copied().unwrap_or(0))
    };
    recorded.then(|| trace.ubatches.iter().map(missing).sum())
}

/// Whether a source was recorded, by its name in [`llmtrace_format::meta::Recording::sources`].
pub fn is_recorded(trace: &Trace, name: &str) -> bool {
    let sources = trace.file.recording.iter().flat_map(|recording| &recording.sources);
    sources.into_iter().any(|source| source.name == name && source.recorded)
}

/// Contexts that draft for another one: they compute inside calls that draft.
pub fn draft_contexts(trace: &Trace) -> Vec<u32> {
    let mut calls: HashMap<u32, Vec<TimeRange>> = HashMap::new();
    for call in trace.inference.calls.iter().filter(|call| call.kind == CallKind::Draft as u8) {
        calls.entry(call.tid).or_default().push(TimeRange::new(call.begin, call.end));
    }
    let within = |tid: u32, time: Nanos| {
        let calls = calls.get(&tid).map_or(&[][..], Vec::as_slice);
        let after = calls.partition_point(|range| range.begin <= time);
        after.checked_sub(1).and_then(|at| calls.get(at)).is_some_and(|range| range.contains(time))
    };
    let drafting = trace.decodes.iter().filter(|row| row.context != NONE && within(row.tid, row.begin));
    let mut contexts: Vec<u32> = drafting.map(|row| row.context).collect();
    contexts.sort_unstable();
    contexts.dedup();
    contexts
}
