//! How long attention takes by its length: how many cells each token looks at.

use crate::stats::{millis, ratio};
use crate::{Phase, Trace};
use llmtrace_format::ColumnSet;
use llmtrace_format::meta::Graph;
use llmtrace_format::tables::{ExecutionTotal, ExecutionTotals};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Graph runs with attention of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttentionRow {
    /// Cells that the longest attention of the graph looks at, padding included.
    pub cells: u64,
    /// Decode runs of such graphs.
    pub runs: u64,
    /// Nanoseconds of these runs, summed.
    #[serde(rename = "graph_ms", serialize_with = "millis")]
    pub graph_nanos: u64,
    /// Milliseconds of attention in these runs, summed over threads; `None` where
    /// operators were not recorded.
    pub attention_ms: Option<f64>,
    /// Attention as a part of all computing; `None` where operators were not recorded.
    pub share: Option<f64>,
}

/// Cells that the longest attention of a graph looks at; `None` when it has none that
/// we know.
pub(super) fn attention_cells(trace: &Trace, graph: &Graph) -> Option<u64> {
    let nodes = graph.tensors.iter().take(graph.nodes as usize);
    let cells = nodes.filter_map(|tensor| match trace.file.string(tensor.op) {
        // Keys are the second source, a row for each cell.
        "FLASH_ATTN_EXT" => graph.tensors.get(*tensor.sources.get(1)? as usize)?.ne.get(1).copied(),
        "SOFT_MAX" if is_attention(trace.file.string(tensor.name)) => tensor.ne.first().copied(),
        _ => None,
    });
    cells.max().and_then(|cells| u64::try_from(cells).ok())
}

/// Sums by node, of a file that brings them.
fn totals(trace: &Trace) -> Vec<ExecutionTotal> {
    let blocks = trace.file.blocks_of::<ExecutionTotals>();
    let tables = blocks.filter_map(|block| trace.file.read::<ExecutionTotals>(block, ColumnSet::ALL).ok());
    tables.flat_map(|table| table.rows().collect::<Vec<_>>()).collect()
}

fn is_attention(name: &str) -> bool {
    name.starts_with("kq_soft_max")
}

/// Decode runs by the length of their attention.
pub fn attention(trace: &Trace) -> Vec<AttentionRow> {
    let cells: HashMap<u32, u64> = trace
        .file
        .graphs
        .iter()
        .filter_map(|graph| Some((graph.id, attention_cells(trace, graph)?)))
        .collect();
    let phases: HashMap<u32, u8> = trace.ubatches.iter().map(|row| (row.id, row.phase)).collect();
    let mut rows: BTreeMap<u64, AttentionRow> = BTreeMap::new();
    for span in &trace.graph_spans {
        let Some(&cells) = cells.get(&span.graph) else { continue };
        if phases.get(&span.ubatch) != Some(&(Phase::Decode as u8)) {
            continue;
        }
        let row = rows.entry(cells).or_insert(AttentionRow {
            cells,
            runs: 0,
            graph_nanos: 0,
            attention_ms: None,
            share: None,
        });
        row.runs += 1;
        row.graph_nanos = row.graph_nanos.saturating_add(span.end.saturating_sub(span.begin));
    }
    let mut sums: HashMap<u64, (u64, u64)> = HashMap::new();
    for total in totals(trace) {
        let Some(cells) = cells.get(&total.graph).filter(|cells| rows.contains_key(cells)) else { continue };
        let Some(graph) = trace.graph(total.graph) else { continue };
        let op = graph.tensors.get(total.node as usize).map_or("", |tensor| trace.file.string(tensor.op));
        let name = graph.tensors.get(total.node as usize).map_or("", |tensor| trace.file.string(tensor.name));
        let (attention, all) = sums.entry(*cells).or_default();
        *all = all.saturating_add(total.compute);
        if op == "FLASH_ATTN_EXT" || (op == "SOFT_MAX" && is_attention(name)) || is_product(name) {
            *attention = attention.saturating_add(total.compute);
        }
    }
    for (cells, (attention, all)) in sums {
        if let Some(row) = rows.get_mut(&cells) {
            row.attention_ms = Some(attention as f64 / 1e6);
            row.share = (all > 0).then(|| ratio(attention, all));
        }
    }
    rows.into_values().collect()
}

/// Products of queries with keys, and of their weights with values.
fn is_product(name: &str) -> bool {
    name.starts_with("kq-") || name.starts_with("kqv-")
}
