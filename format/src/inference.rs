//! What goes on around graphs: sequences, the KV cache, calls, speculation, tokens.

use crate::block::{BlockHead, EncodedColumn};
use crate::column::Preference;
use crate::constants::{NO_LANE, kind};
use crate::tables::{self, ColumnSet, ColumnSpec, Table, convert, table};
use crate::{BlockInfo, Nanos, Result, TimeRange, TraceFile};

table! {
    /// Which sequences each micro-batch has.
    SequenceRuns of
    /// Tokens of a micro-batch that follow each other in one sequence.
    SequenceRun, kind::SEQUENCE_RUNS, "sequence runs";
    /// Entry of the micro-batch.
    0 time: Nanos as Delta,
    /// [`crate::tables::Ubatch::id`].
    1 ubatch: u32 as Delta,
    /// Sequence id; for a server the number of its slot.
    2 sequence: u32 as Planes,
    /// Position of the first token in its sequence.
    3 position: u32 as Planes,
    /// How many tokens, at consecutive positions.
    4 tokens: u32 as Runs,
    /// How many of them have an output; [`crate::constants::NONE`] when the build does not tell.
    5 outputs: u32 as Runs,
    /// How many further sequences share these tokens, which are not named; 255 for
    /// that many or more.
    6 further: u8 as Runs,
}

table! {
    /// Operations on KV caches that the program asked for.
    KvOperations of
    /// One operation.
    KvOperationRow, kind::KV_OPERATIONS, "KV operations";
    /// When it was asked for.
    0 time: Nanos as Delta,
    /// Kernel thread that called.
    1 tid: u32 as Runs,
    /// [`KvOperation`] as a number.
    2 operation: u8 as Planes,
    /// Which KV cache, numbered by first operation.
    3 memory: u32 as Runs,
    /// Context that it belongs to, as in [`crate::tables::Decode`]; [`crate::constants::NONE`] when unknown.
    4 context: u32 as Runs,
    /// Sequence id; [`ALL_SEQUENCES`] for all, [`crate::constants::NONE`] when unknown.
    5 sequence: u32 as Planes,
    /// First position; 0 from the first.
    6 begin: u32 as Planes,
    /// Position after the last; [`crate::constants::NONE`] to the last.
    7 end: u32 as Planes,
    /// What is added, divided by, or the sequence copied to, as the two's complement
    /// of an `i32`; [`UNKNOWN_VALUE`] when unknown.
    8 value: u32 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    9 process: u32 as Runs,
}

table! {
    /// Calls that take time between micro-batches, and those that load and free.
    Calls of
    /// One call.
    Call, kind::CALLS, "calls";
    /// Entry of the call.
    0 begin: Nanos as Delta,
    /// Return of the call.
    1 end: Nanos as Delta,
    /// [`CallKind`] as a number.
    2 kind: u8 as Planes,
    /// Kernel thread that called.
    3 tid: u32 as Runs,
    /// Which context, as in [`crate::tables::Decode`]; [`crate::constants::NONE`] when it has none or it is unknown.
    4 context: u32 as Runs,
    /// What [`CallKind::argument`] says; [`crate::constants::NONE`] when unknown.
    5 argument: u32 as Planes,
    /// What [`CallKind::result`] says; [`UNKNOWN_RESULT`] when unknown.
    6 result: u64 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    7 process: u32 as Runs,
}

table! {
    /// Rounds of speculative decoding.
    Speculations of
    /// One round: a draft, and how much of it was right.
    Speculation, kind::SPECULATIONS, "speculation";
    /// When the program said how many were accepted.
    0 time: Nanos as Delta,
    /// Kernel thread that said it.
    1 tid: u32 as Runs,
    /// Sequence id.
    2 sequence: u32 as Planes,
    /// The micro-batch that verified the draft; [`crate::constants::NONE`] when unknown.
    3 ubatch: u32 as Delta,
    /// Tokens of the draft that were verified; [`crate::constants::NONE`] when unknown.
    4 drafted: u32 as Planes,
    /// How many of them the target model agreed with.
    5 accepted: u32 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    6 process: u32 as Runs,
}

