//! All tables of the format, in one list.

use crate::file::{Block, Column, File};
use llmtrace_format::column;
use llmtrace_format::constants::{MAX_ROWS, NO_LANE, kind};
use llmtrace_format::counters::{CounterSums, OpCounters, ProcessSamples, SystemSamples};
use llmtrace_format::inference::{Calls, KvOperations, SequenceRuns, Speculations, Tokens};
use llmtrace_format::machine::{BlockReads, Faults, Frequencies, ThreadStates};
use llmtrace_format::offload::{Copies, SchedulerRuns, Splits, Syncs};
use llmtrace_format::tables::{
    Buckets, Decodes, ExecutionTotals, Experts, GraphSpans, LevelChanges, Losses, Marks, NodeTotals,
    Selections, Threads, Ubatches,
};
use llmtrace_format::{BlockInfo, ColumnSet, OpSpans, Result, Source, Table, TraceFile};

macro_rules! tables {
    ($($table:ident),+ $(,)?) => {
        /// Kind and name of every table.
        pub const ALL: &[(u16, &str)] = &[ $( ($table::KIND, $table::NAME), )+ ];

        /// Decodes a block of whichever table; gives the number of its rows. `None` for blocks
        /// that are no table.
        pub fn decode(file: &TraceFile, block: &BlockInfo) -> Option<Result<usize>> {
            $( if block.kind == $table::KIND {
                return Some(file.read::<$table>(block, ColumnSet::ALL).map(|table| table.len()));
            } )+
            None
        }

        /// Writes rows of made-up values in every table and reads them again.
        pub fn round_trip(values: &mut dyn FnMut() -> u64) {
            $( round_trip_of::<$table>(values); )+
        }
    };
}

tables! {
    Threads, Decodes, Ubatches, GraphSpans, OpSpans, Buckets, NodeTotals, ExecutionTotals, Losses,
    LevelChanges, Marks, Selections, Experts, SequenceRuns, KvOperations, Calls, Speculations, Tokens,
    Splits, Copies, Syncs, SchedulerRuns, OpCounters, CounterSums, ProcessSamples, SystemSamples,
    ThreadStates, Frequencies, Faults, BlockReads,
}

/// A block of a table, with values as they come.
pub fn block_of<T: Table>(rows: usize, values: &mut dyn FnMut() -> u64) -> (Block, T) {
    let mut table = T::default();
    let mut columns = Vec::new();
    for (index, spec) in T::COLUMNS.iter().enumerate() {
        let wanted: Vec<u64> = (0..rows).map(|_| values()).collect();
        // Narrow columns refuse what does not fit.
        let fitting = [64, 32, 16, 8].into_iter().find(|bits| {
            let narrow = wanted.iter().map(|value| value & (u64::MAX >> (64 - bits))).collect();
            table.set_column(index, narrow)
        });
        assert!(fitting.is_some(), "a column takes bytes at least");
        let mut kept = Vec::new();
        table.column(index, &mut kept);
        let mut raw = Vec::new();
        let encoding = column::encode(&kept, spec.preference, &mut raw);
        columns.push(Column { id: spec.id, encoding, raw, ..Column::default() });
    }
    let lane = if T::KIND == kind::OP_SPANS { 0 } else { NO_LANE };
    let block =
        Block { kind: T::KIND, version: 1, lane, rows: rows as u32, begin: 0, end: u64::MAX, columns };
    (block, table)
}

fn round_trip_of<T: Table>(values: &mut dyn FnMut() -> u64) {
    let rows = (values() % 40) as usize;
    assert!(rows < MAX_ROWS as usize);
    let (block, written) = block_of::<T>(rows, values);
    // Dictionaries are read when the file is opened, which says the same.
    let opened = TraceFile::open(Source::Bytes(File::of(vec![block]).write()));
    let file = opened.unwrap_or_else(|error| panic!("does not open: {error}"));
    let info = file.blocks_of::<T>().next().unwrap_or_else(|| panic!("{} is gone", T::NAME));
    let read = file.read::<T>(info, ColumnSet::ALL);
    let read = read.unwrap_or_else(|error| panic!("{} cannot be read: {error}", T::NAME));
    assert_eq!(read.len(), rows, "{}", T::NAME);
    for index in 0..T::COLUMNS.len() {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        written.column(index, &mut expected);
        read.column(index, &mut found);
        assert_eq!(expected, found, "column {index} of {}", T::NAME);
    }
}
