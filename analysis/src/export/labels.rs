//! What spans are called: looked up once a node, not once a span.

use crate::Trace;
use crate::node;
use llmtrace_format::OpSpan;
use llmtrace_format::meta::Graph;
use std::collections::HashMap;

/// A node as exports name it.
#[derive(Debug, Default)]
pub(super) struct Label {
    /// Counts from 0 in order of first use.
    pub(super) number: u32,
    /// Operator, with those fused into it: `RMS_NORM+MUL`.
    pub(super) op: String,
    /// Name of the tensor: `attn_norm-7`.
    pub(super) name: String,
    /// Operator and name, as ProfInfer writes them: `RMS_NORM+MUL-attn_norm-7`.
    pub(super) both: String,
    /// Elements in each dimension: `640×2048`.
    pub(super) shape: String,
    /// Type of its elements: `f32`.
    pub(super) kind: String,
    /// Number of its layer.
    pub(super) layer: Option<u32>,
}

/// Finds labels of spans.
pub(super) struct Labels<'a> {
    trace: &'a Trace,
    graphs: HashMap<u32, &'a Graph>,
    /// Graph of each graph span.
    graph_spans: HashMap<u32, u32>,
    /// The graph span of the last span, and its graph.
    last: Option<(u32, u32)>,
    known: HashMap<(u32, u32, u32), Label>,
}

impl<'a> Labels<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            graphs: trace.file.graphs.iter().map(|graph| (graph.id, graph)).collect(),
            graph_spans: trace.graph_spans.iter().map(|span| (span.id, span.graph)).collect(),
            last: None,
            known: HashMap::new(),
        }
    }

    /// The label of a span's node; `unknown` for one that the file does not
    /// describe.
    pub(super) fn of(&mut self, span: &OpSpan) -> &Label {
        let graph = match self.last {
            Some((graph_span, graph)) if graph_span == span.graph_span => graph,
            _ => {
                let none = llmtrace_format::constants::NONE;
                let graph = self.graph_spans.get(&span.graph_span).copied().unwrap_or(none);
                self.last = Some((span.graph_span, graph));
                graph
            }
        };
        let number = self.known.len() as u32;
        let (trace, graphs) = (self.trace, &self.graphs);
        self.known
            .entry((graph, span.node, span.fused))
            .or_insert_with(|| label(trace, graphs.get(&graph).copied(), span, number))
    }
}

fn label(trace: &Trace, graph: Option<&Graph>, span: &OpSpan, number: u32) -> Label {
    let file = &trace.file;
    let found = graph.and_then(|graph| Some((graph, node::result(graph, span.node, span.fused)?)));
    let Some((graph, tensor)) = found else {
        let unknown = || "unknown".to_owned();
        return Label { number, op: unknown(), both: unknown(), ..Label::default() };
    };
    let op = node::op_label(file, graph, span.node, span.fused);
    let name = file.string(tensor.name).to_owned();
    Label {
        number,
        both: if name.is_empty() { op.clone() } else { format!("{op}-{name}") },
        layer: node::layer(&name),
        shape: node::shape(tensor),
        kind: node::type_name(file, tensor).to_owned(),
        op,
        name,
    }
}
