//! What goes on around graphs, as `summary` prints it.

use super::{
    AttentionRow, CallSummary, SpeculationSummary, attention, call_summaries, speculation, unknown_tokens,
};
use crate::Trace;
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::KvOperation;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything; what was not recorded is empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InferenceReport {
    /// Requests by begin.
    pub requests: Vec<RequestReport>,
    /// Tokens whose sequence is not known; `None` when sequences were not recorded.
    pub tokens_of_unknown_sequence: Option<u64>,
    /// KV caches by context.
    pub kv: Vec<KvReport>,
    /// Decode graphs by the length of their attention.
    pub attention: Vec<AttentionRow>,
    /// Calls by kind.
    pub calls: Vec<CallSummary>,
    /// Speculative decoding; `None` when there was none, or it was not recorded.
    pub speculation: Option<SpeculationSummary>,
    /// Estimated milliseconds that probes of calls, KV operations and drafts took; `None` when
    /// the price of a hit was not measured.
    pub around_probes_ms: Option<f64>,
    /// Whether the file has ids of tokens, from which prompts and answers can be read.
    pub has_tokens: bool,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestReport {
    /// Index into the processes.
    pub process: u32,
    /// Which context; `None` when unknown.
    pub context: Option<u32>,
    /// The sequence; for a server the number of its slot.
    pub sequence: u32,
    /// Whether its context drafts for another one.
    pub draft: bool,
    /// Seconds from the start of the recording to its first micro-batch.
    pub begin_s: f64,
    /// Seconds to the end of its last one.
    pub end_s: f64,
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Tokens in front of them that were there already.
    pub reused_tokens: u32,
    /// Tokens of output; `None` when that is not certain.
    pub generated_tokens: Option<u32>,
    /// Time to first token; `None` when the recording does not have its beginning.
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first.
    pub tpot_ms: Option<f64>,
    /// Micro-batches that computed it.
    pub ubatches: u32,
    /// Of these, those that computed other sequences, too.
    pub shared_ubatches: u32,
    /// Calls that failed.
    pub failed: u32,
    /// Whether the recording has its beginning.
    pub whole: bool,
}

/// The KV cache of a context.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KvReport {
    /// Index into the processes.
    pub process: u32,
    /// Which context; `None` when unknown.
    pub context: Option<u32>,
    /// Most cells in use at a time.
    pub most_cells: u64,
    /// Cells in use at the end.
    pub cells_at_end: u64,
    /// Whether its whole history was seen; else there may be more.
    pub whole: bool,
    /// How often each operation was asked for.
    pub operations: BTreeMap<&'static str, u64>,
}

/// Sums up what goes on around graphs.
pub fn report(trace: &Trace) -> InferenceReport {
    let around = trace.around();
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let context = |context: u32| Some(context).filter(|context| *context != NONE);
    let requests = around.requests.iter().map(|request| RequestReport {
        process: request.key.process,
        context: context(request.key.context),
        sequence: request.key.sequence,
        draft: around.drafts.contains(&request.key.context),
        begin_s: request.begin as f64 / 1e9,
        end_s: request.end as f64 / 1e9,
        prompt_tokens: request.prompt_tokens,
        reused_tokens: request.reused_tokens,
        generated_tokens: request.generated_tokens,
        ttft_ms: request.ttft_nanos().map(millis),
        tpot_ms: request.tpot_nanos().map(millis),
        ubatches: request.ubatches,
        shared_ubatches: request.shared_ubatches,
        failed: request.failed,
        whole: request.whole,
    });
    let kv = around.kv.iter().map(|curve| {
        let mut operations = BTreeMap::new();
        let of_it = |row: &&llmtrace_format::inference::KvOperationRow| {
            (row.process, row.context) == (curve.process, curve.context)
        };
        for row in trace.inference.kv.iter().filter(of_it) {
            *operations.entry(KvOperation::from_u8(row.operation).name()).or_default() += 1;
        }
        KvReport {
            process: curve.process,
            context: context(curve.context),
            most_cells: curve.most(),
            cells_at_end: curve.points.last().map_or(0, |point| point.cells),
            whole: curve.whole,
            operations,
        }
    });
    InferenceReport {
        requests: requests.collect(),
        tokens_of_unknown_sequence: unknown_tokens(trace),
        kv: kv.collect(),
        attention: attention(trace),
        calls: call_summaries(trace, None),
        speculation: speculation(trace, None),
        around_probes_ms: crate::price::around_nanos(trace).map(millis),
        has_tokens: !trace.inference.tokens.is_empty(),
    }
}
