//! Which functions of an object to probe, and where.
//!
//! The one table of probe points. Functions are found by symbol in every object
//! the target maps; nothing depends on the names of files.

mod inference;

pub(crate) use inference::Sources;

use super::host;
use crate::binary::{
    Arg, LoopSite, Object, Site, Symbol, barrier_sites, probe_site, return_instructions, return_site,
};
use llmtrace_format::meta::Level;
use llmtrace_format::tables::EVENT_KINDS;

/// Twins of `enum cookie` in events.h.
pub(super) mod cookie {
    pub(in crate::record) const ENCODE: u64 = 1;
    pub(in crate::record) const BATCH: u64 = 2;
    pub(in crate::record) const UBATCH_OLD: u64 = 4;
    pub(in crate::record) const BATCH_ON_STACK: u64 = 8;
    pub(in crate::record) const TOKENS: u64 = 16;
    pub(in crate::record) const SEQUENCE: u64 = 32;
    pub(in crate::record) const UBATCH_EXT: u64 = 64;

    /// Of several kinds that one program serves.
    pub(in crate::record) const fn kind(kind: u8) -> u64 {
        (kind as u64) << 16
    }
}

/// A BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Program {
    DecodeBegin,
    DecodeEnd,
    UbatchBegin,
    UbatchEnd,
    GraphBegin,
    GraphEnd,
    OpBegin,
    FusedBegin,
    Barrier,
    /// The experts of each token, where the weights of them are gathered.
    ExpertsGathered,
    /// The same where nodes begin, for builds without that.
    ExpertsBegin,
    KvOperation,
    CallBegin,
    CallEnd,
    /// The same at the instructions that return, of functions that may throw: an
    /// exception must not pass a return probe.
    CallReturns,
    DraftAccepted,
    SchedulerBegin,
    SchedulerEnd,
    /// A list of backends becomes known.
    Backends,
    SplitBegin,
    SplitEnd,
    CopyBegin,
    CopyEnd,
    WaitBegin,
    WaitEnd,
    /// What a read from a disk takes of our programs; for calibration.
    ReadRehearsed,
    /// Records nothing; for calibration.
    Nothing,
}

impl Program {
    /// Name for people.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::DecodeBegin => "decode begin",
            Self::DecodeEnd => "decode end",
            Self::UbatchBegin => "ubatch begin",
            Self::UbatchEnd => "ubatch end",
            Self::GraphBegin => "graph begin",
            Self::GraphEnd => "graph end",
            Self::OpBegin => "op begin",
            Self::FusedBegin => "fused op begin",
            Self::Barrier => "barrier",
            Self::ExpertsGathered => "experts",
            Self::ExpertsBegin => "experts, at each node",
            Self::KvOperation => "KV operation",
            Self::CallBegin => "call begin",
            Self::CallEnd => "call end",
            Self::CallReturns => "call end, where it returns",
            Self::DraftAccepted => "draft accepted",
            Self::SchedulerBegin => "scheduler begin",
            Self::SchedulerEnd => "scheduler end",
            Self::Backends => "backends",
            Self::SplitBegin => "split begin",
            Self::SplitEnd => "split end",
            Self::CopyBegin => "copy begin",
            Self::CopyEnd => "copy end",
            Self::WaitBegin => "wait begin",
            Self::WaitEnd => "wait end",
            Self::ReadRehearsed => "block read",
            Self::Nothing => "empty",
        }
    }

    /// Its number in `enum event_kind` of events.h.
    pub(super) fn event(self) -> usize {
        let purpose = match self {
            Self::ExpertsBegin => Self::ExpertsGathered.purpose(),
            Self::CallReturns => Self::CallEnd.purpose(),
            other => other.purpose(),
        };
        EVENT_KINDS.iter().position(|kind| *kind == purpose).unwrap_or(0)
    }

    pub(super) fn on_return(self) -> bool {
        matches!(
            self,
            Self::DecodeEnd
                | Self::UbatchEnd
                | Self::GraphEnd
                | Self::CallEnd
                | Self::SchedulerEnd
                | Self::SplitEnd
                | Self::CopyEnd
                | Self::WaitEnd
        )
    }
}

/// One place to attach to.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) program: Program,
    pub(super) symbol: String,
    /// Offset of the probed instruction in the file.
    pub(super) file_offset: u64,
    pub(super) cookie: u64,
    pub(super) site: Site,
}

/// A function worth probing.
struct Function {
    /// The symbol, or how it begins when `prefix` is set.
    symbol: &'static str,
    prefix: bool,
    level: Level,
    begin: Program,
    end: Option<Program>,
    args: &'static [Arg],
    cookie: u64,
}

