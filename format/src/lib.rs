//! The `.llmtrace` file: what its bytes mean, how to write it, how to read it.
//!
//! ```text
//! ┌────────┬───────┬───────┬───────┬─ … ─┬────────┬─────────┐
//! │ header │ block │ block │ block │     │ footer │ trailer │
//! └────────┴───────┴───────┴───────┴─ … ─┴────────┴─────────┘
//!            │ fixed header │ column directory │ column │ column │ …
//! ```
//!
//! A file is append-only. Every [`block`] names its table, lane, row
//! count and time range, and carries checksums, so that a file cut off in the
//! middle of a write still opens: the reader then scans the blocks. The footer
//! is an index of the blocks plus a [`summary`] of each lane, so that a
//! complete picture can be drawn before any block is decoded; between the two,
//! the blocks of a [`segment`] are summed up by time and by node.
//!
//! The crate refuses to interpret: no statistics, no opinions about operators,
//! no kernel records. It treats every byte it reads as hostile: lengths are
//! checked against what is there before memory is allocated, and nothing
//! panics. The byte-level specification is `docs/format.md`.

pub mod block;
mod buckets;
pub mod check;
pub mod column;
pub mod constants;
pub mod counters;
mod error;
mod footer;
mod header;
pub mod inference;
pub mod machine;
pub mod meta;
mod nodes;
pub mod offload;
mod problem;
mod raw;
mod reader;
mod repair;
pub mod segment;
mod sibling;
mod small;
mod structured;
pub mod summary;
pub mod tables;
mod writer;

pub use block::BlockInfo;
pub use error::{Error, Result, Warning};
pub use header::Header;
pub use problem::{Problem, ProblemKind};
pub use raw::RawBlock;
pub use reader::{ScanProgress, Source, TraceFile};
pub use tables::{ColumnSet, OpSpan, OpSpans, Table};
pub use writer::{MAX_LIVE_GRAPHS, Writer};

/// Nanoseconds since the start of the trace ([`Header::start_monotonic_nanos`]).
pub type Nanos = u64;

/// A half-open range of trace time, in nanoseconds since the start of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// First nanosecond inside the range.
    pub begin: Nanos,
    /// First nanosecond after the range.
    pub end: Nanos,
}

impl TimeRange {
    /// The range from `begin` to `end`; empty when `end <= begin`.
    pub fn new(begin: Nanos, end: Nanos) -> Self {
        Self { begin, end: end.max(begin) }
    }

    /// Length in nanoseconds.
    pub fn nanos(self) -> u64 {
        self.end.saturating_sub(self.begin)
    }

    /// Whether the two ranges share a nanosecond.
    pub fn overlaps(self, other: Self) -> bool {
        self.begin < other.end && other.begin < self.end
    }

    /// Whether `time` lies inside.
    pub fn contains(self, time: Nanos) -> bool {
        self.begin <= time && time < self.end
    }
}
