//! The trace model: small tables at once, op spans when somebody looks.

use crate::cache::{Cache, DEFAULT_CACHE_BYTES};
use crate::counters::Counts;
use crate::inference::{Around, Inference};
use crate::lane::Lane;
use crate::levels::{LevelRange, level_ranges};
use crate::machine::Machine;
use crate::offload::Offload;
use crate::totals::Node;
use llmtrace_format::meta::{Graph, Level, Tensor};
use llmtrace_format::segment::segments;
use llmtrace_format::summary::LaneSummary;
use llmtrace_format::tables::{
    Decode, Decodes, GraphSpan, GraphSpans, LevelChange, LevelChanges, Loss, Losses, Mark, Marks, Phase,
    Table, Thread, Ubatch, Ubatches,
};
use llmtrace_format::{
    BlockInfo, ColumnSet, Nanos, OpSpan, OpSpans, Result, Source, TimeRange, TraceFile, Warning, constants,
};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How far work has come, from 0 to 1; returning `false` cancels it. Called
/// from several threads.
pub type LoadProgress<'a> = &'a (dyn Fn(f32) -> bool + Sync);

/// A trace. Immutable once opened; blocks of op spans are decoded on demand into
/// a cache of bounded size.
pub struct Trace {
    /// Dictionaries, index and summaries.
    pub file: TraceFile,
    /// Decode and encode calls, by begin.
    pub decodes: Vec<Decode>,
    /// Micro-batches, by begin.
    pub ubatches: Vec<Ubatch>,
    /// Graph computations, by begin.
    pub graph_spans: Vec<GraphSpan>,
    /// Losses, by begin.
    pub losses: Vec<Loss>,
    /// Changes of what is recorded, by time.
    pub level_changes: Vec<LevelChange>,
    /// The same as ranges, for each process that has changes.
    pub levels: Vec<Vec<LevelRange>>,
    /// Marks, by time.
    pub marks: Vec<Mark>,
    /// Sequences, the KV cache, calls: what goes on around graphs.
    pub inference: Inference,
    /// What was given to which backend.
    pub offload: Offload,
    /// What was counted and sampled.
    pub counts: Counts,
    /// What the kernel did with threads and memory.
    pub machine: Machine,
    /// Micro-batches as people count them: prefills and decoded tokens.
    pub tokens: Vec<Token>,
    /// What is wrong with the file, found while opening it.
    pub warnings: Vec<Warning>,
    /// Place in `graph_spans` by id; a cut trace keeps the ids of the whole.
    graph_span_index: HashMap<u32, usize>,
    lanes: Vec<Lane>,
    pub(crate) cache: Cache,
    /// Blocks of op spans that turned out to be unreadable, by offset.
    damaged: Mutex<BTreeMap<u64, BlockInfo>>,
    pub(crate) nodes: OnceLock<Vec<Node>>,
    pub(crate) around: OnceLock<Around>,
}

/// A micro-batch (or, in a build that does not show micro-batches, a decode
/// call) and its place in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Entry to return of the call.
    pub range: TimeRange,
    /// What it does.
    pub phase: Phase,
    /// Tokens in the batch.
    pub tokens: u32,
    /// Its number among those of its phase, from 0.
    pub number: u32,
    /// [`Ubatch::id`]; [`constants::NONE`] when it stands for a decode call.
    pub ubatch: u32,
}

