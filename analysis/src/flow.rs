//! What an execution reads and who reads its result: edges of the compute graph, between spans.

use crate::dag::{behind_views, is_view};
use crate::lane::{Lookup, rows_in};
use crate::{Found, Part, Place, TimeRange, Trace};
use llmtrace_format::TraceFile;
use llmtrace_format::meta::Graph;
use std::collections::BTreeMap;

/// Most neighbours on either side that are looked for.
pub const MOST: usize = 64;

/// The executions around one, of the same computation of its graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Those whose results it reads: of each the thread that finished last.
    pub sources: Vec<Found>,
    /// Those that read its result: of each the thread of the same lane, else the first to begin.
    pub readers: Vec<Found>,
    /// Neighbours in the graph of which there is no span, or that are beyond [`MOST`].
    pub unseen: usize,
}

/// Nodes that compute what a kernel reads, and nodes that read what it computes, by index; the
/// kernel is `node` and the `fused` ones after it. Nodes that only look at others are looked through.
pub fn neighbours(file: &TraceFile, graph: &Graph, node: u32, fused: u32) -> (Vec<u32>, Vec<u32>) {
    let own = node..=node.saturating_add(fused);
    let tensors = graph.tensors.get(..graph.nodes as usize).unwrap_or(&graph.tensors);
    let is_own_node = |index: u32| own.contains(&index);
    let (mut sources, mut readers) = (Vec::new(), Vec::new());
    for (index, tensor) in (0u32..).zip(tensors) {
        let own = is_own_node(index);
        // What comes before cannot read.
        if !own && (index < node || is_view(file.string(tensor.op))) {
            continue;
        }
        for &source in &tensor.sources {
            let whole = behind_views(file, graph, source);
            if own && whole < graph.nodes && !is_own_node(whole) {
                sources.push(whole);
            } else if !own && is_own_node(whole) {
                readers.push(index);
            }
        }
    }
    for list in [&mut sources, &mut readers] {
        list.sort_unstable();
        list.dedup();
    }
    (sources, readers)
}

impl Trace {
    /// The executions around one, as far as they are decoded, and what would have to be decoded
    /// for the others.
    pub fn flows(&self, found: &Found) -> (Flows, Vec<Part>) {
        let span = &found.span;
        let Some((graph, _)) = self.node_of(span) else { return Default::default() };
        let (sources, readers) = neighbours(&self.file, graph, span.node, span.fused);
        let range = self.graph_span(span.graph_span).map_or_else(
            || TimeRange::new(span.begin, span.end()),
            |of| TimeRange::new(of.begin.min(span.begin), of.end.max(span.end())),
        );
        let wanted: Vec<u32> = sources.iter().take(MOST).chain(readers.iter().take(MOST)).copied().collect();
        let (kernels, missing) = self.kernels(span.graph_span, &wanted, range);
        let of = |nodes: &[u32], pick: &dyn Fn(&[Found]) -> Option<Found>| {
            let mut picked: Vec<Found> =
                nodes.iter().take(MOST).filter_map(|node| pick(kernels.get(node)?)).collect();
            // Several nodes may be of one kernel.
            picked.dedup();
            picked
        };
        let last = |spans: &[Found]| spans.iter().max_by_key(|found| found.span.compute_end()).copied();
        let near = |spans: &[Found]| {
            let same = spans.iter().find(|other| other.place.lane == found.place.lane);
            same.or_else(|| spans.iter().min_by_key(|found| found.span.begin)).copied()
        };
        let known = |nodes: &[u32]| nodes.iter().filter(|node| kernels.contains_key(node)).count();
        let unseen = sources.len() + readers.len() - known(&sources) - known(&readers);
        (Flows { sources: of(&sources, &last), readers: of(&readers, &near), unseen }, missing)
    }

    /// The spans of the kernels that computed nodes in one computation of a graph, by node.
    fn kernels(
        &self,
        graph_span: u32,
        nodes: &[u32],
        range: TimeRange,
    ) -> (BTreeMap<u32, Vec<Found>>, Vec<Part>) {
        let mut found: BTreeMap<u32, Vec<Found>> = BTreeMap::new();
        let mut missing = Vec::new();
        for (index, lane) in self.lanes().iter().enumerate() {
            for block in lane.blocks_in(range) {
                let rows = match self.rows_if_known(index, block) {
                    Lookup::Ready(rows) => rows,
                    Lookup::Damaged => continue,
                    Lookup::Missing => {
                        missing.push(Part::Rows(index as u32, block as u32));
                        continue;
                    }
                };
                let first = lane.blocks.get(block).map_or(0, |block| block.first);
                for row in rows_in(&rows, range).filter(|&row| rows.graph_span(row) == graph_span) {
                    let node = rows.node(row);
                    let span = rows.span(row);
                    for wanted in nodes {
                        if (node..=node.saturating_add(span.fused)).contains(wanted) {
                            let place = Place { lane: lane.id, index: first + row as u64 };
                            found.entry(*wanted).or_default().push(Found { place, span });
                        }
                    }
                }
            }
        }
        (found, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::Source;
    use std::path::Path;

    fn sample() -> Trace {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-2t.llmtrace");
        let bytes = std::fs::read(path).unwrap();
        Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
    }

    #[test]
    fn sources_end_before_and_readers_begin_after() {
        let trace = sample();
        let lane = trace.lanes()[0].id;
        let spans = trace.spans(lane);
        let place = |index: usize| Place { lane, index: index as u64 };
        let mut edges = 0;
        for (index, span) in spans.iter().enumerate().skip(5000).take(400) {
            let found = Found { place: place(index), span: *span };
            let (flows, missing) = trace.flows(&found);
            missing.iter().for_each(|part| trace.decode(*part));
            let (flows, missing) = if missing.is_empty() { (flows, missing) } else { trace.flows(&found) };
            assert!(missing.is_empty());
            for source in &flows.sources {
                assert!(source.span.compute_end() <= span.end(), "{source:?} {span:?}");
                assert_eq!(source.span.graph_span, span.graph_span);
                // And the other way round.
                let back = trace.flows(source).0;
                assert!(
                    back.readers
                        .iter()
                        .any(|other| (other.span.node, other.span.graph_span)
                            == (span.node, span.graph_span))
                );
            }
            assert!(flows.readers.iter().all(|reader| reader.span.begin >= span.begin));
            edges += flows.sources.len();
        }
        assert!(edges > 400, "{edges}");
    }
}
