//! What rows may refer to, so that every file can begin with it.

use super::super::session::usage;
use anyhow::Result;
use llmtrace_format::meta::{Ending, Graph, Recording, StrId};
use llmtrace_format::tables::{LevelChange, Thread};
use llmtrace_format::{MAX_LIVE_GRAPHS, Nanos, RawBlock};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Threads remembered: more than whoever numbers them refers to.
const MAX_LIVE_THREADS: usize = 1 << 16;

/// How far the recording has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Totals {
    /// Trace time.
    pub(in super::super) now: Nanos,
    pub(in super::super) events: u64,
    pub(in super::super) lost: u64,
    pub(in super::super) orphans: u64,
}

impl Totals {
    /// The ending of a file that began at `begin`.
    pub(in super::super) fn ending(&self, begin: &Self, reason: String) -> Ending {
        let (recorder_cpu_nanos, recorder_peak_bytes) = usage().unwrap_or_default();
        Ending {
            reason,
            end_nanos: self.now,
            events: self.events.saturating_sub(begin.events),
            lost: self.lost.saturating_sub(begin.lost),
            orphans: self.orphans.saturating_sub(begin.orphans),
            recorder_cpu_nanos,
            recorder_peak_bytes,
            ..Ending::default()
        }
    }
}

/// The dictionaries. Numbers given here hold in every file.
#[derive(Default)]
pub(super) struct Live {
    pub(super) recording: Recording,
    strings: Vec<Rc<str>>,
    ids: HashMap<Rc<str>, StrId>,
    graphs: HashMap<u32, Rc<RawBlock>>,
    threads: HashMap<u32, Thread>,
    /// The last change of each process.
    pub(super) levels: BTreeMap<u32, LevelChange>,
}

impl Live {
    /// The id of a string, and whether it is new.
    pub(super) fn string(&mut self, text: &str) -> (StrId, bool) {
        if text.is_empty() {
            return (StrId(0), false);
        }
        if let Some(&id) = self.ids.get(text) {
            return (id, false);
        }
        let text: Rc<str> = text.into();
        self.strings.push(text.clone());
        // 0 is the empty string.
        let id = StrId(self.strings.len() as u32);
        self.ids.insert(text, id);
        (id, true)
    }

    /// All strings, in the order of their ids, from 1 on.
    pub(super) fn strings(&self) -> impl Iterator<Item = &str> {
        self.strings.iter().map(|text| &**text)
    }

    pub(super) fn add_graph(&mut self, graph: &Graph) -> Result<()> {
        if self.graphs.len() >= 2 * MAX_LIVE_GRAPHS {
            let oldest = graph.id.saturating_sub(MAX_LIVE_GRAPHS as u32 + 64);
            self.graphs.retain(|&id, _| id >= oldest);
        }
        self.graphs.insert(graph.id, Rc::new(RawBlock::graph(graph)?));
        Ok(())
    }

    pub(super) fn graph(&self, id: u32) -> Option<Rc<RawBlock>> {
        self.graphs.get(&id).cloned()
    }

    pub(super) fn add_thread(&mut self, row: Thread) {
        if self.threads.len() >= 2 * MAX_LIVE_THREADS {
            let oldest = row.id.saturating_sub(MAX_LIVE_THREADS as u32);
            self.threads.retain(|&id, _| id >= oldest);
        }
        self.threads.insert(row.id, row);
    }

    pub(super) fn thread(&self, id: u32) -> Option<Thread> {
        self.threads.get(&id).copied()
    }

    /// Forgets what the only file of a recording has.
    pub(super) fn forget_graph(&mut self, id: u32) {
        self.graphs.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_numbered_as_a_writer_numbers_them() {
        let mut writer =
            llmtrace_format::Writer::new(Vec::new(), llmtrace_format::Header::new(1, 2)).unwrap();
        let mut live = Live::default();
        for text in ["a", "", "b", "a", "c"] {
            assert_eq!(live.string(text).0, writer.string(text));
        }
        let mut second =
            llmtrace_format::Writer::new(Vec::new(), llmtrace_format::Header::new(1, 2)).unwrap();
        for text in live.strings() {
            second.string(text);
        }
        assert_eq!((second.string("b"), second.string("c")), (live.string("b").0, live.string("c").0));
    }
}
