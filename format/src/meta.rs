//! Dictionaries and descriptions: what was recorded, where, and how.

use serde::{Deserialize, Serialize};

/// Index into the file's strings. 0 is the empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StrId(pub u32);

/// How much a recorder captures; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Decode calls and ubatches.
    #[default]
    Token,
    /// And graph computations.
    Graph,
    /// And the begin of every node on every thread.
    Op,
    /// And arrivals at barriers: compute time and waiting time.
    Thread,
}

impl Level {
    /// The name used on the command line and in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Graph => "graph",
            Self::Op => "op",
            Self::Thread => "thread",
        }
    }
}

/// The machine that ran the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// CPU architecture.
    pub arch: String,
    /// CPU model name.
    pub cpu_model: String,
    /// Online CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// The process that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Base name of the executable.
    pub exe: String,
    /// Whether the recorder started it (`-- COMMAND`).
    pub launched: bool,
    /// Mapped model files, base names.
    pub models: Vec<String>,
    /// Objects with functions that were probed.
    pub objects: Vec<Object>,
    /// `ggml_version()`, when the build tells.
    pub ggml_version: String,
    /// `llama_version()`, when the build tells.
    pub llama_version: String,
}

/// One file mapped by the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Base name.
    pub name: String,
    /// GNU build id in hexadecimal; empty when it has none.
    pub build_id: String,
    /// Whether it lacks a full symbol table.
    pub stripped: bool,
}

/// One attached probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What it is for, such as `op begin`.
    pub purpose: String,
    /// Symbol it was found by.
    pub symbol: String,
    /// Base name of the object.
    pub object: String,
    /// Bytes between the function's entry and the probed instruction.
    pub offset: u32,
    /// Text of the probed instruction.
    pub instruction: String,
    /// Whether the kernel emulates the instruction (cheap) or single-steps it.
    pub emulated: bool,
    /// Whether it is a return probe.
    pub on_return: bool,
}

/// What a probe costs the thread that hits it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCost {
    /// [`Probe::purpose`]; `empty` for a probe that does nothing, `empty,
    /// single-stepped` for one on an instruction that the kernel does not
    /// emulate.
    pub purpose: String,
    /// Median nanoseconds a hit.
    pub nanos: u64,
}

/// A tensor type of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorType {
    /// Name, such as `q4_K`.
    pub name: String,
    /// Elements per block.
    pub block_elements: u32,
    /// Bytes per block.
    pub block_bytes: u32,
}

/// What was recorded, where and how. A later one in the file replaces an
/// earlier one: the recorder learns more once libraries are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Version of the recorder.
    pub recorder_version: String,
    /// Level that was asked for.
    pub level_asked: Level,
    /// Level that the target's build gave.
    pub level: Level,
    /// Why `level` is lower than `level_asked`; empty when it is not.
    pub level_reason: String,
    /// The machine.
    pub host: Host,
    /// The process.
    pub target: Target,
    /// Where probes were attached.
    pub probes: Vec<Probe>,
    /// Tensor types, indexed by the target's `enum ggml_type`.
    pub types: Vec<TensorType>,
    /// What a hit of each kind of probe costs the target on this host; empty
    /// when it was not measured.
    pub costs: Vec<ProbeCost>,
    /// All processes that were recorded; rows name them by their place here. `target`
    /// is the one that computes most. Empty before version 1.1.
    pub processes: Vec<Process>,
    /// The overhead not to exceed, in thousandths of the target's time; 0 for none.
    pub max_overhead_permille: u32,
    /// Operators are recorded for one token in so many; 0 and 1 for all.
    pub window: u32,
    /// What was recorded beside graphs, and what was not; empty before version 1.2.
    pub sources: Vec<Source>,
    /// Backends that the programs' schedulers know; rows name them by their place here.
    /// Empty before version 1.2.
    pub backends: Vec<Backend>,
    /// How experts of a mixture are recorded, or why they are not, in words. Empty before
    /// version 1.2.
    pub experts: String,
    /// What the recording host can do at most; `None` when it was not measured, and
    /// before version 1.2.
    pub ceilings: Option<Ceilings>,
    /// What threads counted for each node, in the order of the columns of
    /// [`crate::counters::OpCounters`]. Empty before version 1.2.
    pub counters: Vec<Counter>,
    /// Counters that were asked for and not recorded, with the reason; and what else is to
    /// be said of them.
    pub counters_missing: Vec<Source>,
    /// What was sampled of the whole machine. Empty before version 1.2.
    pub sampled: Vec<Counter>,
    /// Files in whose mappings pages were missing; rows name them by their place here. Empty
    /// before version 1.2.
    pub files: Vec<MappedFile>,
}

/// A file that the target has mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedFile {
    /// Base name.
    pub name: String,
    /// Bytes; 0 when unknown.
    pub bytes: u64,
    /// Tensors in it, by offset; empty when it is no GGUF file, or could not be read.
    pub tensors: Vec<FileTensor>,
}

/// Where a tensor lies in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTensor {
    /// Name, such as `blk.7.ffn_up.weight`.
    pub name: String,
    /// First byte.
    pub offset: u64,
    /// Bytes up to the next tensor or the end of the file.
    pub bytes: u64,
}

