//! References of rows to strings, processes and files: by the names of their columns, which mean
//! the same in every table.

use crate::constants::{NONE, kind};
use crate::counters::ProcessSamples;
use crate::inference::{Calls, KvOperations, Speculations, Tokens};
use crate::machine::{BlockReads, Faults, ThreadStates};
use crate::offload::{Copies, SchedulerRuns, Splits, Syncs};
use crate::problem::ProblemKind;
use crate::tables::{Buckets, Decodes, GraphSpans, LevelChanges, Marks};
use crate::{BlockInfo, ColumnSet, Table, TraceFile};

const STRINGS: &[&str] = &["label", "reason", "other", "source_memory", "target_memory"];
const PROCESS: &str = "process";
const FILE: &str = "file";

/// References of a block that lead nowhere, by kind of problem. Damaged blocks have none: their
/// damage is reported elsewhere.
pub(super) fn dangling(file: &TraceFile, info: &BlockInfo) -> Vec<(ProblemKind, u64)> {
    macro_rules! tables {
        ($($table:ident),+) => {
            match info.kind {
                $( <$table as Table>::KIND => of_table::<$table>(file, info), )+
                _ => Vec::new(),
            }
        };
    }
    tables!(
        Decodes,
        GraphSpans,
        LevelChanges,
        Marks,
        Buckets,
        KvOperations,
        Calls,
        Speculations,
        Tokens,
        Splits,
        Copies,
        Syncs,
        SchedulerRuns,
        ProcessSamples,
        ThreadStates,
        Faults,
        BlockReads
    )
}

fn of_table<T: Table>(file: &TraceFile, info: &BlockInfo) -> Vec<(ProblemKind, u64)> {
    let recording = file.recording.as_ref();
    // Files that do not list their processes have one.
    let processes = recording.map_or(0, |recording| recording.processes.len()).max(1) as u64;
    let files = recording.map_or(0, |recording| recording.files.len()) as u64;
    let limit = |name: &str| match name {
        PROCESS => Some((ProblemKind::NoProcess, processes)),
        FILE => Some((ProblemKind::NoFile, files)),
        "op" if T::KIND == kind::BUCKETS => Some((ProblemKind::NoString, file.strings.len() as u64)),
        "tensor" if T::KIND == kind::COPIES => Some((ProblemKind::NoString, file.strings.len() as u64)),
        name if STRINGS.contains(&name) => Some((ProblemKind::NoString, file.strings.len() as u64)),
        _ => None,
    };
    let mut found = Vec::new();
    for (index, spec) in T::COLUMNS.iter().enumerate() {
        let Some((problem, limit)) = limit(spec.name) else { continue };
        let Ok(table) = file.read::<T>(info, ColumnSet::only::<T>(&[spec.name])) else { continue };
        let mut values = Vec::new();
        table.column(index, &mut values);
        let outside = values.iter().filter(|value| **value >= limit && **value != u64::from(NONE)).count();
        if outside > 0 {
            found.push((problem, outside as u64));
        }
    }
    found
}
