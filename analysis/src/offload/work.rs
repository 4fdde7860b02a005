//! What a graph's nodes take, by their shapes: floating point operations, and bytes read and
//! written if each operand is touched once.

use llmtrace_format::TraceFile;
use llmtrace_format::meta::{Graph, Tensor, TensorType};
use serde::Serialize;

/// Work of some nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Floating point operations; a multiplication and an addition are two.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Work {
    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self { flops: self.flops.saturating_add(other.flops), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// The work of all nodes of a graph.
pub fn graph_work(file: &TraceFile, graph: &Graph) -> Work {
    let types = file.recording.as_ref().map_or(&[][..], |recording| &recording.types);
    let nodes = graph.tensors.iter().take(graph.nodes as usize);
    nodes.fold(Work::default(), |sum, node| sum.plus(node_work(file.string(node.op), graph, node, types)))
}

fn node_work(op: &str, graph: &Graph, node: &Tensor, types: &[TensorType]) -> Work {
    let source =
        |index: usize| node.sources.get(index).and_then(|&source| graph.tensors.get(source as usize));
    let size = |tensor: Option<&Tensor>| tensor.map_or(0, |tensor| bytes_of(tensor, types));
    let elements = elements(node);
    let all = node.sources.iter().filter_map(|&source| graph.tensors.get(source as usize));
    let operands = all.fold(size(Some(node)), |sum, source| sum.saturating_add(bytes_of(source, types)));
    let times = |flops: u64| elements.saturating_mul(flops);
    let length = |tensor: Option<&Tensor>, dimension: usize| {
        tensor.and_then(|tensor| tensor.ne.get(dimension)).map_or(0, |&n| n.max(0) as u64)
    };
    let product =
        |factors: &[u64]| factors.iter().fold(1u64, |product, factor| product.saturating_mul(*factor));
    let row = |tensor: Option<&Tensor>| tensor.map_or(0, |tensor| row_bytes(tensor, types));
    let work = |flops, bytes| Work { flops, bytes };
    match op {
        "" | "NONE" | "VIEW" | "RESHAPE" | "PERMUTE" | "TRANSPOSE" => Work::default(),
        "MUL_MAT" => work(times(length(source(0), 0).saturating_mul(2)), operands),
        "MUL_MAT_ID" => {
            // At most so many experts are read.
            let used = product(&[length(Some(node), 1), length(Some(node), 2)]).min(length(source(0), 2));
            let expert = product(&[row(source(0)), length(source(0), 1)]);
            let rest = operands.saturating_sub(size(source(0)));
            work(
                times(length(source(0), 0).saturating_mul(2)),
                rest.saturating_add(used.saturating_mul(expert)),
            )
        }
        "FLASH_ATTN_EXT" => {
            let (query, key, value) = (source(0), source(1), source(2));
            let per_pair = length(key, 0).saturating_add(length(value, 0)).saturating_mul(2);
            let queries = product(&[length(query, 1), length(query, 2), length(query, 3)]);
            work(product(&[queries, per_pair, length(key, 1)]), operands)
        }
        "GET_ROWS" => {
            let read = product(&[source(1).map_or(0, self::elements), row(source(0))]);
            work(0, read.saturating_add(size(source(1))).saturating_add(size(Some(node))))
        }
        "SET_ROWS" => {
            let rows = source(0).map_or(0, self::elements).checked_div(length(source(0), 0)).unwrap_or(0);
            let written = rows.saturating_mul(row(Some(node)));
            work(0, size(source(0)).saturating_add(size(source(1))).saturating_add(written))
        }
        "CPY" | "CONT" | "DUP" => work(0, size(source(0)).saturating_add(size(Some(node)))),
        "SOFT_MAX" => work(times(5), operands),
        "RMS_NORM" => work(times(4), operands),
        "NORM" => work(times(6), operands),
        "ROPE" => work(times(3), operands),
        _ => work(elements, operands),
    }
}

fn elements(tensor: &Tensor) -> u64 {
    tensor.ne.iter().fold(1u64, |product, &n| product.saturating_mul(n.max(0) as u64))
}

/// Bytes of a row without gaps; 0 when the type is not known.
fn row_bytes(tensor: &Tensor, types: &[TensorType]) -> u64 {
    let Some(known) = types.get(tensor.tensor_type as usize) else { return 0 };
    let first = tensor.ne.first().map_or(0, |&n| n.max(0) as u64);
    let blocks = first.checked_div(known.block_elements.into()).unwrap_or(0);
    blocks.saturating_mul(known.block_bytes.into())
}

/// Bytes of all elements, without gaps.
fn bytes_of(tensor: &Tensor, types: &[TensorType]) -> u64 {
    let rows = tensor.ne.iter().skip(1).fold(1u64, |product, &n| product.saturating_mul(n.max(0) as u64));
    rows.saturating_mul(row_bytes(tensor, types))
}
