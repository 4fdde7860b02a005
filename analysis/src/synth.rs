//! Synthetic traces: seeded, of any size, shaped like real ones. For tests,
//! benches and the `synth` example; no part of the public interface.
//!
//! A run is one prefill and then as many decoded tokens as it takes. Threads
//! jitter, so that the others wait; the same seed gives the same bytes.

#![doc(hidden)]

mod gemma;
mod model;

pub use gemma::gemma;
pub use model::{Model, ModelGraph};

use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Ending, Host, Level, Object, Probe, Recording, Target};
use llmtrace_format::tables::{Decode, GraphSpan, Phase, Thread, Ubatch};
use llmtrace_format::{Header, Nanos, OpSpan, Result, Writer};
use std::io::Write;
use std::str::FromStr;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Op spans, over all threads; rounded up to a whole token.
    pub spans: u64,
    /// Threads of the pool.
    pub threads: u32,
    /// Seed of the jitter.
    pub seed: u64,
    /// Nodes to slow down.
    pub slow: Vec<Slow>,
}

impl Options {
    /// A trace with this many spans on this many threads.
    pub fn new(spans: u64, threads: u32, seed: u64) -> Self {
        Self { spans, threads, seed, slow: Vec::new() }
    }
}

/// A slowdown of all nodes with a piece of text in their name or operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// The text.
    pub name: String,
    /// What their time is multiplied with.
    pub factor: f64,
}

impl FromStr for Slow {
    type Err = String;

    /// Reads `ffn_up=+20%`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(name, percent)| {
            let percent: f64 = percent.strip_suffix('%')?.parse().ok()?;
            (percent > -100.0).then(|| Self { name: name.to_owned(), factor: 1.0 + percent / 100.0 })
        });
        parsed.ok_or_else(|| format!("`{text}` is not of the form NAME=+20%"))
    }
}

/// A trace in memory, of the built-in model.
///
/// # Errors
/// None in practice: memory can always be written.
pub fn bytes(options: &Options) -> Result<Vec<u8>> {
    write(Vec::new(), &gemma(128), options)
}

/// Writes a trace; gives the sink back.
///
/// # Errors
/// When the sink cannot be written.
pub fn write<W: Write>(sink: W, model: &Model, options: &Options) -> Result<W> {
    let threads = options.threads.max(1);
    let mut writer = Writer::new(sink, Header::new(1_800_000_000_000_000_000, 5_000_000_000))?;
    writer.write_recording(&recording(model, threads))?;
    for (id, graph) in [&model.prefill, &model.decode].into_iter().enumerate() {
        let graph = graph.interned(id as u32, &mut writer);
        writer.write_graph(&graph)?;
    }
    for ith in 0..threads {
        writer.push_thread(Thread { id: ith, ith, tid: 4242 + ith, pid: 4242 });
    }
    let kernels = [&model.prefill, &model.decode].map(|graph| graph.kernels(threads, &options.slow));
    let mut run = Run {
        random: Random(options.seed ^ 0x9E37_79B9_7F4A_7C15),
        now: 3_000_000,
        buffer: vec![Vec::new(); threads as usize],
    };
    let (mut written, mut token, mut flushed) = (0, 0u32, 0);
    while written < options.spans.max(1) {
        let graph = usize::from(token > 0);
        let Some(kernels) = kernels.get(graph).filter(|kernels| !kernels.is_empty()) else { break };
        let tokens = if token == 0 { model.prompt_tokens } else { 1 };
        let begin = run.now;
        run.graph(token, kernels);
        let (graph_begin, graph_end) = (begin + 15_000, run.now + 2_000);
        run.now = graph_end + 6_000;
        let phase = if token == 0 { Phase::Prefill } else { Phase::Decode };
        writer.push_decode(Decode { id: token, begin, end: run.now, tid: 4242, tokens, ..Decode::default() });
        writer.push_ubatch(Ubatch {
            id: token,
            begin: begin + 4_000,
            end: graph_end + 3_000,
            decode: token,
            tokens,
            sequences: 1,
            phase: phase as u8,
        });
        writer.push_graph_span(GraphSpan {
            id: token,
            begin: graph_begin,
            end: graph_end,
            graph: graph as u32,
            ubatch: token,
            threads,
            tid: 4242,
            ..GraphSpan::default()
        });
        for (lane, spans) in run.buffer.iter().enumerate() {
            for span in spans {
                writer.push_op_span(lane as u32, *span)?;
            }
            written += spans.len() as u64;
        }
        // Sampling.
        run.now += 180_000 + run.random.below(80_000);
        token = token.saturating_add(1).min(NONE - 1);
        if run.now - flushed > 1_000_000_000 {
            writer.flush()?;
            flushed = run.now;
        }
    }
    let ending = Ending {
        reason: "target exited".into(),
        end_nanos: run.now,
        events: written * 2,
        exit_code: Some(0),
        recorder_cpu_nanos: run.now / 50,
        recorder_peak_bytes: 20 << 20,
        ..Ending::default()
    };
    writer.finish(&ending)
}

/// One kernel launch: a node, and those fused into it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    node: u32,
    fused: u32,
    /// Nanoseconds on each thread.
    nanos: u64,
}

struct Run {
    random: Random,
    now: Nanos,
    buffer: Vec<Vec<OpSpan>>,
}

impl Run {
    /// Runs one graph; its spans are in `buffer` then.
    fn graph(&mut self, graph_span: u32, kernels: &[Kernel]) {
        self.buffer.iter_mut().for_each(Vec::clear);
        let waits = self.buffer.len() > 1;
        let mut released = self.now + 18_000;
        for kernel in kernels {
            let mut last = 0;
            for (ith, spans) in self.buffer.iter_mut().enumerate() {
                let begin = released + 700 + self.random.below(500);
                let mut compute = kernel.nanos + kernel.nanos * self.random.below(64) / 1024;
                if self.random.below(1500) == 0 {
                    // The kernel took the CPU away.
                    compute += 20_000 + self.random.below(150_000);
                }
                compute = compute.max(80) + self.random.below(40);
                last = last.max(begin + compute);
                spans.push(OpSpan {
                    begin,
                    compute,
                    wait: 0,
                    node: kernel.node,
                    fused: kernel.fused,
                    graph_span,
                    thread: ith as u32,
                    cpu: ith as u32,
                    touched_by_loss: false,
                });
            }
            released = last + if waits { 120 } else { 0 };
            if waits {
                for span in self.buffer.iter_mut().filter_map(|spans| spans.last_mut()) {
                    span.wait = released - span.compute_end();
                }
            }
        }
        self.now = released;
    }
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

fn recording(model: &Model, threads: u32) -> Recording {
    Recording {
        recorder_version: concat!("synth ", env!("CARGO_PKG_VERSION")).into(),
        level_asked: Level::Thread,
        level: Level::Thread,
        host: Host {
            name: "nowhere".into(),
            kernel: "none".into(),
            arch: "x86_64".into(),
            cpu_model: "synthetic CPU".into(),
            cpus: threads,
            memory_bytes: 8 << 30,
        },
        target: Target {
            pid: 4242,
            exe: "synth".into(),
            models: vec![model.name.clone()],
            objects: vec![Object { name: "libsynth.so".into(), build_id: "00".into(), stripped: false }],
            ..Target::default()
        },
        probes: vec![Probe {
            purpose: "op begin".into(),
            symbol: "ggml_cpu_extra_compute_forward".into(),
            object: "libsynth.so".into(),
            offset: 4,
            instruction: "push rbp".into(),
            emulated: true,
            on_return: false,
        }],
        types: model.types.clone(),
        ..Recording::default()
    }
}
