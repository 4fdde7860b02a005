//! The trace model: small tables at once, op spans when loaded.

use crate::levels::{LevelRange, level_ranges};
use llmtrace_format::meta::{Graph, Level, Tensor};
use llmtrace_format::tables::{
    Decode, Decodes, GraphSpan, GraphSpans, LevelChange, LevelChanges, Loss, Losses, Mark, Marks, Phase,
    Thread, Ubatch, Ubatches,
};
use llmtrace_format::{
    BlockInfo, ColumnSet, Error, Nanos, OpSpan, OpSpans, Result, Source, TimeRange, TraceFile, Warning,
    constants,
};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far loading has come, from 0 to 1; returning `false` cancels it. Called
/// from several threads.
pub type LoadProgress<'a> = &'a (dyn Fn(f32) -> bool + Sync);

/// A trace. Immutable once opened, except that op spans arrive when
/// [`Trace::load_spans`] ran.
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
    /// Micro-batches as people count them: prefills and decoded tokens.
    pub tokens: Vec<Token>,
    /// What is wrong with the file, found while opening it.
    pub warnings: Vec<Warning>,
    /// Place in `graph_spans` by id; a cut trace keeps the ids of the whole.
    graph_span_index: HashMap<u32, usize>,
    spans: OnceLock<Loaded>,
}

struct Loaded {
    lanes: Vec<Lane>,
    warnings: Vec<Warning>,
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

/// The op spans of one place in the thread pool, by begin, without overlap.
#[derive(Debug, Default)]
pub struct Lane {
    /// `ith` of its threads.
    pub id: u32,
    /// Its spans.
    pub spans: Vec<OpSpan>,
    pub(crate) index: crate::fold::LaneIndex,
}

impl Lane {
    /// Spans that share a nanosecond with `range`, or begin in it.
    pub fn within(&self, range: TimeRange) -> &[OpSpan] {
        let first = self.spans.partition_point(|span| span.end() <= range.begin && span.begin < range.begin);
        let last = self.spans.partition_point(|span| span.begin < range.end);
        self.spans.get(first..last.max(first)).unwrap_or_default()
    }
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
        let mut decodes = Vec::new();
        file.read_all::<Decodes>(|_, table| decodes.extend(table.rows()), &mut warnings);
        let mut ubatches = Vec::new();
        file.read_all::<Ubatches>(|_, table| ubatches.extend(table.rows()), &mut warnings);
        let mut graph_spans = Vec::new();
        file.read_all::<GraphSpans>(|_, table| graph_spans.extend(table.rows()), &mut warnings);
        let mut losses = Vec::new();
        file.read_all::<Losses>(|_, table| losses.extend(table.rows()), &mut warnings);
        let mut level_changes = Vec::new();
        file.read_all::<LevelChanges>(|_, table| level_changes.extend(table.rows()), &mut warnings);
        let mut marks = Vec::new();
        file.read_all::<Marks>(|_, table| marks.extend(table.rows()), &mut warnings);
        decodes.sort_by_key(|row| row.begin);
        ubatches.sort_by_key(|row| row.begin);
        graph_spans.sort_by_key(|row| row.begin);
        losses.sort_by_key(|row| row.begin);
        level_changes.sort_by_key(|row| row.time);
        marks.sort_by_key(|row| row.time);
        let first = file.recording.as_ref().map_or(Level::Thread, |recording| recording.level);
        let levels = level_ranges(&level_changes, first, file.range().end);
        let tokens = tokens(&decodes, &ubatches);
        let graph_span_index = graph_spans.iter().enumerate().map(|(index, row)| (row.id, index)).collect();
        Ok(Self {
            file,
            decodes,
            ubatches,
            graph_spans,
            losses,
            level_changes,
            levels,
            marks,
            tokens,
            warnings,
            graph_span_index,
            spans: OnceLock::new(),
        })
    }

    /// Decodes all op spans, on all cores. Does nothing when they are loaded.
    /// Damaged blocks are left out and reported by [`Trace::all_warnings`].
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` returned `false`.
    pub fn load_spans(&self, progress: LoadProgress<'_>) -> Result<()> {
        if self.spans.get().is_some() {
            return Ok(());
        }
        let blocks: Vec<BlockInfo> = self.file.blocks_of::<OpSpans>().copied().collect();
        let done = AtomicUsize::new(0);
        let read = blocks.par_iter().map(|block| {
            if !progress(done.fetch_add(1, Ordering::Relaxed) as f32 / blocks.len() as f32) {
                return Err(Error::Cancelled);
            }
            let spans = self
                .file
                .read::<OpSpans>(block, ColumnSet::ALL)
                .map(|table| table.spans(block.range).collect());
            Ok((*block, spans.ok()))
        });
        let read: Vec<(BlockInfo, Option<Vec<OpSpan>>)> = read.collect::<Result<_>>()?;
        let mut lanes: Vec<Lane> = Vec::new();
        let mut warnings = Vec::new();
        for (block, spans) in read {
            let Some(spans) = spans else {
                warnings.push(Warning::Unreadable { what: "op spans", offset: block.offset });
                continue;
            };
            match lanes.iter_mut().find(|lane| lane.id == block.lane) {
                Some(lane) => lane.spans.extend(spans),
                None => lanes.push(Lane { id: block.lane, spans, ..Lane::default() }),
            }
        }
        lanes.sort_by_key(|lane| lane.id);
        lanes.par_iter_mut().for_each(|lane| {
            // A hostile file may hold blocks in any order.
            if !lane.spans.is_sorted_by_key(|span| span.begin) {
                lane.spans.sort_by_key(|span| span.begin);
            }
            lane.index = crate::fold::LaneIndex::new(&lane.spans);
        });
        // Whoever came first has loaded the same.
        let _ = self.spans.set(Loaded { lanes, warnings });
        Ok(())
    }

    /// Whether op spans are loaded.
    pub fn is_loaded(&self) -> bool {
        self.spans.get().is_some()
    }

    /// The lanes, by `ith`; none before [`Trace::load_spans`].
    pub fn lanes(&self) -> &[Lane] {
        self.spans.get().map_or(&[], |loaded| &loaded.lanes)
    }

    /// The lane of one `ith`.
    pub fn lane(&self, id: u32) -> Option<&Lane> {
        self.lanes().iter().find(|lane| lane.id == id)
    }

    /// Ids of all lanes, known before spans are loaded.
    pub fn lane_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.file.blocks_of::<OpSpans>().map(|block| block.lane).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Number of op spans in the file.
    pub fn op_span_count(&self) -> u64 {
        self.file.blocks_of::<OpSpans>().map(|block| u64::from(block.rows)).sum()
    }

    /// Warnings of opening and of loading.
    pub fn all_warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().chain(self.spans.get().into_iter().flat_map(|loaded| &loaded.warnings))
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
