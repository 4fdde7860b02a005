//! Functions around graphs: the KV cache, sampling, tokenising, loading, drafts.
//!
//! All are hit a few times a token at most. Ends are seen through return probes, which
//! an exception must not pass. Of functions that may throw (sampling does where a grammar
//! is violated), the instructions that return are probed instead.

use super::{Function, Program, cookie, function};
use crate::binary::Arg;
use llmtrace_format::inference::{CallKind, KvOperation};
use llmtrace_format::meta::{Level, Source};

/// What may be recorded beside decode calls, micro-batches and graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Which sequences each micro-batch has.
    pub(crate) sequences: bool,
    /// Operations on the KV cache.
    pub(crate) kv: bool,
    /// Sampling, tokenising, loading, drafts.
    pub(crate) calls: bool,
    /// Ids of tokens, from which what was said can be read.
    pub(crate) tokens: bool,
}

impl Sources {
    /// All that tells nothing of what was said.
    pub(crate) const DEFAULT: Self = Self { sequences: true, kv: true, calls: true, tokens: false };

    /// Whether hits of a program are wanted.
    pub(super) fn wants(self, program: Program) -> bool {
        match program {
            Program::KvOperation => self.kv,
            Program::CallBegin | Program::CallEnd | Program::CallReturns | Program::DraftAccepted => {
                self.calls
            }
            _ => true,
        }
    }

    /// Whether the kernel side has to look into micro-batches.
    pub(crate) fn ubatches(self) -> bool {
        self.sequences || self.tokens
    }

    /// What of it is recorded, as the attached programs give it. `loops`: whether the
    /// kernel side can look into micro-batches.
    pub(in crate::record) fn described(self, programs: &[Program], loops: bool) -> Vec<Source> {
        let source = |name: &str, asked: bool, needs: Program, loops: bool| {
            let reason = match (asked, programs.contains(&needs), loops) {
                (false, ..) => "not asked for",
                (_, false, _) => "the target has no such functions",
                (.., false) => "this kernel has no loops in BPF programs, which came with Linux 5.17",
                _ => "",
            };
            Source { name: name.to_owned(), recorded: reason.is_empty(), reason: reason.to_owned() }
        };
        vec![
            source("sequences", self.sequences, Program::UbatchBegin, loops),
            source("KV cache", self.kv, Program::KvOperation, true),
            source("calls", self.calls, Program::CallBegin, true),
            source("speculation", self.calls, Program::DraftAccepted, true),
            source("tokens", self.tokens, Program::UbatchBegin, loops),
        ]
    }
}

const fn kv(symbol: &'static str, operation: KvOperation) -> Function {
    const ALL: &[Arg] = &[Arg::Rdi, Arg::Rsi, Arg::Rdx, Arg::Rcx, Arg::R8];
    let probe = function(symbol, Level::Token, Program::KvOperation, ALL);
    Function { cookie: cookie::kind(operation as u8), ..probe }
}

/// Since 2025-06: on the memory of a context.
const KV_MEMORY: &[Function] = &[
    kv("llama_memory_seq_rm", KvOperation::Remove),
    kv("llama_memory_seq_cp", KvOperation::Copy),
    kv("llama_memory_seq_keep", KvOperation::Keep),
    kv("llama_memory_seq_add", KvOperation::Add),
    kv("llama_memory_seq_div", KvOperation::Divide),
    kv("llama_memory_clear", KvOperation::Clear),
];

/// Since 2025-03: on a context. Later these call those above.
const KV_SELF: &[Function] = &[
    kv("llama_kv_self_seq_rm", KvOperation::Remove),
    kv("llama_kv_self_seq_cp", KvOperation::Copy),
    kv("llama_kv_self_seq_keep", KvOperation::Keep),
    kv("llama_kv_self_seq_add", KvOperation::Add),
    kv("llama_kv_self_seq_div", KvOperation::Divide),
    kv("llama_kv_self_clear", KvOperation::Clear),
];

/// Before that.
const KV_CACHE: &[Function] = &[
    kv("llama_kv_cache_seq_rm", KvOperation::Remove),
    kv("llama_kv_cache_seq_cp", KvOperation::Copy),
    kv("llama_kv_cache_seq_keep", KvOperation::Keep),
    kv("llama_kv_cache_seq_add", KvOperation::Add),
    kv("llama_kv_cache_seq_div", KvOperation::Divide),
    kv("llama_kv_cache_clear", KvOperation::Clear),
];

const fn call(symbol: &'static str, kind: CallKind, args: &'static [Arg]) -> Function {
    let begin = function(symbol, Level::Token, Program::CallBegin, args);
    Function { end: Some(Program::CallEnd), cookie: cookie::kind(kind as u8), ..begin }
}

/// A call out of which an exception may come.
const fn throwing(symbol: &'static str, kind: CallKind, args: &'static [Arg]) -> Function {
    Function { end: Some(Program::CallReturns), ..call(symbol, kind, args) }
}