impl Trace {
    /// Opens a trace without its op spans: dictionaries, index, summaries and
    /// the small tables. `progress` returns `false` to cancel.
    ///
    /// # Errors
    /// As [`TraceFile::open_with_progress`].
    pub fn open(source: Source, progress: &mut dyn FnMut(f32) -> bool) -> Result<Self> {
        let file = TraceFile::open_with_progress(source, progress)?;
        let mut warnings = file.warnings.clone();
        let mut decodes = read_all::<Decodes, _>(&file, &mut warnings, |table| table.rows().collect());
        let mut ubatches = read_all::<Ubatches, _>(&file, &mut warnings, |table| table.rows().collect());
        let mut graph_spans = read_all::<GraphSpans, _>(&file, &mut warnings, |table| table.rows().collect());
        let mut losses = read_all::<Losses, _>(&file, &mut warnings, |table| table.rows().collect());
        let mut level_changes =
            read_all::<LevelChanges, _>(&file, &mut warnings, |table| table.rows().collect());
        let offload = Offload::read(&file, &mut warnings);
        let counts = Counts::read(&file, &mut warnings);
        let mut marks = read_all::<Marks, _>(&file, &mut warnings, |table| table.rows().collect());
        decodes.sort_by_key(|row| row.begin);
        ubatches.sort_by_key(|row| row.begin);
        graph_spans.sort_by_key(|row| row.begin);
        losses.sort_by_key(|row| row.begin);
        level_changes.sort_by_key(|row| row.time);
        marks.sort_by_key(|row| row.time);
        let first = |process: u32| {
            let recording = file.recording.as_ref();
            let level = recording.map_or(Level::Thread, |recording| {
                let process = recording.processes.get(process as usize);
                process.map_or(recording.level, |process| process.level)
            });
            (level, recording.map_or(1, |recording| recording.window.max(1)))
        };
        let levels = level_ranges(&level_changes, first, file.range().end);
        let tokens = tokens(&decodes, &ubatches);
        let inference = Inference::read(&file, &mut warnings);
        let graph_span_index = graph_spans.iter().enumerate().map(|(index, row)| (row.id, index)).collect();
        let (segments, misplaced) = segments(&file.blocks);
        let unreadable =
            |block: &BlockInfo| Warning::Unreadable { what: OpSpans::NAME, offset: block.offset };
        warnings.extend(misplaced.iter().map(unreadable));
        let summaries: HashMap<u32, &LaneSummary> =
            file.summaries.iter().rev().map(|summary| (summary.lane, summary)).collect();
        let lanes = segments.into_iter().filter(|(_, segments)| !segments.is_empty());
        let lanes: Vec<Lane> =
            lanes.map(|(id, segments)| Lane::new(id, segments, summaries.get(&id).copied())).collect();
        let lane_ids: Vec<u32> = lanes.iter().map(|lane| lane.id).collect();
        let machine = Machine::read(&file, &lane_ids, &mut warnings);
        Ok(Self {
            file,
            decodes,
            ubatches,
            graph_spans,
            losses,
            level_changes,
            levels,
            marks,
            inference,
            offload,
            counts,
            machine,
            tokens,
            warnings,
            graph_span_index,
            lanes,
            cache: Cache::new(DEFAULT_CACHE_BYTES),
            damaged: Mutex::default(),
            nodes: OnceLock::new(),
            around: OnceLock::new(),
        })
    }

    /// How many bytes of decoded op spans are kept.
    pub fn set_cache_bytes(&self, bytes: usize) {
        self.cache.set_limit(bytes);
    }

    /// Bytes of decoded op spans that are kept now.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The lanes, by `ith`.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Ids of all lanes.
    pub fn lane_ids(&self) -> Vec<u32> {
        self.lanes.iter().map(|lane| lane.id).collect()
    }

    /// The lane of one `ith`.
    pub fn lane(&self, id: u32) -> Option<&Lane> {
        self.lanes.get(self.lane_index(id)?)
    }

    /// Where in [`Trace::lanes`] it is.
    pub(crate) fn lane_index(&self, id: u32) -> Option<usize> {
        self.lanes.binary_search_by_key(&id, |lane| lane.id).ok()
    }

    /// Number of op spans in the file.
    pub fn op_span_count(&self) -> u64 {
        self.file.blocks_of::<OpSpans>().map(|block| u64::from(block.rows)).sum()
    }