const fn function(symbol: &'static str, level: Level, begin: Program, args: &'static [Arg]) -> Function {
    Function { symbol, prefix: false, level, begin, end: None, args, cookie: 0 }
}

const TWO: &[Arg] = &[Arg::Rdi, Arg::Rsi];

const fn decode(symbol: &'static str, cookie: u64) -> Function {
    let begin = function(symbol, Level::Token, Program::DecodeBegin, TWO);
    Function { end: Some(Program::DecodeEnd), cookie, ..begin }
}

/// Decode calls: the methods that every way in passes through, since 2025-03.
/// At first they changed the batch, which their names tell.
const DECODE_METHODS: &[Function] = &[
    decode("_ZN13llama_context6decodeERK11llama_batch", cookie::BATCH),
    decode("_ZN13llama_context6encodeERK11llama_batch", cookie::BATCH | cookie::ENCODE),
    decode("_ZN13llama_context6decodeER11llama_batch", cookie::BATCH),
    decode("_ZN13llama_context6encodeER11llama_batch", cookie::BATCH | cookie::ENCODE),
    Function { prefix: true, ..decode("_ZN13llama_context6decodeE", 0) },
    Function { prefix: true, ..decode("_ZN13llama_context6encodeE", cookie::ENCODE) },
];

/// Came with another layout of ubatches.
const DECODE_EXTENDED: &str = "_ZN13llama_context6decodeERK15llama_batch_ext";

/// Before that, the C functions; the batch is passed by value.
const DECODE_FUNCTIONS: &[Function] = &[
    decode("llama_decode", cookie::BATCH_ON_STACK),
    decode("llama_encode", cookie::BATCH_ON_STACK | cookie::ENCODE),
];

const UBATCH_METHODS: &[Function] = &[Function {
    prefix: true,
    end: Some(Program::UbatchEnd),
    ..function("_ZN13llama_context14process_ubatchE", Level::Token, Program::UbatchBegin, TWO)
}];

/// Came in 2025-07 together with a change of [`UBATCH_METHODS`]: until then, they return an object
/// through a hidden first argument, so that the others are not where the probe looks for them.
const UBATCH_RETURNS_POINTER: &str = "_ZN16llm_graph_result9can_reuseE";

/// Called once for each ubatch, before it is computed.
const UBATCH_FUNCTIONS: &[Function] = &[Function {
    prefix: true,
    cookie: cookie::UBATCH_OLD,
    ..function("_Z16llama_set_inputsR13llama_context", Level::Token, Program::UbatchBegin, TWO)
}];

const COMPUTE: &[Function] = &[
    Function {
        end: Some(Program::GraphEnd),
        ..function("ggml_graph_compute", Level::Graph, Program::GraphBegin, TWO)
    },
    function("ggml_cpu_extra_compute_forward", Level::Op, Program::OpBegin, TWO),
    function(
        "ggml_compute_forward_rms_norm_mul_fused",
        Level::Op,
        Program::FusedBegin,
        &[Arg::Rdi, Arg::Rsi, Arg::Rdx],
    ),
];

/// Functions that copy tensors, by where their arguments are; twin of `enum copy_call`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Tensor = 1,
    TensorAsync = 2,
    Set = 3,
    SetAsync = 4,
    Get = 5,
    GetAsync = 6,
    ByBackend = 7,
}

impl Call {
    pub(super) const fn cookie(self) -> u64 {
        (self as u64) << 16
    }
}

/// The flag `COPY_TIMES`: the argument behind the size is how often.
const TIMES: u64 = 16 << 16;

const fn copy(symbol: &'static str, call: Call, args: &'static [Arg], flags: u64) -> Function {
    let begin = function(symbol, Level::Graph, Program::CopyBegin, args);
    Function { end: Some(Program::CopyEnd), cookie: call.cookie() | flags, ..begin }
}

const SIX: &[Arg] = &[Arg::Rdi, Arg::Rsi, Arg::Rdx, Arg::Rcx, Arg::R8, Arg::R9];

