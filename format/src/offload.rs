//! What the scheduler sends to which backend: runs, splits, copies, waits.
//!
//! ```text
//! scheduler run ├──────────────────────────────────────────────────────────┤
//!    copies       ├┤   (inputs of the first split)      ├┤ (of the second)
//!    splits           ├── backend 1: nodes 0..300 ──┤       ├─ backend 0 ─┤
//!    waits                                        ├──────┤
//! ```
//!
//! All times are those of calls on the host. What a device does in between is
//! bounded by them, not measured.

use crate::block::{BlockHead, EncodedColumn};
use crate::column::Preference;
use crate::constants::{NO_LANE, kind};
use crate::tables::{self, ColumnSet, ColumnSpec, Table, convert, table};
use crate::{BlockInfo, Nanos, Result, TimeRange, TraceFile};

table! {
    /// Parts of a graph that one backend computes.
    Splits of
    /// One part: a call of a backend's `graph_compute`. Of a device that computes
    /// on its own, the call returns before the device is done.
    Split, kind::SPLITS, "splits";
    /// Number by which copies refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Entry of the call.
    1 begin: Nanos as Delta,
    /// Return of the call.
    2 end: Nanos as Delta,
    /// [`SchedulerRun::id`]; [`crate::constants::NONE`] when it is of none.
    3 run: u32 as Delta,
    /// Index into [`crate::meta::Recording::backends`]; [`crate::constants::NONE`]
    /// when unknown.
    4 backend: u32 as Runs,
    /// [`crate::meta::Graph::id`] of its nodes; [`crate::constants::NONE`] when they
    /// could not be read.
    5 graph: u32 as Runs,
    /// Place of its first node in the graph that the scheduler was given;
    /// [`crate::constants::NONE`] when unknown.
    6 first_node: u32 as Runs,
    /// Number of its nodes.
    7 nodes: u32 as Runs,
    /// [`crate::tables::GraphSpan::id`] of the CPU's computation inside of it;
    /// [`crate::constants::NONE`] when there was none.
    8 graph_span: u32 as Delta,
    /// Kernel thread that called.
    9 tid: u32 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    10 process: u32 as Runs,
    /// 1 when events of its time were lost.
    11 touched_by_loss: u8 as Runs,
}

table! {
    /// Calls that copy the content of a tensor.
    Copies of
    /// One call; those that it makes itself are part of it.
    Copy, kind::COPIES, "copies";
    /// Entry of the call.
    0 begin: Nanos as Delta,
    /// Return of the call. An asynchronous one returns before the copy is done.
    1 end: Nanos as Delta,
    /// [`CopyCall`] as a number.
    2 call: u8 as Runs,
    /// [`Direction`] as a number.
    3 direction: u8 as Runs,
    /// Backend whose device the source's memory is of: index into
    /// [`crate::meta::Recording::backends`]; [`crate::constants::NONE`] when it is
    /// none's or unknown.
    4 source: u32 as Runs,
    /// The same of the target's memory.
    5 target: u32 as Runs,
    /// The source's kind of memory, as the target names it, such as `Vulkan0` or
    /// `CPU`: index into the strings; 0 when it has no name or is unknown.
    6 source_memory: u32 as Runs,
    /// The same of the target's memory.
    7 target_memory: u32 as Runs,
    /// Bytes copied; between tensors with gaps these count, too.
    8 bytes: u64 as Planes,
    /// Name of the tensor: index into the strings; 0 when it has none.
    9 tensor: u32 as Planes,
    /// [`Split::id`] of the split that it is an input of; [`crate::constants::NONE`]
    /// when it is of none.
    10 split: u32 as Delta,
    /// [`SchedulerRun::id`]; [`crate::constants::NONE`] when it is of none.
    11 run: u32 as Delta,
    /// Kernel thread that called.
    12 tid: u32 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    13 process: u32 as Runs,
    /// 1 when events of its time were lost.
    14 touched_by_loss: u8 as Runs,
}

table! {
    /// Waits for backends.
    Syncs of
    /// A call of a backend's `synchronize`: until the backend is done with all that
    /// it was given.
    Sync, kind::SYNCS, "waits for backends";
    /// Entry of the call.
    0 begin: Nanos as Delta,
    /// Return of the call.
    1 end: Nanos as Delta,
    /// Index into [`crate::meta::Recording::backends`]; [`crate::constants::NONE`]
    /// when unknown.
    2 backend: u32 as Runs,
    /// [`SchedulerRun::id`]; [`crate::constants::NONE`] when it is of none.
    3 run: u32 as Delta,
    /// Kernel thread that called.
    4 tid: u32 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    5 process: u32 as Runs,
    /// 1 when events of its time were lost.
    6 touched_by_loss: u8 as Runs,
}

table! {
    /// Graphs that the scheduler cut into splits and gave to backends.
    SchedulerRuns of
    /// One call of `ggml_backend_sched_graph_compute_async`.
    SchedulerRun, kind::SCHEDULER_RUNS, "scheduler runs";
    /// Number by which splits, copies and waits refer to it; counts from 0.
    0 id: u32 as Delta,
    /// Entry of the call.
    1 begin: Nanos as Delta,
    /// Return of the call.
    2 end: Nanos as Delta,
    /// [`crate::tables::Ubatch::id`]; [`crate::constants::NONE`] when unknown.
    3 ubatch: u32 as Delta,
    /// Kernel thread that called.
    4 tid: u32 as Runs,
    /// Index into [`crate::meta::Recording::processes`].
    5 process: u32 as Runs,
    /// 1 when events of its time were lost.
    6 touched_by_loss: u8 as Runs,
}