/// The state of one sequence, which is the fourth argument.
const fn sequence_state(symbol: &'static str, kind: CallKind) -> Function {
    let state = call(symbol, kind, &[Arg::Rdi, Arg::Rcx]);
    Function { cookie: state.cookie | cookie::SEQUENCE, ..state }
}

const FIRST: &[Arg] = &[Arg::Rdi];
const TOKENIZE: &[Arg] = &[Arg::Rdi, Arg::Rdx];
const SAMPLE: &[Arg] = &[Arg::Rsi, Arg::Rdx];

/// Where one of these calls another one of its kind, the outer one counts.
const CALLS: &[Function] = &[
    throwing("llama_sampler_sample", CallKind::Sample, SAMPLE),
    Function {
        prefix: true,
        ..throwing("_Z21common_sampler_sampleP14common_samplerP13llama_context", CallKind::Sample, SAMPLE)
    },
    throwing("llama_tokenize", CallKind::Tokenize, TOKENIZE),
    // Where that is but a jump, to one of these: GCC leaves a call across a library's own border so.
    throwing("_ZNK11llama_vocab8tokenizeEPKciPiibb", CallKind::Tokenize, TOKENIZE),
    throwing("_Z19llama_tokenize_implRK11llama_vocabPKciPiibb", CallKind::Tokenize, TOKENIZE),
    call("llama_model_load_from_file", CallKind::LoadModel, FIRST),
    call("llama_model_load_from_file_ptr", CallKind::LoadModel, FIRST),
    call("llama_model_load_from_splits", CallKind::LoadModel, FIRST),
    call("llama_load_model_from_file", CallKind::LoadModel, FIRST),
    call("llama_init_from_model", CallKind::NewContext, FIRST),
    call("llama_new_context_with_model", CallKind::NewContext, FIRST),
    call("llama_free", CallKind::FreeContext, FIRST),
    call("llama_model_free", CallKind::FreeModel, FIRST),
    call("llama_free_model", CallKind::FreeModel, FIRST),
    call("llama_state_get_data", CallKind::SaveState, FIRST),
    call("llama_state_set_data", CallKind::LoadState, FIRST),
    sequence_state("llama_state_seq_get_data", CallKind::SaveState),
    sequence_state("llama_state_seq_get_data_ext", CallKind::SaveState),
    sequence_state("llama_state_seq_set_data", CallKind::LoadState),
    sequence_state("llama_state_seq_set_data_ext", CallKind::LoadState),
    Function {
        prefix: true,
        ..throwing("_Z24common_speculative_draftP18common_speculative", CallKind::Draft, FIRST)
    },
    Function {
        prefix: true,
        ..throwing("_Z29common_speculative_gen_draftP18common_speculative", CallKind::Draft, FIRST)
    },
];

const DRAFTS: &[Function] = &[function(
    "_Z25common_speculative_acceptP18common_speculativeit",
    Level::Token,
    Program::DraftAccepted,
    &[Arg::Rsi, Arg::Rdx],
)];

/// Every function here.
pub(super) fn all() -> [&'static [Function]; 5] {
    [KV_MEMORY, KV_SELF, KV_CACHE, CALLS, DRAFTS]
}

/// Those worth probing in an object with these symbols.
pub(super) fn chosen(symbols: &[&str]) -> [&'static [Function]; 3] {
    let generations = [KV_MEMORY, KV_SELF, KV_CACHE];
    let has = |functions: &&[Function]| symbols.iter().any(|name| functions.iter().any(|f| f.matches(name)));
    let kv = generations.into_iter().find(has).unwrap_or_default();
    [kv, CALLS, DRAFTS]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_generation_of_kv_functions_is_probed() {
        let first = |symbols: &[&str]| {
            let [kv, ..] = chosen(symbols);
            kv.first().map(|function| function.symbol)
        };
        let (old, mid, new) = ("llama_kv_cache_seq_rm", "llama_kv_self_seq_rm", "llama_memory_seq_rm");
        assert_eq!(first(&[old, mid, new]), Some(new));
        assert_eq!(first(&[old, mid]), Some(mid));
        assert_eq!(first(&[old]), Some(old));
        assert_eq!(first(&["ggml_barrier"]), None);
    }

    #[test]
    fn kinds_are_in_the_cookies() {
        let kind = |symbol: &str| {
            let found = all().into_iter().flatten().find(|function| function.matches(symbol));
            found.map(|function| (function.cookie >> 16 & 0xff, function.cookie & cookie::SEQUENCE))
        };
        assert_eq!(kind("llama_memory_seq_add"), Some((KvOperation::Add as u64, 0)));
        assert_eq!(kind("llama_state_seq_get_data_ext"), Some((CallKind::SaveState as u64, 32)));
        let sample = "_Z21common_sampler_sampleP14common_samplerP13llama_contextib";
        assert_eq!(kind(sample), Some((CallKind::Sample as u64, 0)));
    }
}
