//! How often each kind of probe was hit, by thread.

use super::lanes::RunningGraph;
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::ProbeHits;
use llmtrace_format::tables::EVENT_KINDS;

const OP_BEGIN: usize = 7;
const FUSED_BEGIN: usize = 8;
const BARRIER: usize = 9;
const KINDS: usize = EVENT_KINDS.len();
/// Places in the thread pool that are told apart.
const PLACES: usize = 1024;

/// Hits received.
#[derive(Debug)]
pub(super) struct Hits {
    all: [u64; KINDS],
    /// Those of threads of a pool, by `ith`.
    by_place: Vec<[u64; KINDS]>,
}

// More kinds than arrays have defaults for.
impl Default for Hits {
    fn default() -> Self {
        Self { all: [0; KINDS], by_place: Vec::new() }
    }
}

impl Hits {
    /// Counts an event.
    pub(super) fn count(&mut self, kind: u8) {
        if let Some(count) = self.all.get_mut(usize::from(kind)) {
            *count += 1;
        }
    }

    /// Says which threads hit the probes within a graph that ended.
    pub(super) fn of_graph(&mut self, graph: &RunningGraph) {
        for lane in &graph.lanes {
            let place = lane.ith as usize % PLACES;
            if self.by_place.len() <= place {
                self.by_place.resize(place + 1, [0; KINDS]);
            }
            let Some(counts) = self.by_place.get_mut(place) else { continue };
            let arrivals = lane.arrivals.len() as u64;
            let begins = u64::from(lane.hits).saturating_sub(arrivals);
            let fused = u64::from(lane.fused_hits).min(begins);
            for (kind, hits) in [(OP_BEGIN, begins - fused), (FUSED_BEGIN, fused), (BARRIER, arrivals)] {
                if let Some(count) = counts.get_mut(kind) {
                    *count += hits;
                }
            }
        }
    }

    /// Adds those of another process.
    pub(super) fn add(&mut self, other: &Self) {
        let places = self.by_place.len().max(other.by_place.len());
        self.by_place.resize(places, [0; KINDS]);
        let rows = self.by_place.iter_mut().zip(&other.by_place).chain([(&mut self.all, &other.all)]);
        for (mine, theirs) in rows {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Rows for the file; their sum is the number of events.
    pub(super) fn rows(&self) -> Vec<ProbeHits> {
        let mut rows = Vec::new();
        for (kind, (name, &all)) in EVENT_KINDS.iter().zip(&self.all).enumerate() {
            let at = |counts: &[u64; KINDS]| counts.get(kind).copied().unwrap_or(0);
            let placed: u64 = self.by_place.iter().map(at).sum();
            let by_place = self.by_place.iter().map(at).zip(0..);
            let elsewhere = (all.saturating_sub(placed), NONE);
            let found = by_place.chain([elsewhere]).filter(|(hits, _)| *hits > 0);
            rows.extend(found.map(|(hits, ith)| ProbeHits { purpose: (*name).to_owned(), ith, hits }));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::LaneRun;
    use super::*;

    #[test]
    fn hits_of_threads_and_of_others_add_up_to_all() {
        let mut hits = Hits::default();
        let mut lane = LaneRun { hits: 1, fused_hits: 1, ..LaneRun::new(77, 1) };
        lane.arrive(10, 0);
        lane.arrive(20, 0);
        let mut graph = RunningGraph::empty();
        graph.lanes.push(lane);
        // One barrier outside of any graph, and the calls of the graph itself.
        for kind in [5, 8, 9, 9, 9, 6] {
            hits.count(kind);
        }
        hits.of_graph(&graph);
        let mut twice = Hits::default();
        twice.add(&hits);
        twice.add(&hits);
        let rows: Vec<_> = twice.rows().into_iter().map(|row| (row.purpose, row.ith, row.hits)).collect();
        let row = |purpose: &str, ith, hits| (purpose.to_owned(), ith, hits);
        let expected = [
            row("graph begin", NONE, 2),
            row("graph end", NONE, 2),
            row("fused op begin", 1, 2),
            row("barrier", 1, 4),
            row("barrier", NONE, 2),
        ];
        assert_eq!(rows, expected);
    }
}
