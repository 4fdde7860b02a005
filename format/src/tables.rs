//! The tables: rows as the reader gives them, columns as the file stores them.
//!
//! Each table is declared once; struct, encoder, decoder and column list come
//! from the declaration.

use crate::block::EncodedColumn;
use crate::column::{self, Preference};
use crate::constants::{encoding, kind};
use crate::{Nanos, TimeRange};
use std::collections::HashMap;

/// Which columns of a table to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSet(u64);

impl ColumnSet {
    /// Every column.
    pub const ALL: Self = Self(u64::MAX);

    /// Only the columns with these names; unknown names select nothing.
    pub fn only<T: Table>(names: &[&str]) -> Self {
        let ids = T::COLUMNS.iter().filter(|column| names.contains(&column.name));
        Self(ids.fold(0, |set, column| set | 1 << column.id))
    }

    fn contains(self, id: u16) -> bool {
        id < 64 && self.0 >> id & 1 == 1
    }
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSpec {
    /// Number in the file.
    pub id: u16,
    /// Name in the interface and in `docs/format.md`.
    pub name: &'static str,
    /// Preferred encoding.
    pub preference: Preference,
    /// Minor version of the format that added it.
    pub since: u16,
    /// What every row has in files of before.
    pub absent: u64,
}

/// A table: columns of equal length.
pub trait Table: Default {
    /// Block kind.
    const KIND: u16;
    /// Name for people.
    const NAME: &'static str;
    /// Its columns.
    const COLUMNS: &'static [ColumnSpec];

    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether it has no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all rows and keeps the memory.
    fn clear(&mut self);

    #[doc(hidden)]
    fn column(&self, index: usize, out: &mut Vec<u64>);

