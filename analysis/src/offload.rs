//! What was given to which backend: splits, copies, waits, and their totals.
//!
//! Times are those of calls on the host. A device computes while the host goes on: that it
//! was done is known when the host has waited for it. So a split of such a backend is
//! *bounded*: it took no longer than from its call to the return of the next wait.

use crate::stats::{millis, opt_millis};
use crate::work::{Work, graph_work};
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Backend, NameSource, StrId};
use llmtrace_format::offload::{self, Copy, Direction, OffloadRow, SchedulerRun, Split, Sync};
use llmtrace_format::{TraceFile, Warning};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// The rows, each kind by begin.
#[derive(Clone, Debug, Default)]
pub struct Offload {
    /// Graphs that schedulers cut into splits.
    pub runs: Vec<SchedulerRun>,
    /// Splits.
    pub splits: Vec<Split>,
    /// Copies.
    pub copies: Vec<Copy>,
    /// Waits.
    pub syncs: Vec<Sync>,
    /// When each split's work was certainly done; `None` when nobody waited for it.
    pub bounds: Vec<Option<Nanos>>,
    /// The same rows by backend, in the order of the recording.
    pub lanes: Vec<BackendLane>,
}

/// What one backend was given, each kind by begin.
#[derive(Clone, Debug, Default)]
pub struct BackendLane {
    /// Index into the recording's backends; [`NONE`] for those that could not be told.
    pub backend: u32,
    /// Splits, and when the work of each was certainly done.
    pub splits: Vec<(Split, Option<Nanos>)>,
    /// Copies: those for its splits, and others to or from its memory.
    pub copies: Vec<Copy>,
    /// Waits for it.
    pub syncs: Vec<Sync>,
}

impl Offload {
    /// Reads the tables of a file; damaged blocks are left out and reported.
    pub(crate) fn read(file: &TraceFile, warnings: &mut Vec<Warning>) -> Self {
        let mut found = Self::default();
        for info in &file.blocks {
            match offload::read_rows(file, info) {
                Some(Ok(rows)) => rows.into_iter().for_each(|row| found.add(row)),
                Some(Err(_)) => warnings.push(Warning::Unreadable {
                    what: offload::table_name(info.kind).unwrap_or_default(),
                    offset: info.offset,
                }),
                None => {}
            }
        }
        found.runs.sort_by_key(|row| row.begin);
        found.splits.sort_by_key(|row| row.begin);
        found.copies.sort_by_key(|row| row.begin);
        found.syncs.sort_by_key(|row| row.begin);
        let backends = file.recording.as_ref().map_or(&[][..], |recording| &recording.backends);
        found.bounds = found.bounds(backends);
        found.lanes = found.lanes();
        found
    }

