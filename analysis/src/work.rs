//! What a node has to do: floating-point operations, and bytes to read and write.
//!
//! All from shapes, types and strides; nothing is measured. Bytes are those of the
//! elements that a node needs, each operand once: what a broadcast repeats (stride
//! 0) and what lies between the rows of a view do not count, nor do copies that an
//! implementation makes for itself (the CPU's matrix product quantises its second
//! operand first). So they are a lower bound of the traffic, except where
//! [`Work::at_most`] says that the trace doesn't tell how much of an operand was
//! needed.
//!
//! Operations of products are exact: a multiplication and an addition each. Those
//! of other operators are an estimate by element; such nodes are bound by memory
//! or overhead whichever way.

use llmtrace_format::TraceFile;
use llmtrace_format::meta::{Graph, Tensor, TensorType};
use serde::Serialize;

/// Work of one execution of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Operations; `None` for an operator whose arithmetic we do not know.
    pub flops: Option<u64>,
    /// Bytes to read; `None` when a type is not known.
    pub read_bytes: Option<u64>,
    /// Bytes to write; `None` when a type is not known.
    pub write_bytes: Option<u64>,
    /// Whether operations or bytes are an upper bound: experts that were not
    /// recorded, cache cells that may be empty.
    pub at_most: bool,
    /// Whether the products are of 8-bit integers: weights are quantised, and the
    /// CPU quantises the other operand.
    pub int8: bool,
}

/// What a trace may know beyond shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Distinct experts that a node of experts used, on average.
    pub experts: Option<u64>,
    /// Cells of the cache in use, of those in the shape, on average.
    pub cells: Option<u64>,
}

impl Work {
    /// Bytes read and written.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.read_bytes?.saturating_add(self.write_bytes?))
    }

    /// Operations for each byte.
    pub fn intensity(&self) -> Option<f64> {
        let bytes = self.bytes().filter(|&bytes| bytes > 0)?;
        Some(self.flops? as f64 / bytes as f64)
    }

    /// Both, one after the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Self {
            flops: add(self.flops, other.flops),
            read_bytes: add(self.read_bytes, other.read_bytes),
            write_bytes: add(self.write_bytes, other.write_bytes),
            at_most: self.at_most || other.at_most,
            int8: self.int8 || other.int8,
        }
    }

    /// Nothing to do.
    pub const NOTHING: Self =
        Self { flops: Some(0), read_bytes: Some(0), write_bytes: Some(0), at_most: false, int8: false };
}

/// The work of a kernel: of a node and those fused with it, whose results in
/// between need not be written and read. `None` when the graph has no such node.
pub fn work(file: &TraceFile, graph: &Graph, node: u32, fused: u32, known: Known) -> Option<Work> {
    let types = file.recording.as_ref().map_or(&[][..], |recording| &recording.types);
    kernel(&|tensor| file.string(tensor.op), types, graph, node, fused, known)
}

/// The work of all nodes of a graph, each by itself, as far as shapes tell.
pub fn graph_work(file: &TraceFile, graph: &Graph) -> Work {
    // Tensors behind the nodes are no nodes, whatever the graph claims.
    let nodes = graph.nodes.min(u32::try_from(graph.tensors.len()).unwrap_or(u32::MAX));
    let each = (0..nodes).filter_map(|node| work(file, graph, node, 0, Known::default()));
    each.fold(Work::NOTHING, Work::and)
}

fn kernel<'a>(
    op: &dyn Fn(&Tensor) -> &'a str,
    types: &[TensorType],
    graph: &Graph,
    node: u32,
    fused: u32,
    known: Known,
) -> Option<Work> {
    let mut all = of_node(op(graph.tensors.get(node as usize)?), types, graph, node, known)?;
    // A file may claim any number.
    for next in node.saturating_add(1)..=node.saturating_add(fused.min(64)) {
        let Some(tensor) = graph.tensors.get(next as usize) else { break };
        let work = of_node(op(tensor), types, graph, next, known)?;
        let between = graph.tensors.get(next as usize - 1).and_then(|before| bytes_of(types, before));
        let passes = tensor.sources.contains(&(next - 1));
        let saved = between.filter(|_| passes).unwrap_or(0);
        all = all.and(work);
        all.read_bytes = all.read_bytes.map(|bytes| bytes.saturating_sub(saved));
        all.write_bytes = all.write_bytes.map(|bytes| bytes.saturating_sub(saved));
    }
    Some(all)
}

