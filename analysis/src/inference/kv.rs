//! Cells of KV caches in use, found by replaying what happened to them.
//!
//! A micro-batch fills a cell for each of its tokens; removals, copies and shifts are
//! followed as llama.cpp documents them. A cell of several sequences counts once,
//! as in a unified cache. Caches of sliding windows hold less.

use super::{SequenceKey, steps};
use crate::{Nanos, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{ALL_SEQUENCES, CallKind, KvOperation, KvOperationRow};
use std::collections::{BTreeMap, BTreeSet};

/// Cells in use of one context over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvCurve {
    /// Index into [`llmtrace_format::meta::Recording::processes`].
    pub process: u32,
    /// Which context; [`NONE`] when unknown.
    pub context: u32,
    /// Whether all that happened to the cache was seen; else there may be more cells.
    pub whole: bool,
    /// Points by time; between two the first one holds.
    pub points: Vec<KvPoint>,
}

/// From a time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvPoint {
    /// When.
    pub time: Nanos,
    /// Cells in use.
    pub cells: u64,
    /// Sequences that have any.
    pub sequences: u32,
}

impl KvCurve {
    /// What holds at a time; `None` before the first point.
    pub fn at(&self, time: Nanos) -> Option<KvPoint> {
        let after = self.points.partition_point(|point| point.time <= time);
        self.points.get(after.checked_sub(1)?).copied()
    }

    /// Most cells at any time.
    pub fn most(&self) -> u64 {
        self.points.iter().map(|point| point.cells).max().unwrap_or(0)
    }
}

/// Cells at consecutive positions that belong to the same sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    begin: u32,
    end: u32,
    sequences: BTreeSet<u32>,
}

/// One cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache(Vec<Piece>);

impl Cache {
    pub(super) fn point(&self, time: Nanos) -> KvPoint {
        let cells = self.0.iter().map(|piece| u64::from(piece.end - piece.begin)).sum();
        let sequences: BTreeSet<u32> =
            self.0.iter().flat_map(|piece| piece.sequences.iter().copied()).collect();
        KvPoint { time, cells, sequences: sequences.len() as u32 }
    }

    pub(super) fn fill(&mut self, sequence: u32, begin: u32, end: u32) {
        let own = |piece: &&mut Piece| {
            piece.end == begin && piece.sequences.len() == 1 && piece.sequences.contains(&sequence)
        };
        match self.0.iter_mut().find(own) {
            Some(piece) => piece.end = piece.end.max(end),
            None if end > begin => {
                self.0.push(Piece { begin, end, sequences: BTreeSet::from([sequence]) });
            }
            None => {}
        }
    }

    /// Changes what lies in a range of a sequence's positions.
    fn within(&mut self, sequence: u32, begin: u32, end: u32, change: impl Fn(&mut Piece)) {
        let mut pieces = Vec::with_capacity(self.0.len() + 2);
        for piece in std::mem::take(&mut self.0) {
            let meant = sequence == ALL_SEQUENCES || piece.sequences.contains(&sequence);
            let (from, to) = (piece.begin.max(begin), piece.end.min(end));
            if !meant || from >= to {
                pieces.push(piece);
                continue;
            }
            let part = |begin, end| Piece { begin, end, ..piece.clone() };
            let mut inside = part(from, to);
            change(&mut inside);
            let parts = [part(piece.begin, from), inside, part(to, piece.end)];
            pieces
                .extend(parts.into_iter().filter(|part| part.begin < part.end && !part.sequences.is_empty()));
        }
        self.0 = pieces;
    }

    /// Does to it what an operation does; `false` when that is not known.
    pub(super) fn apply(&mut self, row: &KvOperationRow) -> bool {
        let value = row.value as i32;
        let KvOperationRow { sequence, begin, end, .. } = *row;
        if sequence == NONE || row.value == llmtrace_format::inference::UNKNOWN_VALUE {
            return false;
        }
        match KvOperation::from_u8(row.operation) {
            KvOperation::Unknown => return false,
            KvOperation::Clear => self.0.clear(),
            KvOperation::Remove => self.within(sequence, begin, end, |piece| {
                if sequence == ALL_SEQUENCES {
                    piece.sequences.clear();
                } else {
                    piece.sequences.remove(&sequence);
                }
            }),
            KvOperation::Keep => self.within(ALL_SEQUENCES, 0, NONE, |piece| {
                piece.sequences.retain(|&other| other == sequence);
            }),
            KvOperation::Copy => self.within(sequence, begin, end, |piece| {
                piece.sequences.insert(value as u32);
            }),
            KvOperation::Add => self.within(sequence, begin, end, |piece| {
                // Cells whose position falls below 0 are freed.
                let moved = |at: u32| i64::from(at) + i64::from(value);
                piece.end = u32::try_from(moved(piece.end)).unwrap_or(0);
                piece.begin = u32::try_from(moved(piece.begin)).unwrap_or(0);
            }),
            // Several cells then share a position.
            KvOperation::Divide => return false,
        }
        true
    }
}

/// The curves of all contexts that compute, and of no others.
pub fn kv_curves(trace: &Trace) -> Vec<KvCurve> {
    let mut events: BTreeMap<(u32, u32), Vec<(Nanos, Event)>> = BTreeMap::new();
    for (SequenceKey { process, context, sequence }, steps) in steps(trace) {
        let events = events.entry((process, context)).or_default();
        events.extend(steps.into_iter().map(|step| {
            let event = match step.failed {
                true => Event::Doubt,
                false => Event::Fill(sequence, step.position, step.last.saturating_add(1)),
            };
            (step.range.begin, event)
        }));
    }
    for row in &trace.inference.kv {
        if let Some(events) = events.get_mut(&(row.process, row.context)) {
            events.push((row.time, Event::Operation(*row)));
        }
    }
    let lost = !trace.losses.is_empty();
    let curve = |((process, context), mut events): ((u32, u32), Vec<(Nanos, Event)>)| {
        events.sort_by_key(|(time, _)| *time);
        let first = events.first().map_or(0, |(time, _)| *time);
        let (mut cache, mut whole) = (Cache::default(), !lost && is_new(trace, process, first));
        let mut points: Vec<KvPoint> = Vec::with_capacity(events.len());
        for (time, event) in events {
            match event {
                Event::Fill(sequence, begin, end) => cache.fill(sequence, begin, end),
                Event::Operation(row) => {
                    whole &= cache.apply(&row);
                    whole |= row.operation == KvOperation::Clear as u8;
                }
                Event::Doubt => whole = false,
            }
            let point = cache.point(time);
            match points.last_mut() {
                Some(last) if last.time == time => *last = point,
                Some(last) if (last.cells, last.sequences) == (point.cells, point.sequences) => {}
                _ => points.push(point),
            }
        }
        KvCurve { process, context, whole, points }
    };
    events.into_iter().map(curve).collect()
}

enum Event {
    Fill(u32, u32, u32),
    Operation(KvOperationRow),
    /// The program may have taken back what it filled, or not.
    Doubt,
}

/// Whether the recording saw a context being made before one was used.
fn is_new(trace: &Trace, process: u32, used: Nanos) -> bool {
    let made = |call: &&llmtrace_format::inference::Call| {
        call.kind == CallKind::NewContext as u8 && call.process == process && call.end <= used
    };
    trace.inference.calls.iter().any(|call| made(&call))
}