table! {
    /// Ids of tokens, from which a prompt can be read: only when they were asked for.
    Tokens of
    /// One token.
    TokenRow, kind::TOKENS, "tokens";
    /// Entry of the micro-batch, or return of the sampling call.
    0 time: Nanos as Delta,
    /// The micro-batch it went into; [`crate::constants::NONE`] for one that was sampled.
    1 ubatch: u32 as Runs,
    /// Its place in the micro-batch; [`crate::constants::NONE`] for one that was sampled.
    2 index: u32 as Delta,
    /// Id in the model's vocabulary.
    3 token: u32 as Planes,
    /// Kernel thread that called.
    4 tid: u32 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    5 process: u32 as Runs,
}

/// [`KvOperationRow::sequence`] for all sequences.
pub const ALL_SEQUENCES: u32 = u32::MAX - 1;
/// [`KvOperationRow::value`] that is not known.
pub const UNKNOWN_VALUE: u32 = 0x8000_0000;
/// [`Call::result`] that is not known, or not told.
pub const UNKNOWN_RESULT: u64 = u64::MAX;

/// What is done to a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KvOperation {
    /// Not known.
    Unknown = 0,
    /// Positions of a sequence are forgotten.
    Remove = 1,
    /// Positions of a sequence belong to another one, too.
    Copy = 2,
    /// All other sequences are forgotten.
    Keep = 3,
    /// Positions are moved.
    Add = 4,
    /// Positions are divided.
    Divide = 5,
    /// Everything is forgotten.
    Clear = 6,
}

impl KvOperation {
    /// All of them, by number.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Remove, Self::Copy, Self::Keep, Self::Add, Self::Divide, Self::Clear];

    /// From the number in [`KvOperationRow::operation`].
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Remove => "remove",
            Self::Copy => "copy",
            Self::Keep => "keep",
            Self::Add => "shift",
            Self::Divide => "divide",
            Self::Clear => "clear",
        }
    }
}

/// Calls that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallKind {
    /// Not known.
    Unknown = 0,
    /// Chooses the next token. Argument: which output of the batch, below 0 from the end.
    Sample = 1,
    /// Cuts text into tokens. Argument: bytes of text; result: tokens, or below 0 how many did not fit.
    Tokenize = 2,
    /// Loads a model. Result: 1 when it is loaded, 0 when that failed.
    LoadModel = 3,
    /// Makes a context. Result: 1 when it is made, 0 when that failed.
    NewContext = 4,
    /// Frees a context.
    FreeContext = 5,
    /// Frees a model.
    FreeModel = 6,
    /// Copies a context's state out. Argument: the sequence; result: bytes.
    SaveState = 7,
    /// Puts it back. Argument: the sequence; result: bytes, 0 when that failed.
    LoadState = 8,
    /// Drafts tokens.
    Draft = 9,
}

impl CallKind {
    /// All of them, by number.
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Sample,
        Self::Tokenize,
        Self::LoadModel,
        Self::NewContext,
        Self::FreeContext,
        Self::FreeModel,
        Self::SaveState,
        Self::LoadState,
        Self::Draft,
    ];

    /// From the number in [`Call::kind`].
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Sample => "sample",
            Self::Tokenize => "tokenize",
            Self::LoadModel => "load model",
            Self::NewContext => "new context",
            Self::FreeContext => "free context",
            Self::FreeModel => "free model",
            Self::SaveState => "save state",
            Self::LoadState => "load state",
            Self::Draft => "draft",
        }
    }

    /// What [`Call::argument`] is, when it is anything.
    pub fn argument(self) -> Option<&'static str> {
        match self {
            Self::Sample => Some("output"),
            Self::Tokenize => Some("bytes of text"),
            Self::SaveState | Self::LoadState => Some("sequence"),
            _ => None,
        }
    }

    /// What [`Call::result`] is, when it is anything.
    pub fn result(self) -> Option<&'static str> {
        match self {
            Self::Tokenize => Some("tokens"),
            Self::LoadModel | Self::NewContext => Some("succeeded"),
            Self::SaveState | Self::LoadState => Some("bytes"),
            _ => None,
        }
    }
}