/// What goes to which backend. The backends' own functions are found in their tables, see
/// backends.rs.
const OFFLOAD: &[Function] = &[
    Function {
        end: Some(Program::SchedulerEnd),
        ..function("ggml_backend_sched_graph_compute_async", Level::Graph, Program::SchedulerBegin, TWO)
    },
    function("ggml_backend_sched_new", Level::Graph, Program::Backends, &[Arg::Rdi, Arg::Rsi, Arg::Rdx]),
    copy("ggml_backend_tensor_copy", Call::Tensor, TWO, 0),
    copy("ggml_backend_tensor_copy_async", Call::TensorAsync, &[Arg::Rdx, Arg::Rcx], 0),
    copy("ggml_backend_tensor_set", Call::Set, SIX, 0),
    copy("ggml_backend_tensor_set_async", Call::SetAsync, SIX, 0),
    copy("ggml_backend_tensor_get", Call::Get, SIX, 0),
    copy("ggml_backend_tensor_get_async", Call::GetAsync, SIX, 0),
    copy("ggml_backend_tensor_set_2d", Call::Set, SIX, TIMES),
    copy("ggml_backend_tensor_set_2d_async", Call::SetAsync, SIX, TIMES),
    copy("ggml_backend_tensor_get_2d", Call::Get, SIX, TIMES),
    copy("ggml_backend_tensor_get_2d_async", Call::GetAsync, SIX, TIMES),
];

/// Whether it records what the scheduler gives to backends.
pub(super) fn is_offload(program: Program) -> bool {
    OFFLOAD.iter().any(|function| function.begin == program || function.end == Some(program))
}

/// Arrivals at barriers, where the node loop cannot be found: also those inside
/// of operators, which cost as much and say less.
const BARRIER: &[Function] = &[function("ggml_barrier", Level::Thread, Program::Barrier, &[])];

/// Gathers, besides other things, the weights of the experts that each token is sent to.
const GATHER: Function =
    function("ggml_compute_forward_get_rows", Level::Graph, Program::ExpertsGathered, TWO);
const EXPERTS_BEGIN: Function =
    function("ggml_cpu_extra_compute_forward", Level::Graph, Program::ExpertsBegin, TWO);

/// How experts are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Moe {
    /// Not at all.
    Off,
    /// Where their weights are gathered: a hit a layer.
    #[default]
    Auto,
    /// Where any node begins: a hit each.
    Nodes,
}

/// The points of one object at which experts can be read.
pub(super) fn expert_points(object: &Object, moe: Moe) -> Vec<Point> {
    let wanted = match moe {
        _ if !host::knows_loops() => return Vec::new(),
        Moe::Off => return Vec::new(),
        Moe::Auto => GATHER,
        Moe::Nodes => EXPERTS_BEGIN,
    };
    let points = |symbol| function_points(object, &wanted, wanted.symbol, symbol);
    object.symbol(wanted.symbol).map(points).unwrap_or_default()
}

/// How experts of a target with these points are recorded, or why they are not.
pub(super) fn experts_given(moe: Moe, points: &[Point]) -> &'static str {
    let has = |program| points.iter().any(|point| point.program == program);
    match moe {
        Moe::Off => "not asked for",
        _ if !has(Program::GraphBegin) => "below level graph, or no graphs are seen",
        _ if !host::knows_loops() => "the kernel is older than 5.17",
        Moe::Auto if !has(Program::ExpertsGathered) => {
            "the target has no function ggml_compute_forward_get_rows; --moe nodes does without"
        }
        Moe::Nodes if !has(Program::ExpertsBegin) => {
            "the target has no function ggml_cpu_extra_compute_forward"
        }
        Moe::Auto => "where their weights are gathered",
        Moe::Nodes => "at each node",
    }
}

/// Accessors from which the target's tables are learned.
const ACCESSOR_PREFIXES: &[&str] = &["ggml_", "llama_version", MEMORY_OF_CONTEXT];

/// Gives a context's KV cache.
pub(super) const MEMORY_OF_CONTEXT: &str = "_ZNK13llama_context10get_memoryEv";

/// Stands for a symbol where a barrier is probed in the loop over nodes.
pub(super) const IN_LOOP: &str = "ggml_barrier, in the loop over nodes";

/// Functions looked for, for messages.
pub(super) const LOOKED_FOR: &str =
    "llama_decode, ggml_graph_compute, ggml_cpu_extra_compute_forward, ggml_barrier";

/// Which symbols of an object to keep.
pub(super) fn keep(symbol: &str) -> bool {
    ACCESSOR_PREFIXES.iter().any(|prefix| symbol.starts_with(prefix))
        || symbol.starts_with(UBATCH_RETURNS_POINTER)
        || functions().any(|f| f.matches(symbol))
}

fn functions() -> impl Iterator<Item = &'static Function> {
    [DECODE_METHODS, DECODE_FUNCTIONS, UBATCH_METHODS, UBATCH_FUNCTIONS, COMPUTE, OFFLOAD, BARRIER]
        .into_iter()
        .chain(inference::all())
        .flatten()
        .chain([&GATHER])
}

