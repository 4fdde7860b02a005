//! What was decoded of a trace, as far as it fits into a number of bytes. What
//! was used last stays.

use crate::picture::Picture;
use crate::rows::Rows;
use llmtrace_format::tables::NodeTotals;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a cache holds when nobody says otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 256 << 20;

/// A part of a trace that is decoded on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What a segment says: lane and segment, as indexes.
    Segment(u32, u32),
    /// The rows of a block: lane and block, as indexes.
    Rows(u32, u32),
}

/// What a segment says.
#[derive(Debug)]
pub(crate) struct SegmentSummary {
    pub(crate) picture: Picture,
    /// Sums by node, where they were made from the rows.
    pub(crate) nodes: Option<NodeTotals>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Segment(Arc<SegmentSummary>),
    Rows(Arc<Rows>),
    /// It cannot be read.
    Damaged,
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Segment(summary) => {
                let nodes = summary.nodes.as_ref().map_or(0, |nodes| nodes.node.len() * 36);
                summary.picture.bytes() + nodes
            }
            Self::Rows(rows) => rows.bytes(),
            Self::Damaged => 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Cache(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    bytes: usize,
    clock: u64,
    known: HashMap<Part, Entry>,
    damaged: HashSet<Part>,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        let (known, damaged) = (HashMap::new(), HashSet::new());
        Self(Mutex::new(State { limit, bytes: 0, clock: 0, known, damaged }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        let mut state = self.state();
        state.limit = limit;
        state.shrink();
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    pub(crate) fn get(&self, part: Part) -> Option<Value> {
        let state = &mut *self.state();
        if state.damaged.contains(&part) {
            return Some(Value::Damaged);
        }
        state.clock += 1;
        let entry = state.known.get_mut(&part)?;
        entry.used = state.clock;
        Some(entry.value.clone())
    }

    /// What is known now.
    pub(crate) fn known(&self) -> Vec<(Part, Value)> {
        self.state().known.iter().map(|(part, entry)| (*part, entry.value.clone())).collect()
    }

    pub(crate) fn put(&self, part: Part, value: Value) {
        let state = &mut *self.state();
        if matches!(value, Value::Damaged) {
            state.damaged.insert(part);
            return;
        }
        state.clock += 1;
        let bytes = value.bytes();
        let entry = Entry { value, bytes, used: state.clock };
        state.bytes += bytes;
        if let Some(before) = state.known.insert(part, entry) {
            state.bytes -= before.bytes;
        }
        state.shrink();
    }
}

impl State {
    /// Drops what was not used for longest, a little more than needed.
    fn shrink(&mut self) {
        if self.bytes <= self.limit {
            return;
        }
        let mut by_use: Vec<(u64, Part)> =
            self.known.iter().map(|(part, entry)| (entry.used, *part)).collect();
        by_use.sort_unstable();
        // The newest stays, however large: somebody waits for it.
        by_use.pop();
        for (_, part) in by_use {
            if self.bytes <= self.limit - self.limit / 8 {
                break;
            }
            if let Some(entry) = self.known.remove(&part) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        Value::Segment(Arc::new(SegmentSummary { picture: Picture::default(), nodes: None }))
    }

    #[test]
    fn what_was_used_last_stays_within_the_limit() {
        let each = value().bytes();
        let cache = Cache::new(10 * each);
        for block in 0..100 {
            cache.put(Part::Rows(0, block), value());
            assert!(cache.get(Part::Rows(0, 0)).is_some(), "used after each, so it stays");
            assert!(cache.bytes() <= 10 * each);
        }
        assert!(cache.get(Part::Rows(0, 99)).is_some() && cache.get(Part::Rows(0, 50)).is_none());
        cache.put(Part::Rows(1, 1), Value::Damaged);
        cache.set_limit(0);
        assert!(matches!(cache.get(Part::Rows(1, 1)), Some(Value::Damaged)));
        assert!(cache.bytes() <= each);
    }
}