fn of_node(op: &str, types: &[TensorType], graph: &Graph, node: u32, known: Known) -> Option<Work> {
    let result = graph.tensors.get(node as usize)?;
    let source = |place: usize| graph.tensors.get(*result.sources.get(place)? as usize);
    let bytes = |tensor: Option<&Tensor>| tensor.map_or(Some(0), |tensor| bytes_of(types, tensor));
    let sources = || {
        let mut seen: Vec<u32> = result.sources.clone();
        seen.sort_unstable();
        seen.dedup();
        let each = seen.into_iter().map(|source| bytes(graph.tensors.get(source as usize)));
        each.sum::<Option<u64>>()
    };
    let n = elements(result);
    let times = |factor: u64| Some(n.saturating_mul(factor));
    let mut work = Work {
        flops: None,
        read_bytes: sources(),
        write_bytes: bytes(Some(result)),
        at_most: false,
        int8: false,
    };
    match op {
        "NONE" | "RESHAPE" | "VIEW" | "PERMUTE" | "TRANSPOSE" => return Some(Work::NOTHING),
        "MUL_MAT" | "OUT_PROD" => {
            work.flops = source(0).map(|weights| n.saturating_mul(2 * dim(weights, 0)));
            work.int8 = source(0).is_some_and(|weights| quantised(types, weights));
        }
        "MUL_MAT_ID" => {
            let weights = source(0)?;
            work.flops = Some(n.saturating_mul(2 * dim(weights, 0)));
            work.int8 = quantised(types, weights);
            // Each token uses `ne[1]` experts of all.
            let most = dim(weights, 2).min(dim(result, 1).saturating_mul(dim(result, 2)));
            let used = known.experts.map_or(most, |experts| experts.min(dim(weights, 2)));
            work.at_most = known.experts.is_none() && dim(result, 2) > 1;
            let expert = bytes(source(0)).map(|all| all / dim(weights, 2).max(1));
            let rest = bytes(source(1)).zip(bytes(source(2)));
            work.read_bytes = expert.zip(rest).map(|(expert, (rows, ids))| {
                expert.saturating_mul(used).saturating_add(rows).saturating_add(ids)
            });
        }
        "FLASH_ATTN_EXT" => {
            let (q, k, v) = (source(0)?, source(1)?, source(2)?);
            let cells = known.cells.map_or(dim(k, 1), |cells| cells.min(dim(k, 1)));
            work.at_most = known.cells.is_none();
            let rows = dim(q, 1).saturating_mul(dim(q, 2)).saturating_mul(dim(q, 3));
            let each = 2u64.saturating_mul(dim(k, 0).saturating_add(dim(v, 0)));
            work.flops = Some(rows.saturating_mul(each).saturating_mul(cells));
            let part = |tensor| {
                bytes(Some(tensor)).map(|all: u64| {
                    (u128::from(all) * u128::from(cells) / u128::from(dim(k, 1).max(1))) as u64
                })
            };
            let mask = source(3).map_or(Some(0), part);
            let read = [bytes(Some(q)), part(k), part(v), mask, bytes(source(4))];
            work.read_bytes = read.into_iter().sum();
        }
        "GET_ROWS" => {
            // The rows that were asked for, not the table.
            work.flops = Some(0);
            let ids = source(1)?;
            let rows = row_bytes(types, source(0)?).map(|row| row.saturating_mul(elements(ids)));
            work.read_bytes = rows.zip(bytes(Some(ids))).map(|(rows, ids)| rows.saturating_add(ids));
        }
        "SET_ROWS" => {
            // The result is the whole cache, of which only rows are written.
            work.flops = Some(0);
            let rows = source(0)?;
            work.read_bytes = bytes(Some(rows)).zip(bytes(source(1))).map(|(a, b)| a.saturating_add(b));
            let count = elements(rows) / dim(rows, 0).max(1);
            work.write_bytes = row_bytes(types, result).map(|row| row.saturating_mul(count));
        }
        "CPY" => {
            // The second source is where to.
            work.flops = Some(0);
            work.read_bytes = bytes(source(0));
        }
        "CONT" | "DUP" | "REPEAT" | "CONCAT" | "PAD" | "ARGSORT" | "TOP_K" | "ARGMAX" | "ARANGE" | "FILL" => {
            work.flops = Some(0);
        }
        "ADD" | "SUB" | "MUL" | "DIV" | "SCALE" | "SQR" | "SQRT" | "CLAMP" | "ADD1" | "ADD_ID" | "ACC" => {
            work.flops = times(1);
        }
        "SUM" | "SUM_ROWS" | "MEAN" | "CUMSUM" => work.flops = source(0).map(elements),
        "RMS_NORM" | "L2_NORM" => work.flops = times(4),
        "NORM" | "GROUP_NORM" => work.flops = times(6),
        "SOFT_MAX" => work.flops = times(5),
        "ROPE" => work.flops = times(3),
        "UNARY" | "GLU" | "SIN" | "COS" | "LOG" | "EXP" | "LEAKY_RELU" => work.flops = times(4),
        "CONV_2D" => {
            let kernel = source(0)?;
            let each = dim(kernel, 0).saturating_mul(dim(kernel, 1)).saturating_mul(dim(kernel, 2));
            work.flops = times(each.saturating_mul(2));
        }
        "SOLVE_TRI" => {
            let (matrix, right) = (source(0)?, source(1)?);
            let n = dim(matrix, 0);
            let each = n.saturating_mul(n.saturating_add(1)).saturating_mul(dim(right, 0));
            work.flops = Some(each.saturating_mul(dim(right, 2).saturating_mul(dim(right, 3))));
        }
        "GATED_DELTA_NET" => {
            // Values are [S, H, T, B].
            let v = source(2)?;
            let s = dim(v, 0);
            let each = s.saturating_mul(4).saturating_add(s.saturating_mul(s).saturating_mul(2));
            let rows = dim(v, 1).saturating_mul(dim(v, 2)).saturating_mul(dim(v, 3));
            work.flops = Some(each.saturating_mul(rows));
        }
        _ => {}
    }
    Some(work)
}

