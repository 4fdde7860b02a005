//! The same graph in another trace.

use super::nodes_of;
use crate::{Trace, node};
use llmtrace_format::TraceFile;
use llmtrace_format::meta::Graph;
use std::collections::{HashMap, HashSet};

/// A node by its name, its operator and its shape.
type Shaped<'a> = (&'a str, String, [i64; 4]);

fn shaped<'a>(file: &'a TraceFile, graph: &'a Graph) -> impl Iterator<Item = Shaped<'a>> {
    (0u32..)
        .zip(nodes_of(graph))
        .map(|(index, tensor)| (file.string(tensor.name), node::op_label(file, graph, index, 0), tensor.ne))
}

/// The graph of `other`, by index into its file, that is most like the one of `trace` at `graph`:
/// the one with the greatest part of its nodes alike by name, operator and shape, so that a decoded
/// token is held against one and not against a prompt. Where none has a node of the same shape,
/// names and operators decide; `None` where no node is in both. Of equal ones it is the one that was computed
/// most often.
pub fn counterpart(trace: &Trace, graph: u32, other: &Trace) -> Option<u32> {
    let of = trace.file.graphs.get(graph as usize)?;
    let wanted: HashSet<Shaped<'_>> = shaped(&trace.file, of).collect();
    let names: HashSet<(&str, &str)> = wanted.iter().map(|(name, op, _)| (*name, op.as_str())).collect();
    let mut computed: HashMap<u32, u64> = HashMap::new();
    for span in &other.graph_spans {
        *computed.entry(span.graph).or_default() += 1;
    }
    let like = |graph: &Graph| {
        let (mut same, mut named) = (0u64, 0u64);
        for node in shaped(&other.file, graph) {
            same += u64::from(wanted.contains(&node));
            named += u64::from(names.contains(&(node.0, node.1.as_str())));
        }
        // Of the nodes of both, in millionths: a graph is not more alike for being larger.
        let both = (wanted.len() as u64 + u64::from(graph.nodes)).saturating_sub(named).max(1);
        (same * 1_000_000 / both, named * 1_000_000 / both, computed.get(&graph.id).copied().unwrap_or(0))
    };
    let graphs = (0u32..).zip(&other.file.graphs).filter(|(_, graph)| graph.nodes > 0);
    let all = graphs.map(|(index, graph)| (like(graph), index)).filter(|((_, named, _), _)| *named > 0);
    all.max().map(|(_, index)| index)
}