/// A row of any table of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the tables are described")]
pub enum InferenceRow {
    Sequence(SequenceRun),
    Kv(KvOperationRow),
    Call(Call),
    Speculation(Speculation),
    Token(TokenRow),
}

impl InferenceRow {
    /// When it happened.
    pub fn range(&self) -> TimeRange {
        let at = |time| TimeRange::new(time, time);
        match self {
            Self::Sequence(row) => at(row.time),
            Self::Kv(row) => at(row.time),
            Self::Call(row) => TimeRange::new(row.begin, row.end),
            Self::Speculation(row) => at(row.time),
            Self::Token(row) => at(row.time),
        }
    }
}

/// Rows of all tables of this module that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct InferenceTables {
    sequences: Buffered<SequenceRuns>,
    kv: Buffered<KvOperations>,
    calls: Buffered<Calls>,
    speculations: Buffered<Speculations>,
    tokens: Buffered<Tokens>,
}

#[derive(Debug, Default)]
struct Buffered<T> {
    rows: T,
    range: Option<TimeRange>,
}

impl<T: Table> Buffered<T> {
    fn cover(&mut self, range: TimeRange) -> &mut T {
        let all = self.range.get_or_insert(range);
        *all = TimeRange::new(all.begin.min(range.begin), all.end.max(range.end));
        &mut self.rows
    }

    /// Writes the rows; those that cannot be written stay.
    fn write(&mut self, write: &mut WriteBlock<'_>) -> Result<()> {
        if let Some(range) = self.range {
            let head = BlockHead { kind: T::KIND, lane: NO_LANE, rows: self.rows.len() as u32, range };
            write(&head, &tables::encode(&self.rows))?;
            self.rows.clear();
            self.range = None;
        }
        Ok(())
    }
}

type WriteBlock<'a> = dyn FnMut(&BlockHead, &[EncodedColumn]) -> Result<()> + 'a;

impl InferenceTables {
    pub(crate) fn push(&mut self, row: InferenceRow) {
        let range = row.range();
        match row {
            InferenceRow::Sequence(row) => self.sequences.cover(range).push(row),
            InferenceRow::Kv(row) => self.kv.cover(range).push(row),
            InferenceRow::Call(row) => self.calls.cover(range).push(row),
            InferenceRow::Speculation(row) => self.speculations.cover(range).push(row),
            InferenceRow::Token(row) => self.tokens.cover(range).push(row),
        }
    }

    /// Writes everything that waits.
    pub(crate) fn write(&mut self, write: &mut WriteBlock<'_>) -> Result<()> {
        self.sequences.write(write)?;
        self.kv.write(write)?;
        self.calls.write(write)?;
        self.speculations.write(write)?;
        self.tokens.write(write)
    }
}

/// Name of a table of this module, by kind of block.
pub fn table_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        kind::SEQUENCE_RUNS => SequenceRuns::NAME,
        kind::KV_OPERATIONS => KvOperations::NAME,
        kind::CALLS => Calls::NAME,
        kind::SPECULATIONS => Speculations::NAME,
        kind::TOKENS => Tokens::NAME,
        _ => return None,
    })
}

/// Rows of a block of any table of this module; `None` for another kind.
///
/// # Errors
/// When the block cannot be read.
pub fn read_rows(file: &TraceFile, info: &BlockInfo) -> Option<Result<Vec<InferenceRow>>> {
    macro_rules! rows {
        ($table:ident as $row:ident) => {
            file.read::<$table>(info, ColumnSet::ALL)
                .map(|table| table.rows().map(InferenceRow::$row).collect())
        };
    }
    Some(match info.kind {
        kind::SEQUENCE_RUNS => rows!(SequenceRuns as Sequence),
        kind::KV_OPERATIONS => rows!(KvOperations as Kv),
        kind::CALLS => rows!(Calls as Call),
        kind::SPECULATIONS => rows!(Speculations as Speculation),
        kind::TOKENS => rows!(Tokens as Token),
        _ => return None,
    })
}