    fn add(&mut self, row: OffloadRow) {
        match row {
            OffloadRow::Run(row) => self.runs.push(row),
            OffloadRow::Split(row) => self.splits.push(row),
            OffloadRow::Copy(row) => self.copies.push(row),
            OffloadRow::Sync(row) => self.syncs.push(row),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.splits.is_empty() && self.copies.is_empty() && self.syncs.is_empty()
    }

    fn lanes(&self) -> Vec<BackendLane> {
        let mut lanes: BTreeMap<u32, BackendLane> = BTreeMap::new();
        let mut backends: HashMap<u32, u32> = HashMap::new();
        for (split, bound) in self.splits.iter().zip(&self.bounds) {
            backends.insert(split.id, split.backend);
            lanes.entry(split.backend).or_default().splits.push((*split, *bound));
        }
        for sync in &self.syncs {
            lanes.entry(sync.backend).or_default().syncs.push(*sync);
        }
        for copy in &self.copies {
            let of_split = backends.get(&copy.split).filter(|_| copy.split != NONE);
            let ends = [copy.target, copy.source].into_iter().find(|backend| *backend != NONE);
            // Memory of a backend that was given nothing has no lane.
            if let Some(lane) = of_split.copied().or(ends).and_then(|backend| lanes.get_mut(&backend)) {
                lane.copies.push(*copy);
            }
        }
        lanes.into_iter().map(|(backend, lane)| BackendLane { backend, ..lane }).collect()
    }

    fn bounds(&self, backends: &[Backend]) -> Vec<Option<Nanos>> {
        let mut waits: HashMap<(u32, u32), Vec<&Sync>> = HashMap::new();
        for sync in &self.syncs {
            waits.entry((sync.process, sync.backend)).or_default().push(sync);
        }
        let bound = |split: &Split| {
            if backends.get(split.backend as usize).is_some_and(|backend| !backend.synchronizes) {
                return Some(split.end);
            }
            let waits = waits.get(&(split.process, split.backend))?;
            // One that had begun before may have ended before the split was all there.
            let next = waits.partition_point(|sync| sync.begin < split.end);
            waits.get(next).map(|sync| sync.end)
        };
        self.splits.iter().map(bound).collect()
    }
}

/// Totals of one backend; all sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackendTotals {
    /// Its name; `unknown` for splits whose backend could not be told.
    pub name: String,
    /// Whether the name is that of the file with its code.
    pub name_is_files: bool,
    /// Name of its device; empty when unknown.
    pub device: String,
    /// What the device is; empty when unknown.
    pub description: String,
    /// Splits that it computed.
    pub splits: u64,
    /// Their nodes.
    pub nodes: u64,
    /// Nanoseconds in calls that computed a split, or only gave it to the device.
    #[serde(rename = "host_ms", serialize_with = "millis")]
    pub host_nanos: u64,
    /// Nanoseconds from such calls to the end of the next wait: the device was not busy longer
    /// for them. `None` when nobody waited for one of them.
    #[serde(rename = "bound_ms", serialize_with = "opt_millis")]
    pub bound_nanos: Option<u64>,
    /// Operations and bytes by the shapes of the nodes, of those splits whose nodes are known.
    pub work: Work,
    /// Splits whose nodes are not known.
    pub unknown_splits: u64,
    /// Calls that waited for it.
    pub waits: u64,
    /// Nanoseconds in them.
    #[serde(rename = "wait_ms", serialize_with = "millis")]
    pub wait_nanos: u64,
    /// Copies from elsewhere into its device's memory.
    pub copies_in: CopySums,
    /// Copies from its device's memory to elsewhere.
    pub copies_out: CopySums,
}

/// Sums of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopySums {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds in the calls.
    #[serde(rename = "ms", serialize_with = "millis")]
    pub nanos: u64,
}

impl CopySums {
    fn add(&mut self, copy: &Copy) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(copy.bytes);
        self.nanos = self.nanos.saturating_add(copy.end.saturating_sub(copy.begin));
    }
}

/// Copies between two kinds of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyTotals {
    /// Between host and device.
    pub direction: &'static str,
    /// The source's memory; empty for the program's own, or when unknown.
    pub from: String,
    /// The target's memory.
    pub to: String,
    /// Sums.
    #[serde(flatten)]
    pub sums: CopySums,
}

/// Totals of all backends that computed, copied or were waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OffloadTotals {
    /// Scheduler runs.
    pub runs: u64,
    /// By backend, in the order of the recording.
    pub backends: Vec<BackendTotals>,
    /// By direction and kinds of memory, the most bytes first.
    pub copies: Vec<CopyTotals>,
}

/// A backend's name for people.
pub fn backend_name(trace: &Trace, backend: u32) -> String {
    let found = backend_of(trace, backend).filter(|backend| backend.name_source != NameSource::Unknown);
    found.map_or_else(|| "unknown backend".to_owned(), |backend| backend.name.clone())
}

/// A backend of the recording.
pub fn backend_of(trace: &Trace, backend: u32) -> Option<&Backend> {
    trace.file.recording.as_ref()?.backends.get(backend as usize)
}