    #[doc(hidden)]
    fn set_column(&mut self, index: usize, values: Vec<u64>) -> bool;
}

pub(crate) fn encode<T: Table>(table: &T) -> Vec<EncodedColumn> {
    let mut values = Vec::with_capacity(table.len());
    let mut columns = Vec::with_capacity(T::COLUMNS.len());
    for (index, spec) in T::COLUMNS.iter().enumerate() {
        values.clear();
        table.column(index, &mut values);
        let mut bytes = Vec::new();
        let encoding = column::encode(&values, spec.preference, &mut bytes);
        columns.push(EncodedColumn { id: spec.id, encoding, bytes });
    }
    columns
}

/// Like [`encode`], with the encoding that zstd packs best: twice the work. Rows
/// `period` apart are alike.
pub(crate) fn encode_small<T: Table>(table: &T, period: Option<usize>) -> Vec<EncodedColumn> {
    let mut columns = encode(table);
    let mut values = Vec::with_capacity(table.len());
    for ((index, spec), column) in T::COLUMNS.iter().enumerate().zip(&mut columns) {
        if spec.preference != Preference::Planes || column.encoding != encoding::PLANES {
            continue;
        }
        values.clear();
        table.column(index, &mut values);
        let mut bytes = Vec::new();
        let found = period.and_then(|period| column::encode_periodic(&values, period, &mut bytes));
        if let Some(encoding) = found
            && column::packed(&bytes) < column::packed(&column.bytes)
        {
            (column.encoding, column.bytes) = (encoding, bytes);
        }
    }
    columns
}

/// Which of a table's columns are in `set`.
pub(crate) fn selected<T: Table>(set: ColumnSet) -> impl Iterator<Item = (usize, &'static ColumnSpec)> {
    T::COLUMNS.iter().enumerate().filter(move |(_, spec)| set.contains(spec.id))
}

pub(crate) fn convert<T: TryFrom<u64>>(values: Vec<u64>) -> Option<Vec<T>> {
    values.into_iter().map(|value| T::try_from(value).ok()).collect()
}

macro_rules! table {
    (
        $(#[$doc:meta])*
        $table:ident of $(#[$row_doc:meta])* $row:ident, $kind:expr, $name:literal;
        $(
            $(#[$column_doc:meta])*
            $id:literal $column:ident: $type:ty as $preference:ident $(since $minor:literal or $absent:expr)?,
        )+
    ) => {
        $(#[$row_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $row { $( $(#[$column_doc])* pub $column: $type, )+ }

        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $table { $( $(#[$column_doc])* pub $column: Vec<$type>, )+ }

        impl $table {
            /// Appends a row.
            #[inline]
            pub fn push(&mut self, row: $row) {
                $( self.$column.push(row.$column); )+
            }

            /// The row at `index`, when every column was decoded.
            #[inline]
            pub fn get(&self, index: usize) -> Option<$row> {
                Some($row { $( $column: *self.$column.get(index)?, )+ })
            }

            /// All rows, when every column was decoded.
            pub fn rows(&self) -> impl Iterator<Item = $row> + '_ {
                (0..self.len()).map_while(|index| self.get(index))
            }
        }

        impl Table for $table {
            const KIND: u16 = $kind;
            const NAME: &'static str = $name;
            const COLUMNS: &'static [ColumnSpec] = &[ $( ColumnSpec {
                id: $id,
                name: stringify!($column),
                preference: Preference::$preference,
                since: 0 $(+ $minor)?,
                absent: 0 $(+ $absent as u64)?,
            }, )+ ];

            #[inline]
            fn len(&self) -> usize {
                [ $( self.$column.len(), )+ ].into_iter().max().unwrap_or(0)
            }

            fn clear(&mut self) {
                $( self.$column.clear(); )+
            }

            fn column(&self, index: usize, out: &mut Vec<u64>) {
                let mut at = 0;
                $( if index == at { out.extend(self.$column.iter().map(|&value| u64::from(value))); } at += 1; )+
                debug_assert!(index < at);
            }

            fn set_column(&mut self, index: usize, values: Vec<u64>) -> bool {
                let mut at = 0;
                $(
                    if index == at {
                        let Some(converted) = convert(values) else { return false };
                        self.$column = converted;
                        return true;
                    }
                    at += 1;
                )+
                debug_assert!(index < at);
                false
            }
        }
    };
}
pub(crate) use table;

mod experts;
pub use experts::{Expert, Experts, Selection, SelectionStatus, Selections};

table! {
    /// Threads of the target that computed nodes.
    Threads of
    /// A worker: `ith` is its place in the thread pool and stays the same;
    /// engines may start a new kernel thread for every graph.
    Thread, kind::THREADS, "threads";
    /// Number by which op spans refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Place in the thread pool.
    1 ith: u32 as Planes,
    /// Kernel thread id, in the recording host's initial pid namespace.
    2 tid: u32 as Planes,
    /// Process id.
    3 pid: u32 as Runs,
}

table! {
    /// Calls of decode or encode.
    Decodes of
    /// One call that computes a batch of tokens.
    Decode, kind::DECODES, "decodes";
    /// Number by which ubatches refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Entry of the call.
    1 begin: Nanos as Delta,
    /// Return of the call.
    2 end: Nanos as Delta,
    /// Kernel thread that called.
    3 tid: u32 as Runs,
    /// Tokens in the batch; 0 when the build does not tell.
    4 tokens: u32 as Planes,
    /// 0 decode, 1 encode.
    5 is_encode: u8 as Runs,
    /// The call's result as the two's complement of an `int32_t`.
    6 result: u32 as Runs,
    /// Which context was called, in the order of their first calls;
    /// [`crate::constants::NONE`] when unknown.
    7 context: u32 as Runs since 1 or crate::constants::NONE,
    /// Index into [`crate::meta::Recording::processes`].
    8 process: u32 as Runs since 1 or 0,
}

table! {
    /// Micro-batches: what a decode call is cut into.
    Ubatches of
    /// One micro-batch, computed by one graph.
    Ubatch, kind::UBATCHES, "ubatches";
    /// Number by which graph spans refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Entry of the call.
    1 begin: Nanos as Delta,
    /// Return of the call.
    2 end: Nanos as Delta,
    /// The decode it belongs to; [`crate::constants::NONE`] when unknown.
    3 decode: u32 as Delta,
    /// Tokens in the micro-batch.
    4 tokens: u32 as Planes,
    /// Sequences in it.
    5 sequences: u32 as Runs,
    /// [`Phase`] as a number.
    6 phase: u8 as Runs,
}

table! {
    /// Graph computations on the CPU backend.
    GraphSpans of
    /// One run of one graph.
    GraphSpan, kind::GRAPH_SPANS, "graph spans";
    /// Number by which op spans refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Entry of the call.
    1 begin: Nanos as Delta,
    /// Return of the call.
    2 end: Nanos as Delta,
    /// [`crate::meta::Graph::id`]; [`crate::constants::NONE`] when its nodes
    /// could not be read.
    3 graph: u32 as Runs,
    /// Its micro-batch; [`crate::constants::NONE`] when unknown.
    4 ubatch: u32 as Delta,
    /// Threads that computed it.
    5 threads: u32 as Runs,
    /// Kernel thread that called.
    6 tid: u32 as Runs,
    /// 1 when events of its time were lost.
    7 touched_by_loss: u8 as Runs,
    /// Most probe hits of one of its threads, the calling one's included.
    8 probe_hits: u32 as Runs,
    /// 1 when begins of its nodes were inferred from arrivals at barriers.
    9 inferred_begins: u8 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    10 process: u32 as Runs since 1 or 0,
}

table! {
    /// Node executions of one lane, as stored: see [`OpSpan`] for whole rows.
    OpSpans of
    /// One row as stored.
    StoredOpSpan, kind::OP_SPANS, "op spans";
    /// Nanoseconds between the end of the row before (its wait included) and
    /// this row's begin; 0 for the first row, which begins with the block.
    0 gap: u64 as Planes,
    /// Nanoseconds from begin to the end of computing.
    1 compute: u64 as Planes,
    /// Nanoseconds from there until the last thread arrived at the barrier.
    2 wait: u64 as Planes,
    /// Index into [`crate::meta::Graph::tensors`].
    3 node: u32 as Delta,
    /// How many further nodes, from `node` on, the same kernel computed.
    4 fused: u32 as Runs,
    /// [`GraphSpan::id`].
    5 graph_span: u32 as Runs,
    /// [`Thread::id`].
    6 thread: u32 as Runs,
    /// CPU on which the node began.
    7 cpu: u32 as Runs,
    /// 1 when an event was lost that may have belonged to it.
    8 touched_by_loss: u8 as Runs,
}

table! {
    /// A segment of a lane in buckets of time; those that are empty are left out.
    Buckets of
    /// One bucket.
    Bucket, kind::BUCKETS, "buckets";
    /// Length of each bucket, a power of two; the same in all rows.
    0 nanos: u64 as Runs,
    /// Bucket i begins at trace time i times that.
    1 index: u64 as Delta,
    /// Nanoseconds of computing inside.
    2 compute: u64 as Planes,
    /// Nanoseconds of waiting inside.
    3 wait: u64 as Planes,
    /// Spans that begin inside.
    4 count: u32 as Planes,
    /// The longest computing of a span that begins inside.
    5 longest: u64 as Planes,
    /// The operator that computed longest inside: index into the strings; of several
    /// the lowest.
    6 op: u32 as Planes,
}

table! {
    /// A segment of a lane by node, in order of the first three columns.
    NodeTotals of
    /// All spans of a segment that computed one node.
    NodeTotal, kind::NODE_TOTALS, "node totals";
    /// [`crate::meta::Graph::id`]; [`crate::constants::NONE`] when unknown.
    0 graph: u32 as Runs,
    /// Index into [`crate::meta::Graph::tensors`].
    1 node: u32 as Delta,
    /// How many further nodes the same kernel computed.
    2 fused: u32 as Runs,
    /// Number of spans.
    3 spans: u64 as Runs,
    /// Nanoseconds of computing.
    4 compute: u64 as Planes,
    /// Nanoseconds of waiting.
    5 wait: u64 as Planes,
}

table! {
    /// All threads and the whole trace by node, in order of the first three columns.
    ExecutionTotals of
    /// All executions of one node: what the threads did for it in one graph run is one.
    ExecutionTotal, kind::EXECUTION_TOTALS, "execution totals";
    /// [`crate::meta::Graph::id`]; [`crate::constants::NONE`] when unknown.
    0 graph: u32 as Runs,
    /// Index into [`crate::meta::Graph::tensors`].
    1 node: u32 as Delta,
    /// How many further nodes the same kernel computed, at most, on any thread.
    2 fused: u32 as Runs,
    /// Number of executions.
    3 count: u64 as Runs,
    /// Nanoseconds of computing, summed over threads.
    4 compute: u64 as Planes,
    /// Nanoseconds of waiting, summed over threads.
    5 wait: u64 as Planes,
    /// From the first thread's begin to the last thread's compute end, summed.
    6 critical: u64 as Planes,
    /// When the first one began.
    7 first: Nanos as Delta,
    /// Lane of the thread that began it.
    8 lane: u32 as Runs,
}

table! {
    /// Events that were lost.
    Losses of
    /// Losses of one kind of event within a time range.
    Loss, kind::LOSSES, "losses";
    /// Not before.
    0 begin: Nanos as Delta,
    /// Not after.
    1 end: Nanos as Delta,
    /// Kernel event kind, as [`crate::tables::EVENT_KINDS`] names it.
    2 event: u32 as Planes,
    /// How many.
    3 count: u64 as Planes,
    /// CPU on which they happened; [`crate::constants::NONE`] when unknown.
    4 cpu: u32 as Planes since 1 or crate::constants::NONE,
}

table! {
    /// What was recorded from when on.
    LevelChanges of
    /// From `time` on, a process is recorded at `level`.
    LevelChange, kind::LEVEL_CHANGES, "level changes";
    /// When the probes were in place.
    0 time: Nanos as Delta,
    /// Index into [`crate::meta::Recording::processes`].
    1 process: u32 as Runs,
    /// [`crate::meta::Level`] as a number: 0 token, 1 graph, 2 op, 3 thread.
    2 level: u8 as Runs,
    /// 1 when begins of nodes are probed, 0 when arrivals at barriers tell them.
    3 begins: u8 as Runs,
    /// Operators are recorded for one token in so many; 1 for all.
    4 window: u32 as Runs,
    /// Why: index into the strings.
    5 reason: u32 as Runs,
}

table! {
    /// Moments worth finding again.
    Marks of
    /// One moment.
    Mark, kind::MARKS, "marks";
    /// When.
    0 time: Nanos as Delta,
    /// What it is: index into the strings.
    1 label: u32 as Planes,
}

/// Names of the kernel event kinds in [`Loss::event`].
pub const EVENT_KINDS: &[&str] = &[
    "none",
    "decode begin",
    "decode end",
    "ubatch begin",
    "ubatch end",
    "graph begin",
    "graph end",
    "op begin",
    "fused op begin",
    "barrier",
    "graph nodes",
    "process",
    "sequence run",
    "KV operation",
    "call begin",
    "call end",
    "draft accepted",
    "tokens",
    "experts",
    "scheduler begin",
    "scheduler end",
    "backends",
    "split begin",
    "split nodes",
    "split end",
    "copy begin",
    "copy ends",
    "copy name",
    "copy end",
    "wait begin",
    "wait end",
    "counters",
    "further counters",
    "thread off CPU",
    "thread on CPU",
    "thread woken",
    "thread ended",
    "name of a thread",
    "page fault",
    "block read",
];

/// What a micro-batch does for its sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not known.
    Unknown = 0,
    /// Reads a prompt: more tokens than sequences.
    Prefill = 1,
    /// Generates: one token for each sequence.
    Decode = 2,
    /// Runs an encoder.
    Encode = 3,
}

impl Phase {
    /// From the number in [`Ubatch::phase`].
    pub fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Prefill,
            2 => Self::Decode,
            3 => Self::Encode,
            _ => Self::Unknown,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Encode => "encode",
        }
    }
}

/// One node computed by one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpSpan {
    /// When the thread began the node.
    pub begin: Nanos,
    /// Nanoseconds of computing.
    pub compute: u64,
    /// Nanoseconds of waiting for the other threads at the closing barrier.
    pub wait: u64,
    /// Index into [`crate::meta::Graph::tensors`].
    pub node: u32,
    /// How many further nodes the same kernel computed.
    pub fused: u32,
    /// [`GraphSpan::id`].
    pub graph_span: u32,
    /// [`Thread::id`].
    pub thread: u32,
    /// CPU on which the node began.
    pub cpu: u32,
    /// Whether an event was lost that may have belonged to it.
    pub touched_by_loss: bool,
}