    /// Remembers a block that cannot be read.
    pub(crate) fn add_damaged(&self, block: &BlockInfo) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(block.offset, *block);
    }

    /// Blocks of op spans that turned out to be unreadable so far, in the order
    /// of the file.
    pub fn damaged(&self) -> Vec<BlockInfo> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }

    /// Warnings of opening, and of everything that was read since.
    pub fn all_warnings(&self) -> Vec<Warning> {
        let unreadable = |block: BlockInfo| Warning::Unreadable { what: OpSpans::NAME, offset: block.offset };
        let since = self.damaged().into_iter().map(unreadable).chain(self.machine.damaged());
        self.warnings.iter().cloned().chain(since).collect()
    }

    /// From the first to the last recorded nanosecond.
    pub fn range(&self) -> TimeRange {
        self.file.range()
    }

    /// The graph span of an id.
    pub fn graph_span(&self, id: u32) -> Option<&GraphSpan> {
        self.graph_spans.get(*self.graph_span_index.get(&id)?)
    }

    /// The graph with a [`Graph::id`].
    pub fn graph(&self, id: u32) -> Option<&Graph> {
        let guess = self.file.graphs.get(id as usize).filter(|graph| graph.id == id);
        guess.or_else(|| self.file.graphs.iter().find(|graph| graph.id == id))
    }

    /// The graph and the tensor that a span computed.
    pub fn node_of(&self, span: &OpSpan) -> Option<(&Graph, &Tensor)> {
        let graph = self.graph(self.graph_span(span.graph_span)?.graph)?;
        Some((graph, graph.tensors.get(span.node as usize)?))
    }

    /// The thread that computed a span.
    pub fn thread_of(&self, span: &OpSpan) -> Option<Thread> {
        let threads = &self.file.threads;
        let guess = threads.get(span.thread as usize).filter(|thread| thread.id == span.thread);
        guess.or_else(|| threads.rows().find(|thread| thread.id == span.thread))
    }

    /// The token during which `time` lies.
    pub fn token_at(&self, time: Nanos) -> Option<&Token> {
        let after = self.tokens.partition_point(|token| token.range.begin <= time);
        self.tokens.get(after.checked_sub(1)?).filter(|token| token.range.contains(time))
    }
}

/// All rows of a small table; damaged blocks are left out and reported.
fn read_all<T: Table, R: Send>(
    file: &TraceFile,
    warnings: &mut Vec<Warning>,
    rows: impl Fn(T) -> Vec<R> + Sync,
) -> Vec<R> {
    let blocks: Vec<&BlockInfo> = file.blocks_of::<T>().collect();
    let read = |block: &&BlockInfo| match file.read::<T>(block, ColumnSet::ALL) {
        Ok(table) => Ok(rows(table)),
        Err(_) => Err(Warning::Unreadable { what: T::NAME, offset: block.offset }),
    };
    // A few blocks are read faster than threads are woken.
    let read: Vec<_> = if blocks.len() < 32 {
        blocks.iter().map(read).collect()
    } else {
        blocks.par_iter().map(read).collect()
    };
    let mut all = Vec::new();
    for part in read {
        match part {
            Ok(rows) => all.extend(rows),
            Err(warning) => warnings.push(warning),
        }
    }
    all
}

fn tokens(decodes: &[Decode], ubatches: &[Ubatch]) -> Vec<Token> {
    let from_ubatch = |row: &Ubatch| Token {
        range: TimeRange::new(row.begin, row.end),
        phase: Phase::from_u8(row.phase),
        tokens: row.tokens,
        number: 0,
        ubatch: row.id,
    };
    // A build that does not show micro-batches: the call's batch says it.
    let from_decode = |row: &Decode| Token {
        range: TimeRange::new(row.begin, row.end),
        phase: match (row.is_encode, row.tokens) {
            (0, 0) => Phase::Unknown,
            (0, 1) => Phase::Decode,
            (0, _) => Phase::Prefill,
            _ => Phase::Encode,
        },
        tokens: row.tokens,
        number: 0,
        ubatch: constants::NONE,
    };
    let mut tokens: Vec<Token> = if ubatches.is_empty() {
        decodes.iter().map(from_decode).collect()
    } else {
        ubatches.iter().map(from_ubatch).collect()
    };
    let mut seen = [0u32; 4];
    for token in &mut tokens {
        let seen = &mut seen[token.phase as usize];
        token.number = *seen;
        *seen += 1;
    }
    tokens
}