/// Sums up what begins in a range, of one phase or of all.
pub fn totals(trace: &Trace, range: Option<TimeRange>, phase: Option<Phase>) -> OffloadTotals {
    let offload = &trace.offload;
    let wanted = |begin: Nanos| {
        range.is_none_or(|range| range.contains(begin))
            && phase.is_none_or(|phase| trace.token_at(begin).is_some_and(|token| token.phase == phase))
    };
    let mut all: BTreeMap<u32, BackendTotals> = BTreeMap::new();
    let mut works: HashMap<u32, Option<Work>> = HashMap::new();
    // Ends of what is summed up: splits that share a wait count once.
    let mut bounded: BTreeMap<u32, Nanos> = BTreeMap::new();
    for (split, bound) in offload.splits.iter().zip(&offload.bounds).filter(|(split, _)| wanted(split.begin))
    {
        let totals = all.entry(split.backend).or_insert_with(|| named(trace, split.backend));
        totals.splits += 1;
        totals.nodes += u64::from(split.nodes);
        totals.host_nanos = totals.host_nanos.saturating_add(split.end.saturating_sub(split.begin));
        let before = bounded.entry(split.backend).or_default();
        totals.bound_nanos = totals.bound_nanos.zip(*bound).map(|(sum, bound)| {
            let more = bound.saturating_sub(split.begin.max(*before));
            *before = (*before).max(bound);
            sum.saturating_add(more)
        });
        let work = works
            .entry(split.graph)
            .or_insert_with(|| trace.graph(split.graph).map(|graph| graph_work(&trace.file, graph)));
        match work {
            Some(work) => totals.work = totals.work.and(*work),
            None => totals.unknown_splits += 1,
        }
    }
    for sync in offload.syncs.iter().filter(|sync| wanted(sync.begin)) {
        let totals = all.entry(sync.backend).or_insert_with(|| named(trace, sync.backend));
        totals.waits += 1;
        totals.wait_nanos = totals.wait_nanos.saturating_add(sync.end.saturating_sub(sync.begin));
    }
    let mut copies: BTreeMap<(u8, u32, u32), CopySums> = BTreeMap::new();
    for copy in offload.copies.iter().filter(|copy| wanted(copy.begin)) {
        let key = (copy.direction, copy.source_memory, copy.target_memory);
        copies.entry(key).or_default().add(copy);
        // A device's driver may have memory of the host, too.
        let direction = Direction::from_u8(copy.direction);
        let between = direction == Direction::DeviceToDevice && copy.source != copy.target;
        let is_in = between || direction == Direction::HostToDevice;
        let is_out = between || direction == Direction::DeviceToHost;
        for (backend, is_in, counts) in [(copy.target, true, is_in), (copy.source, false, is_out)] {
            if counts && backend != NONE {
                let totals = all.entry(backend).or_insert_with(|| named(trace, backend));
                let sums = if is_in { &mut totals.copies_in } else { &mut totals.copies_out };
                sums.add(copy);
            }
        }
    }
    let mut copies: Vec<CopyTotals> = copies
        .into_iter()
        .map(|((direction, from, to), sums)| CopyTotals {
            direction: Direction::from_u8(direction).name(),
            from: trace.file.string(StrId(from)).to_owned(),
            to: trace.file.string(StrId(to)).to_owned(),
            sums,
        })
        .collect();
    copies.sort_by_key(|row| std::cmp::Reverse(row.sums.bytes));
    let runs = offload.runs.iter().filter(|run| wanted(run.begin)).count() as u64;
    OffloadTotals { runs, backends: all.into_values().collect(), copies }
}

fn named(trace: &Trace, backend: u32) -> BackendTotals {
    let known = backend_of(trace, backend);
    let text = |text: fn(&Backend) -> &String| known.map(|known| text(known).clone()).unwrap_or_default();
    BackendTotals {
        name: backend_name(trace, backend),
        name_is_files: known.is_some_and(|known| known.name_source == NameSource::File),
        device: text(|known| &known.device),
        description: text(|known| &known.description),
        bound_nanos: Some(0),
        work: Work::NOTHING,
        ..BackendTotals::default()
    }
}