/// Something that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Name for people, as it was asked for, such as `page-faults`.
    pub name: String,
    /// Unit of its counts: `ns`, `bytes`, `µJ`, or empty for a number of events.
    pub unit: String,
    /// Where it is counted: `task` by the kernel for each thread, `perf` by an event of
    /// each CPU, which is attributed to the thread that runs; or a file of the kernel.
    pub source: String,
    /// What exactly, such as `type 0, config 0x1`; empty where the name says it.
    pub event: String,
}

/// Something that can be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Name for people, such as `KV cache`.
    pub name: String,
    /// Whether it was recorded: then no rows mean that nothing happened.
    pub recorded: bool,
    /// Why not; empty when it was.
    pub reason: String,
}

/// Where a name was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameSource {
    /// Nowhere: there is none.
    #[default]
    Unknown,
    /// The target's own function for it says so.
    Target,
    /// That function could not be understood; this is the name of the file that
    /// holds the backend's code.
    File,
}

/// Something that computes graphs: the CPU, or a device and its driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Name, such as `CPU` or `Vulkan0`; empty when unknown.
    pub name: String,
    /// Where that comes from.
    pub name_source: NameSource,
    /// Name of its device; empty when unknown.
    pub device: String,
    /// What the device is, such as its model; empty when unknown.
    pub description: String,
    /// Base name of the file with its code.
    pub object: String,
    /// Index into [`Recording::processes`].
    pub process: u32,
    /// Whether `synchronize` waits for it: a backend without computes within the call.
    pub synchronizes: bool,
}

/// What a host can do at most: the roofs of a roofline. Measured by `llmtrace calibrate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceilings {
    /// When they were measured, in seconds since 1970.
    pub measured_unix_secs: u64,
    /// CPU model that they hold for.
    pub cpu_model: String,
    /// Instructions that were used, such as `avx512f, avx512vnni`.
    pub simd: String,
    /// Bytes that were read in each round of reading, by all threads together.
    pub buffer_bytes: u64,
    /// Rates by quantity and number of threads.
    pub rates: Vec<CeilingRate>,
}

/// One measured rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CeilingRate {
    /// What was measured.
    pub quantity: Quantity,
    /// Threads that did it at once.
    pub threads: u32,
    /// Rounds.
    pub rounds: u32,
    /// Median of the rounds, bytes or operations a second.
    pub median: u64,
    /// Slowest round.
    pub lowest: u64,
    /// Fastest round.
    pub highest: u64,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Bytes read from memory, too many for any cache.
    #[default]
    ReadBytes,
    /// Multiplications and additions of 32-bit floating point in dot products.
    F32Ops,
    /// The same of 8-bit integers, summed in 32 bits.
    Int8Ops,
}

/// One of several processes in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// The recorded process that started it; 0 when it was named by the user.
    pub parent: u32,
    /// Base name of the executable.
    pub exe: String,
    /// Level that its build gave.
    pub level: Level,
    /// Why that is lower than the level asked for; empty when it is not.
    pub level_reason: String,
    /// Its mapped model files, base names.
    pub models: Vec<String>,
}

/// How often a kind of probe was hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeHits {
    /// [`Probe::purpose`].
    pub purpose: String,
    /// Place in the thread pool; [`crate::constants::NONE`] for calls by other threads.
    pub ith: u32,
    /// Hits recorded; those lost are in [`crate::tables::Losses`].
    pub hits: u64,
}

/// How a recording ended, and its totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// `target exited`, `interrupted`, `duration reached`.
    pub reason: String,
    /// Trace time of the end.
    pub end_nanos: u64,
    /// Kernel events received.
    pub events: u64,
    /// Kernel events lost, in all.
    pub lost: u64,
    /// Events that no graph or call could be found for (for example the rest of
    /// a graph that was running when the recorder attached).
    pub orphans: u64,
    /// Exit code of a launched target, if it exited.
    pub exit_code: Option<i32>,
    /// CPU time that the recorder used.
    pub recorder_cpu_nanos: u64,
    /// Most memory that the recorder had resident, in bytes.
    pub recorder_peak_bytes: u64,
    /// Hits of each kind of probe by thread; empty before version 1.1.
    pub hits: Vec<ProbeHits>,
}

/// One tensor of a graph: a node's result, a weight or an input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Name given by the engine, such as `ffn_up-7` or `blk.7.ffn_up.weight`.
    pub name: StrId,
    /// Operator, such as `MUL_MAT`; `NONE` for weights and inputs.
    pub op: StrId,
    /// The unary or gated function of operators `UNARY` and `GLU`, else empty.
    pub variant: StrId,
    /// Index into [`Recording::types`].
    pub tensor_type: u32,
    /// Elements in each dimension, fastest first.
    pub ne: [i64; 4],
    /// Bytes between elements in each dimension.
    pub nb: [u64; 4],
    /// `ggml_tensor.flags`.
    pub flags: i32,
    /// `ggml_tensor.op_params`.
    pub op_params: [i32; 16],
    /// Sources, as indexes into [`Graph::tensors`].
    pub sources: Vec<u32>,
    /// The tensor that this one is a view of.
    pub view_of: Option<u32>,
    /// Byte offset into it.
    pub view_offset: u64,
}

/// One compute graph. Graphs with the same content are stored once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Number by which graph spans refer to it; counts from 0.
    pub id: u32,
    /// The nodes in the order of execution, then weights and inputs.
    pub tensors: Vec<Tensor>,
    /// How many of `tensors` are nodes.
    pub nodes: u32,
}
