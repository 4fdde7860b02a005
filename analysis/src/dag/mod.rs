//! The compute graph as people think of it: stacks of layers, layers, blocks, nodes.
//!
//! ```text
//! Outline                        expanded in place
//! ├─ embedding                   embedding
//! ├─ layers 0–46 ×47             layers 0–46 ×47 ──► layer 0 ──► attention ──► Qcur-0 (MUL_MAT)
//! ├─ layer 47                    layer 47            layer 1     ffn           …
//! └─ output                      output              …
//! ```
//!
//! Every part is a run of nodes in the order of execution. Sources come before what reads them,
//! so that a graph of such parts has no cycle, whichever are expanded. [`visible`] gives the
//! parts to draw and what flows between them, [`layout()`] places them, [`heat`] says what each node
//! cost, and [`critical_path`] which of them could not have been done beside others.

mod counterpart;
mod heat;
mod layout;
mod outline;
mod visible;

pub use counterpart::counterpart;
pub use heat::{NodeHeat, critical_path, heat};
pub use layout::{Layout, Placed, layout};
pub use outline::{Kind, Outline, Part};
pub use visible::{Edge, Leaves, Sum, Visible, visible};

use llmtrace_format::TraceFile;
use llmtrace_format::meta::{Graph, Tensor};

/// What a tensor that no node computes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Weights: constant.
    Weight,
    /// A cache of keys and values, or of states.
    Cache,
    /// What a call brings: tokens, positions, masks.
    Input,
    /// A copy of what another backend has, at the begin of a split.
    Copied,
}

impl Leaf {
    /// What a tensor is, by the names that engines give.
    pub fn of(name: &str) -> Self {
        // The scheduler calls copies `CPU#inp_embd#0`: backend, tensor, number of the copy.
        let copied = name.rsplit_once('#').is_some_and(|(before, number)| {
            before.contains('#') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if copied {
            Self::Copied
        } else if name.starts_with("cache_") || name.contains("_cache_") {
            Self::Cache
        } else if name.contains(".weight") || name.contains(".bias") || name.contains(".scale") {
            Self::Weight
        } else {
            Self::Input
        }
    }
}

/// Most views of views that are followed: a file may claim any chain.
const DEEP: usize = 32;

/// Whether an operator only looks at its source in another way, and takes no time.
pub fn is_view(op: &str) -> bool {
    matches!(op, "VIEW" | "RESHAPE" | "PERMUTE" | "TRANSPOSE" | "NONE")
}

/// The tensor that a chain of views looks at, by index.
pub fn behind_views(file: &TraceFile, graph: &Graph, index: u32) -> u32 {
    let mut at = index;
    for _ in 0..DEEP {
        let Some(tensor) = graph.tensors.get(at as usize) else { return at };
        if at >= graph.nodes || !is_view(file.string(tensor.op)) {
            return at;
        }
        match tensor.sources.first() {
            // A source comes before; anything else is a damaged file.
            Some(&source) if source < at || source >= graph.nodes => at = source,
            _ => return at,
        }
    }
    at
}

/// Nodes of a graph; a file may claim more than it brings.
fn nodes_of(graph: &Graph) -> &[Tensor] {
    graph.tensors.get(..graph.nodes as usize).unwrap_or(&graph.tensors)
}

#[cfg(test)]
mod tests;
