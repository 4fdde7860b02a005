//! Numbers that may never change once a file was written with them.
//! `tests/pinned.rs` holds them in place; retired numbers stay holes.

/// First eight bytes of every file.
pub const MAGIC: [u8; 8] = *b"LLMTRACE";
/// Last eight bytes of a file that was closed properly.
pub const END_MAGIC: [u8; 8] = *b"LLMTREND";
/// A reader refuses a file with a higher major version.
pub const VERSION_MAJOR: u16 = 1;
/// A reader skips what it does not know in a file with a higher minor version.
pub const VERSION_MINOR: u16 = 3;

/// Bytes of the file header.
pub const HEADER_LEN: usize = 40;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 24;
/// First four bytes of every block.
pub const BLOCK_MARKER: [u8; 4] = *b"\xABBLK";
/// Bytes of a block's fixed header, before its column directory.
pub const BLOCK_HEADER_LEN: usize = 48;
/// Bytes of one entry of the column directory.
pub const DIRECTORY_ENTRY_LEN: usize = 16;
/// Lane of a block that belongs to no lane.
pub const NO_LANE: u32 = u32::MAX;
/// A reference to nothing, in columns that hold row ids.
pub const NONE: u32 = u32::MAX;

/// Most rows a block may have.
pub const MAX_ROWS: u32 = 1 << 20;
/// Most columns a block may have.
pub const MAX_COLUMNS: usize = 64;
/// Most bytes of one decoded table column.
pub const MAX_COLUMN_BYTES: u32 = 16 << 20;
/// Most bytes of one decoded structured column.
pub const MAX_STRUCTURED_BYTES: u32 = 64 << 20;

/// Block kinds.
pub mod kind {
    /// [`crate::meta::Recording`]; the last one in the file holds.
    pub const RECORDING: u16 = 1;
    /// A list of strings; ids count on from the list before.
    pub const STRINGS: u16 = 2;
    /// One [`crate::meta::Graph`].
    pub const GRAPH: u16 = 3;
    /// [`crate::meta::Ending`].
    pub const ENDING: u16 = 4;
    /// [`crate::tables::Threads`].
    pub const THREADS: u16 = 8;
    /// [`crate::tables::Decodes`].
    pub const DECODES: u16 = 16;
    /// [`crate::tables::Ubatches`].
    pub const UBATCHES: u16 = 17;
    /// [`crate::tables::GraphSpans`].
    pub const GRAPH_SPANS: u16 = 18;
    /// [`crate::tables::OpSpans`].
    pub const OP_SPANS: u16 = 19;
    /// [`crate::tables::Buckets`].
    pub const BUCKETS: u16 = 24;
    /// [`crate::tables::NodeTotals`].
    pub const NODE_TOTALS: u16 = 25;
    /// [`crate::tables::ExecutionTotals`].
    pub const EXECUTION_TOTALS: u16 = 26;
    /// [`crate::tables::Losses`].
    pub const LOSSES: u16 = 32;
    /// [`crate::tables::LevelChanges`].
    pub const LEVEL_CHANGES: u16 = 33;
    /// [`crate::tables::Marks`].
    pub const MARKS: u16 = 34;
    /// [`crate::tables::Selections`].
    pub const SELECTIONS: u16 = 40;
    /// [`crate::tables::Experts`].
    pub const EXPERTS: u16 = 41;
    /// [`crate::inference::SequenceRuns`].
    pub const SEQUENCE_RUNS: u16 = 50;
    /// [`crate::inference::KvOperations`].
    pub const KV_OPERATIONS: u16 = 51;
    /// [`crate::inference::Calls`].
    pub const CALLS: u16 = 52;
    /// [`crate::inference::Speculations`].
    pub const SPECULATIONS: u16 = 53;
    /// [`crate::inference::Tokens`].
    pub const TOKENS: u16 = 54;
    /// [`crate::offload::Splits`].
    pub const SPLITS: u16 = 45;
    /// [`crate::offload::Copies`].
    pub const COPIES: u16 = 46;
    /// [`crate::offload::Syncs`].
    pub const SYNCS: u16 = 47;
    /// [`crate::offload::SchedulerRuns`].
    pub const SCHEDULER_RUNS: u16 = 48;
    /// [`crate::counters::OpCounters`].
    pub const OP_COUNTERS: u16 = 65;
    /// [`crate::counters::CounterSums`].
    pub const COUNTER_SUMS: u16 = 66;
    /// [`crate::counters::ProcessSamples`].
    pub const PROCESS_SAMPLES: u16 = 67;
    /// [`crate::counters::SystemSamples`].
    pub const SYSTEM_SAMPLES: u16 = 68;
    /// [`crate::machine::ThreadStates`].
    pub const THREAD_STATES: u16 = 60;
    /// [`crate::machine::Frequencies`].
    pub const FREQUENCIES: u16 = 61;
    /// [`crate::machine::Faults`].
    pub const FAULTS: u16 = 62;
    /// [`crate::machine::BlockReads`].
    pub const BLOCK_READS: u16 = 63;
    /// The footer of a file with so many blocks that its index takes several
    /// columns. A kind of its own, so that readers of before scan.
    pub const LONG_FOOTER: u16 = 0xFFFE;
    /// The footer.
    pub const FOOTER: u16 = 0xFFFF;

    /// Whether it is a footer, of either kind.
    pub fn is_footer(kind: u16) -> bool {
        matches!(kind, LONG_FOOTER | FOOTER)
    }

    /// Whether a reader decodes blocks of this kind when it opens a file.
    pub fn is_dictionary(kind: u16) -> bool {
        matches!(kind, RECORDING | STRINGS | GRAPH | ENDING | THREADS)
    }
}

/// Column encodings.
pub mod encoding {
    /// Byte planes of fixed-width integers.
    pub const PLANES: u8 = 0;
    /// One value for all rows.
    pub const CONSTANT: u8 = 1;
    /// Zigzag differences, as planes.
    pub const DELTA: u8 = 2;
    /// Runs: lengths and values, each as planes.
    pub const RUNS: u8 = 3;
    /// Differences to the median of the rows a whole number of periods away.
    pub const PERIODIC: u8 = 4;
    /// Differences to what another lane's block tells, since 1.2.
    pub const SIBLING: u8 = 5;
    /// bincode 2 (little endian, fixed-width integers).
    pub const STRUCTURED: u8 = 255;
}

/// Column compressions.
pub mod compression {
    /// Stored as it is.
    pub const NONE: u8 = 0;
    /// One zstd frame.
    pub const ZSTD: u8 = 1;
}