/// Elements in a dimension; none when the file says something below zero.
fn dim(tensor: &Tensor, dimension: usize) -> u64 {
    tensor.ne.get(dimension).map_or(0, |&n| u64::try_from(n).unwrap_or(0))
}

fn elements(tensor: &Tensor) -> u64 {
    (0..4).fold(1, |all, dimension| dim(tensor, dimension).saturating_mul(all))
}

fn type_of<'a>(types: &'a [TensorType], tensor: &Tensor) -> Option<&'a TensorType> {
    let known = types.get(tensor.tensor_type as usize)?;
    (known.block_elements > 0 && known.block_bytes > 0).then_some(known)
}

fn quantised(types: &[TensorType], tensor: &Tensor) -> bool {
    type_of(types, tensor).is_some_and(|known| known.block_elements > 1)
}

fn packed(known: &TensorType, elements: u64) -> u64 {
    elements.div_ceil(known.block_elements.into()).saturating_mul(known.block_bytes.into())
}

/// Bytes of one row of a table.
fn row_bytes(types: &[TensorType], tensor: &Tensor) -> Option<u64> {
    Some(packed(type_of(types, tensor)?, dim(tensor, 0)))
}

/// Bytes of all its elements; those that a stride of 0 repeats count once.
pub(crate) fn bytes_of(types: &[TensorType], tensor: &Tensor) -> Option<u64> {
    let row = row_bytes(types, tensor)?;
    let rows = (1..4).fold(1u64, |all, dimension| {
        let repeated = tensor.nb.get(dimension) == Some(&0) && dim(tensor, dimension) > 0;
        all.saturating_mul(if repeated { 1 } else { dim(tensor, dimension) })
    });
    Some(row.saturating_mul(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 is f32, 1 is f16, 2 is q4_K (256 elements in 144 bytes), 3 is i32.
    fn types() -> Vec<TensorType> {
        let each = [("f32", 1, 4), ("f16", 1, 2), ("q4_K", 256, 144), ("i32", 1, 4)];
        let each = each.map(|(name, block_elements, block_bytes)| TensorType {
            name: name.into(),
            block_elements,
            block_bytes,
        });
        each.to_vec()
    }

    fn tensor(tensor_type: u32, ne: [i64; 4]) -> Tensor {
        Tensor { tensor_type, ne, nb: [1; 4], ..Tensor::default() }
    }

    /// The work of one node with these sources.
    fn of(op: &str, result: Tensor, sources: &[Tensor], known: Known) -> Work {
        let mut tensors = vec![Tensor { sources: (1..=sources.len() as u32).collect(), ..result }];
        tensors.extend(sources.iter().cloned());
        of_node(op, &types(), &Graph { id: 0, tensors, nodes: 1 }, 0, known).unwrap()
    }

    #[test]
    fn a_matrix_product_is_two_operations_for_each_weight_and_row() {
        // ffn_up of Gemma 3 270M: 640×2048 in q4_K, one token.
        let weights = tensor(2, [768, 2048, 1, 1]);
        let work = of(
            "MUL_MAT",
            tensor(0, [2048, 1, 1, 1]),
            &[weights, tensor(0, [768, 1, 1, 1])],
            Known::default(),
        );
        assert_eq!(work.flops, Some(2 * 768 * 2048));
        assert_eq!(work.read_bytes, Some(2048 * 3 * 144 + 768 * 4));
        assert_eq!((work.write_bytes, work.int8, work.at_most), (Some(8192), true, false));
    }

    #[test]
    fn experts_count_once_however_many_tokens_use_them() {
        // 128 experts of 256×512, eight for each of 100 tokens.
        let sources = [tensor(2, [256, 512, 128, 1]), tensor(0, [256, 1, 100, 1]), tensor(3, [8, 100, 1, 1])];
        let result = tensor(0, [512, 8, 100, 1]);
        let expert = 512 * 144;
        let rest = 256 * 100 * 4 + 8 * 100 * 4;
        let unknown = of("MUL_MAT_ID", result.clone(), &sources, Known::default());
        assert_eq!(unknown.flops, Some(2 * 256 * 512 * 8 * 100));
        assert_eq!((unknown.read_bytes, unknown.at_most), (Some(128 * expert + rest), true));
        let known = Known { experts: Some(60), cells: None };
        let known = of("MUL_MAT_ID", result, &sources, known);
        assert_eq!((known.read_bytes, known.at_most), (Some(60 * expert + rest), false));
        // One token's experts are distinct.
        let one = [tensor(2, [256, 512, 128, 1]), tensor(0, [256, 1, 1, 1]), tensor(3, [8, 1, 1, 1])];
        let one = of("MUL_MAT_ID", tensor(0, [512, 8, 1, 1]), &one, Known::default());
        assert_eq!((one.read_bytes, one.at_most), (Some(8 * expert + 1024 + 32), false));
    }

    #[test]
    fn attention_reads_the_cells_in_use() {
        // One token, 4 heads of 256, one head in the cache, 512 cells, 100 in use.
        let sources = [
            tensor(0, [256, 1, 4, 1]),
            tensor(1, [256, 512, 1, 1]),
            tensor(1, [256, 512, 1, 1]),
            tensor(1, [512, 1, 1, 1]),
        ];
        let result = tensor(0, [256, 4, 1, 1]);
        let all = of("FLASH_ATTN_EXT", result.clone(), &sources, Known::default());
        assert_eq!(all.flops, Some(2 * 4 * (256 + 256) * 512));
        assert_eq!(all.read_bytes, Some(4096 + 2 * 256 * 512 * 2 + 1024));
        assert!(all.at_most);
        let some = of("FLASH_ATTN_EXT", result, &sources, Known { experts: None, cells: Some(100) });
        assert_eq!(some.flops, Some(2 * 4 * 512 * 100));
        assert_eq!((some.read_bytes, some.at_most), (Some(4096 + 2 * 256 * 100 * 2 + 200), false));
    }

    #[test]
    fn tables_and_caches_are_not_read_or_written_whole() {
        let table = tensor(2, [768, 262_144, 1, 1]);
        let get =
            of("GET_ROWS", tensor(0, [768, 3, 1, 1]), &[table, tensor(3, [3, 1, 1, 1])], Known::default());
        assert_eq!((get.read_bytes, get.write_bytes), (Some(3 * 3 * 144 + 12), Some(768 * 3 * 4)));
        let sources = [tensor(0, [256, 5, 1, 1]), tensor(3, [5, 1, 1, 1])];
        let set = of("SET_ROWS", tensor(1, [256, 4096, 1, 1]), &sources, Known::default());
        assert_eq!((set.read_bytes, set.write_bytes), (Some(256 * 5 * 4 + 20), Some(256 * 5 * 2)));
    }

    #[test]
    fn repeated_rows_count_once_and_views_by_their_elements() {
        let repeated = Tensor { nb: [4, 0, 400, 400], ..tensor(0, [100, 7, 2, 1]) };
        assert_eq!(bytes_of(&types(), &repeated), Some(800));
        let view = Tensor { nb: [4, 100_000, 1, 1], ..tensor(0, [10, 3, 1, 1]) };
        assert_eq!(bytes_of(&types(), &view), Some(120));
        let add =
            of("ADD", tensor(0, [100, 7, 1, 1]), &[tensor(0, [100, 7, 1, 1]), repeated], Known::default());
        assert_eq!((add.flops, add.read_bytes), (Some(700), Some(2800 + 800)));
    }

    #[test]
    fn fused_nodes_do_not_write_what_is_between() {
        let norm = Tensor { sources: vec![2], ..tensor(0, [640, 1, 1, 1]) };
        let mul = Tensor { sources: vec![0, 3], ..tensor(0, [640, 1, 1, 1]) };
        let tensors = vec![norm, mul, tensor(0, [640, 1, 1, 1]), tensor(0, [640, 1, 1, 1])];
        let graph = Graph { id: 0, tensors, nodes: 2 };
        let work = (0..2).map(|node| {
            of_node(["RMS_NORM", "MUL"][node as usize], &types(), &graph, node, Known::default()).unwrap()
        });
        let apart = work.reduce(Work::and).unwrap();
        assert_eq!(apart.bytes(), Some(640 * 4 * 5));
        let names = |tensor: &Tensor| if tensor.sources.len() == 1 { "RMS_NORM" } else { "MUL" };
        let together = kernel(&names, &types(), &graph, 0, 1, Known::default()).unwrap();
        assert_eq!((together.flops, together.bytes()), (Some(640 * 5), Some(640 * 4 * 3)));
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let unknown =
            of("SOMETHING_NEW", tensor(0, [8, 1, 1, 1]), &[tensor(0, [8, 1, 1, 1])], Known::default());
        assert_eq!((unknown.flops, unknown.bytes()), (None, Some(64)));
        let no_type = of("ADD", tensor(99, [8, 1, 1, 1]), &[tensor(0, [8, 1, 1, 1])], Known::default());
        assert_eq!((no_type.flops, no_type.bytes()), (Some(8), None));
        let hostile = tensor(0, [i64::MAX, i64::MAX, -5, i64::MIN]);
        let hostile = of("MUL_MAT", hostile.clone(), &[hostile.clone(), hostile], Known::default());
        assert_eq!(hostile.flops, Some(0));
        assert_eq!(of("VIEW", tensor(99, [8; 4]), &[], Known::default()), Work::NOTHING);
    }
}