/// Which function copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CopyCall {
    /// Not known.
    Unknown = 0,
    /// From tensor to tensor.
    Copy = 1,
    /// From tensor to tensor, by a backend, which need not be done on return.
    CopyAsync = 2,
    /// From the program's memory to a tensor.
    Set = 3,
    /// The same, asynchronous.
    SetAsync = 4,
    /// From a tensor to the program's memory.
    Get = 5,
    /// The same, asynchronous.
    GetAsync = 6,
}

impl CopyCall {
    /// From the number in [`Copy::call`].
    pub fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Copy,
            2 => Self::CopyAsync,
            3 => Self::Set,
            4 => Self::SetAsync,
            5 => Self::Get,
            6 => Self::GetAsync,
            _ => Self::Unknown,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Copy => "copy",
            Self::CopyAsync => "copy, asynchronous",
            Self::Set => "set",
            Self::SetAsync => "set, asynchronous",
            Self::Get => "get",
            Self::GetAsync => "get, asynchronous",
        }
    }
}

/// Between which kinds of memory a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// One end is not known.
    Unknown = 0,
    /// Within memory of the host.
    HostToHost = 1,
    /// To a device.
    HostToDevice = 2,
    /// From a device.
    DeviceToHost = 3,
    /// Between devices, or within one.
    DeviceToDevice = 4,
}

impl Direction {
    /// All of them, by number.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::HostToHost, Self::HostToDevice, Self::DeviceToHost, Self::DeviceToDevice];

    /// From the number in [`Copy::direction`].
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Between ends of which it is known, or not, whether they are the host's.
    pub fn between(source_is_host: Option<bool>, target_is_host: Option<bool>) -> Self {
        match (source_is_host, target_is_host) {
            (Some(true), Some(true)) => Self::HostToHost,
            (Some(true), Some(false)) => Self::HostToDevice,
            (Some(false), Some(true)) => Self::DeviceToHost,
            (Some(false), Some(false)) => Self::DeviceToDevice,
            _ => Self::Unknown,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::HostToHost => "host to host",
            Self::HostToDevice => "host to device",
            Self::DeviceToHost => "device to host",
            Self::DeviceToDevice => "device to device",
        }
    }
}

/// Declares an enum of the rows of several tables, what buffers and writes them, and what
/// reads them. Each has `begin`, `end` and `touched_by_loss`.
macro_rules! rows {
    ($rows:ident, $tables:ident; $($variant:ident $field:ident: $row:ident of $table:ident, $kind:path;)+) => {
        /// A row of any table of this module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the tables are described")]
        pub enum $rows { $( $variant($row), )+ }

        impl $rows {
            /// When it happened.
            pub fn range(&self) -> TimeRange {
                match self { $( Self::$variant(row) => TimeRange::new(row.begin, row.end), )+ }
            }

            /// Marks it as touched by a loss.
            pub fn touch(&mut self) {
                match self { $( Self::$variant(row) => row.touched_by_loss = 1, )+ }
            }
        }

        /// Rows of all tables of this module that wait to be written.
        #[derive(Debug, Default)]
        pub(crate) struct $tables { $( $field: ($table, Option<TimeRange>), )+ }

        impl $tables {
            pub(crate) fn push(&mut self, row: $rows) {
                let range = row.range();
                let cover = |all: &mut Option<TimeRange>| {
                    let all = all.get_or_insert(range);
                    *all = TimeRange::new(all.begin.min(range.begin), all.end.max(range.end));
                };
                match row { $( $rows::$variant(row) => {
                    cover(&mut self.$field.1);
                    self.$field.0.push(row);
                } )+ }
            }

            /// Writes everything that waits; rows that cannot be written stay.
            pub(crate) fn write(&mut self, write: &mut WriteBlock<'_>) -> Result<()> {
                $( if let (rows, Some(range)) = (&mut self.$field.0, self.$field.1) {
                    let head =
                        BlockHead { kind: $table::KIND, lane: NO_LANE, rows: rows.len() as u32, range };
                    write(&head, &tables::encode(rows))?;
                    rows.clear();
                    self.$field.1 = None;
                } )+
                Ok(())
            }
        }

        /// Name of a table of this module, by kind of block.
        pub fn table_name(kind: u16) -> Option<&'static str> {
            match kind { $( $kind => Some($table::NAME), )+ _ => None }
        }

        /// Rows of a block of any table of this module; `None` for another kind.
        ///
        /// # Errors
        /// When the block cannot be read.
        pub fn read_rows(file: &TraceFile, info: &BlockInfo) -> Option<Result<Vec<$rows>>> {
            match info.kind {
                $( $kind => Some(file.read::<$table>(info, ColumnSet::ALL)
                    .map(|table| table.rows().map($rows::$variant).collect())), )+
                _ => None,
            }
        }
    };
}

pub(crate) use rows;

pub(crate) type WriteBlock<'a> = dyn FnMut(&BlockHead, &[EncodedColumn]) -> Result<()> + 'a;

rows! {
    OffloadRow, OffloadTables;
    Split splits: Split of Splits, kind::SPLITS;
    Copy copies: Copy of Copies, kind::COPIES;
    Sync syncs: Sync of Syncs, kind::SYNCS;
    Run runs: SchedulerRun of SchedulerRuns, kind::SCHEDULER_RUNS;
}