impl OpSpan {
    /// When the thread arrived at the barrier.
    pub fn compute_end(&self) -> Nanos {
        self.begin.saturating_add(self.compute)
    }

    /// When the last thread arrived.
    pub fn end(&self) -> Nanos {
        self.compute_end().saturating_add(self.wait)
    }
}

impl OpSpans {
    /// Appends a span that does not begin before `end_before`, where the row
    /// before it ended (or anything, for the first row).
    #[inline]
    pub(crate) fn push_span(&mut self, span: &OpSpan, end_before: Nanos) {
        let gap = if self.is_empty() { 0 } else { span.begin.saturating_sub(end_before) };
        self.push(StoredOpSpan {
            gap,
            compute: span.compute,
            wait: span.wait,
            node: span.node,
            fused: span.fused,
            graph_span: span.graph_span,
            thread: span.thread,
            cpu: span.cpu,
            touched_by_loss: span.touched_by_loss.into(),
        });
    }

    /// After how many rows the same nodes come again, most often.
    pub(crate) fn period(&self) -> Option<usize> {
        let mut last: HashMap<u32, usize> = HashMap::new();
        let mut distances: HashMap<usize, usize> = HashMap::new();
        for (row, &node) in self.node.iter().enumerate() {
            if let Some(before) = last.insert(node, row) {
                *distances.entry(row - before).or_default() += 1;
            }
        }
        distances.into_iter().max_by_key(|&(distance, count)| (count, distance)).map(|(distance, _)| distance)
    }

    /// The spans of a block whose header gives `range`; needs every column.
    pub fn spans(&self, range: TimeRange) -> impl Iterator<Item = OpSpan> + '_ {
        let mut end_before = range.begin;
        self.rows().map(move |row| {
            let span = OpSpan {
                begin: end_before.saturating_add(row.gap),
                compute: row.compute,
                wait: row.wait,
                node: row.node,
                fused: row.fused,
                graph_span: row.graph_span,
                thread: row.thread,
                cpu: row.cpu,
                touched_by_loss: row.touched_by_loss != 0,
            };
            end_before = span.end();
            span
        })
    }
}
