//! What the costs of a graph's nodes are compared with: those of another selection, kept, or
//! those of the second trace.

use super::Costs;
use llmtrace_analysis::Trace;
use llmtrace_analysis::dag::{NodeHeat, counterpart, heat};
use llmtrace_analysis::format::TraceFile;
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::node;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Mean wall times of nodes, by name and operator, so that they are found in other graphs too.
type Means = HashMap<(String, String), f64>;

/// Costs that others are compared with.
#[derive(Clone)]
pub(crate) struct Baseline {
    /// What they are of.
    pub(crate) name: String,
    means: Arc<Means>,
    /// Those of the nodes of one graph, by index into the file's graphs.
    known: Option<(u32, Vec<Option<f64>>)>,
}

fn key(file: &TraceFile, graph: &Graph, index: u32, fused: u32) -> (String, String) {
    let name = node::result(graph, index, fused).map_or("", |tensor| file.string(tensor.name));
    (name.to_owned(), node::op_label(file, graph, index, fused))
}

impl Baseline {
    /// Keeps what nodes of a graph cost.
    pub(crate) fn of(name: String, file: &TraceFile, graph: &Graph, costs: &Costs) -> Self {
        Self::of_nodes(name, file, graph, &costs.nodes)
    }

    fn of_nodes(name: String, file: &TraceFile, graph: &Graph, nodes: &[NodeHeat]) -> Self {
        let ran = (0u32..).zip(nodes).filter(|(_, heat)| heat.count > 0);
        let each = |(index, heat): (u32, &NodeHeat)| (key(file, graph, index, heat.fused), heat.mean());
        Self { name, means: Arc::new(ran.map(each).collect()), known: None }
    }

    /// What the nodes of a graph cost in all computations of another trace's graph that is like
    /// it: `Some(None)` where none is, `None` when it was cancelled.
    pub(crate) fn of_second(
        first: &Trace,
        graph: u32,
        (second, name): (&Trace, &str),
        going: &(dyn Fn() -> bool + Sync),
    ) -> Option<Option<Self>> {
        let Some(index) = counterpart(first, graph, second) else { return Some(None) };
        let Some(of) = second.file.graphs.get(index as usize) else { return Some(None) };
        let nodes = heat(second, index, None, &|_| going()).ok()?;
        let name = format!("graph {} of B, {name}", of.id);
        Some(Some(Self::of_nodes(name, &second.file, of, &nodes)))
    }

    /// Whether both are the same costs.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.means, &other.means)
    }

    /// Finds the nodes of a graph.
    pub(crate) fn find(&mut self, file: &TraceFile, (index, graph): (u32, &Graph), costs: &Costs) {
        if self.known.as_ref().is_some_and(|(of, _)| *of == index) {
            return;
        }
        let each =
            |(node, heat): (u32, &NodeHeat)| self.means.get(&key(file, graph, node, heat.fused)).copied();
        let means = (0u32..).zip(&costs.nodes).map(each).collect();
        self.known = Some((index, means));
    }

    /// Nanoseconds that nodes take now and took before, of those that ran both times; `None` when
    /// none did.
    pub(crate) fn both(&self, costs: &Costs, nodes: Range<u32>) -> Option<(f64, f64)> {
        let (_, means) = self.known.as_ref()?;
        let range = nodes.start as usize..nodes.end as usize;
        let now = costs.nodes.get(range.clone())?.iter();
        let (mut both, mut any) = ((0.0, 0.0), false);
        for (heat, before) in now.zip(means.get(range)?) {
            if let Some(before) = before.filter(|_| heat.count > 0) {
                both = (both.0 + heat.mean(), both.1 + before);
                any = true;
            }
        }
        any.then_some(both)
    }

    /// How much longer they take, as a part of before.
    pub(crate) fn change(&self, costs: &Costs, nodes: Range<u32>) -> Option<f64> {
        let (now, before) = self.both(costs, nodes)?;
        (before > 0.0).then(|| now / before - 1.0)
    }
}