impl Function {
    fn matches(&self, symbol: &str) -> bool {
        if self.prefix { symbol.starts_with(self.symbol) } else { symbol == self.symbol }
    }
}

/// Which functions tell of decode calls and of ubatches, in an object with these symbols.
fn calls(symbols: &[&str]) -> [&'static [Function]; 2] {
    let has_any =
        |functions: &[Function]| symbols.iter().any(|name| functions.iter().any(|f| f.matches(name)));
    let returns_pointer = symbols.iter().any(|name| name.starts_with(UBATCH_RETURNS_POINTER));
    let decode = if has_any(DECODE_METHODS) { DECODE_METHODS } else { DECODE_FUNCTIONS };
    let ubatch = match has_any(UBATCH_METHODS) {
        true if returns_pointer => UBATCH_METHODS,
        // Decode calls tell the tokens, too.
        true => &[],
        false => UBATCH_FUNCTIONS,
    };
    [decode, ubatch]
}

/// The points of one object, up to `level`.
pub(super) fn points(object: &Object, level: Level, sources: Sources) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let symbols: Vec<&str> = object.symbols_matching_unsorted(|_| true).map(|(name, _)| name).collect();
    let [decode, ubatch] = calls(&symbols);
    let in_loop = if level >= Level::Thread { loop_points(object) } else { Vec::new() };
    let barrier = if in_loop.is_empty() { BARRIER } else { &[] };
    points.extend(in_loop);
    let functions =
        [decode, ubatch, COMPUTE, OFFLOAD, barrier].into_iter().chain(inference::chosen(&symbols)).flatten();
    for function in functions.filter(|function| function.level <= level && sources.wants(function.begin)) {
        let mut found: Vec<(&str, Symbol)> =
            object.symbols_matching_unsorted(|symbol| function.matches(symbol)).collect();
        found.sort_unstable_by_key(|(_, symbol)| symbol.vaddr);
        for (name, symbol) in found {
            // Two names of one function, or a prefix that an earlier entry named whole.
            if points.iter().any(|point| point.program == function.begin && point.symbol == name) {
                continue;
            }
            points.extend(function_points(object, function, name, symbol));
        }
    }
    // Without the begins of nodes there is nothing that the other probes of level op could tell.
    if !points.iter().any(|point| point.program == Program::OpBegin) {
        points.retain(|point| !matches!(point.program, Program::FusedBegin | Program::Barrier));
    }
    // A field was added in front of those that are read.
    if symbols.iter().any(|name| name.starts_with(DECODE_EXTENDED)) {
        let ubatch = |point: &&mut Point| point.program == Program::UbatchBegin;
        points.iter_mut().filter(ubatch).for_each(|point| point.cookie |= cookie::UBATCH_EXT);
    }
    if sources.tokens {
        let tell = |point: &&mut Point| {
            matches!(point.program, Program::UbatchBegin | Program::CallEnd | Program::CallReturns)
        };
        points.iter_mut().filter(tell).for_each(|point| point.cookie |= cookie::TOKENS);
    }
    points.sort_by_key(|point| (point.program, point.file_offset));
    points.dedup_by_key(|point| (point.program, point.file_offset));
    points
}

/// The barriers that close nodes, where the loop over nodes calls them or the
/// compiler inlined them.
fn loop_points(object: &Object) -> Vec<Point> {
    let sites = barrier_sites(object).map(|found| found.sites).unwrap_or_default();
    let point = |site: LoopSite| {
        Some(Point {
            program: Program::Barrier,
            symbol: IN_LOOP.to_owned(),
            file_offset: object.file_offset(site.vaddr)?,
            cookie: 0,
            site: Site {
                offset_in_function: 0,
                emulated: site.emulated,
                instruction: site.instruction,
                stack_moved: true,
            },
        })
    };
    // One that is single-stepped costs more than all of those inside operators.
    let closing: Vec<LoopSite> = sites.into_iter().filter(|site| site.closing).collect();
    if closing.iter().any(|site| !site.emulated) && object.symbol("ggml_barrier").is_some() {
        return Vec::new();
    }
    closing.into_iter().filter_map(point).collect()
}

fn function_points(object: &Object, function: &Function, name: &str, symbol: Symbol) -> Vec<Point> {
    let Some(code) = object.code(symbol) else { return Vec::new() };
    let point = |program: Program, site: Site| {
        let file_offset = object.file_offset(symbol.vaddr + u64::from(site.offset_in_function))?;
        Some(Point { program, symbol: name.to_owned(), file_offset, cookie: function.cookie, site })
    };
    let mut site = probe_site(&code, symbol.vaddr, function.args);
    if site.stack_moved && function.cookie & cookie::BATCH_ON_STACK != 0 {
        site = return_site(&code, symbol.vaddr);
    }
    let begin = point(function.begin, site);
    let ends = match function.end {
        Some(Program::CallReturns) => return_instructions(&code, symbol.vaddr),
        Some(_) => vec![return_site(&code, symbol.vaddr)],
        None => Vec::new(),
    };
    // It ends in another function, to which it jumps: nobody would see that.
    if function.end == Some(Program::CallReturns) && ends.is_empty() {
        return Vec::new();
    }
    let end = |site| function.end.and_then(|program| point(program, site));
    begin.into_iter().chain(ends.into_iter().filter_map(end)).collect()
}

/// The level that these points give, and why it is not the one asked for.
pub(super) fn level_given(asked: Level, points: &[Point]) -> (Level, String) {
    let has = |program| points.iter().any(|point| point.program == program);
    let missing = |symbol: &str, level: Level| (level, format!("the target has no function {symbol}"));
    if asked >= Level::Graph && !has(Program::GraphBegin) {
        return missing("ggml_graph_compute", Level::Token);
    }
    if asked >= Level::Op && !has(Program::OpBegin) {
        return missing("ggml_cpu_extra_compute_forward (llama.cpp before December 2024?)", Level::Graph);
    }
    if asked >= Level::Thread && !has(Program::Barrier) {
        return missing("ggml_barrier", Level::Op);
    }
    (asked, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cookie with which a symbol is probed in an object that has all of `symbols`.
    fn cookie_of(symbol: &str, symbols: &[&str]) -> Option<u64> {
        let [decode, ubatch] = calls(symbols);
        decode.iter().chain(ubatch).find(|f| f.matches(symbol)).map(|f| f.cookie)
    }

    #[test]
    fn batches_of_spring_2025_are_read() {
        let decode = "_ZN13llama_context6decodeER11llama_batch";
        assert_eq!(cookie_of(decode, &[decode, "llama_decode"]), Some(cookie::BATCH));
        assert_eq!(cookie_of("llama_decode", &[decode, "llama_decode"]), None);
        assert_eq!(cookie_of("llama_decode", &["llama_decode"]), Some(cookie::BATCH_ON_STACK));
        let extended = "_ZN13llama_context6decodeERK15llama_batch_ext";
        assert_eq!(cookie_of(extended, &[extended]), Some(0));
    }

    #[test]
    fn ubatches_behind_a_hidden_argument_are_not_read() {
        let ubatch = "_ZN13llama_context14process_ubatchERK12llama_ubatch14llm_graph_type";
        assert_eq!(cookie_of(ubatch, &[ubatch]), None);
        let reuses = "_ZN16llm_graph_result9can_reuseERK16llm_graph_params";
        assert_eq!(cookie_of(ubatch, &[ubatch, reuses]), Some(0));
        assert!(keep(reuses));
    }

    #[test]
    fn programs_are_named_as_their_events() {
        let programs = [
            Program::DecodeBegin,
            Program::DecodeEnd,
            Program::UbatchBegin,
            Program::UbatchEnd,
            Program::GraphBegin,
            Program::GraphEnd,
            Program::OpBegin,
            Program::FusedBegin,
            Program::Barrier,
        ];
        assert_eq!((Program::ExpertsGathered.event(), Program::ExpertsBegin.event()), (18, 18));
        // events.h numbers them from 1 in this order; between come events of no probe of their own.
        assert!(programs.iter().map(|program| program.event()).eq(1..=programs.len()));
        let later = [Program::KvOperation, Program::CallBegin, Program::CallEnd, Program::DraftAccepted];
        assert_eq!(later.map(Program::event), [13, 14, 15, 16]);
        assert_eq!(EVENT_KINDS.get(10..13), Some(&["graph nodes", "process", "sequence run"][..]));
        assert_eq!(EVENT_KINDS.get(17..19), Some(&["tokens", "experts"][..]));
        let later = [
            Program::SchedulerBegin,
            Program::SchedulerEnd,
            Program::Backends,
            Program::SplitBegin,
            Program::SplitEnd,
            Program::CopyBegin,
            Program::CopyEnd,
            Program::WaitBegin,
            Program::WaitEnd,
        ];
        assert!(later.iter().all(|program| EVENT_KINDS.get(program.event()) == Some(&program.purpose())));
        let machine = ["thread off CPU", "thread on CPU", "thread woken", "thread ended"];
        assert_eq!(EVENT_KINDS.get(33..37), Some(&machine[..]));
        assert_eq!(EVENT_KINDS.get(37..40), Some(&["name of a thread", "page fault", "block read"][..]));
    }
}
