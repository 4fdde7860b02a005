//! Where in the model a node belongs: phase → layer → module → op → node.
//!
//! Names come first: engines name what matters (`ffn_up-7`), and weights carry
//! layer and part in theirs (`blk.7.attn_output.weight`). A node that nobody
//! named (`node_30`) is placed by the weights it reads, then by what it is, then
//! by the nodes that it reads from. What none of this tells is
//! [`Module::Other`]: never a guess.

use crate::node::{self, op_label, role};
use crate::{Phase, Trace};
use llmtrace_format::TraceFile;
use llmtrace_format::meta::{Graph, Tensor};
use serde::Serialize;

/// A part of a layer, or of what surrounds the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Module {
    /// From tokens to vectors, and what is done to them before the first layer.
    Embedding,
    /// Projections, rotation, cache and attention itself.
    Attention,
    /// State space, convolution and linear attention: what stands in for attention.
    Recurrent,
    /// The dense feed-forward part.
    Ffn,
    /// Routing, experts and shared experts.
    Moe,
    /// Normalisations, wherever they stand.
    Norm,
    /// From the last layer to logits.
    Output,
    /// What neither names nor structure place.
    #[default]
    Other,
}

impl Module {
    /// All, in the order of a model.
    pub const ALL: [Self; 8] = [
        Self::Embedding,
        Self::Attention,
        Self::Recurrent,
        Self::Ffn,
        Self::Moe,
        Self::Norm,
        Self::Output,
        Self::Other,
    ];

    /// The name on the command line and in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Recurrent => "recurrent",
            Self::Ffn => "ffn",
            Self::Moe => "moe",
            Self::Norm => "norm",
            Self::Output => "output",
            Self::Other => "other",
        }
    }
}

/// Layer and module of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// Layer of the model; `None` for what belongs to none, or is not known to.
    pub layer: Option<u32>,
    /// Part of it.
    pub module: Module,
}

/// What a node is, all the way from the phase to its shape: nodes with equal keys
/// do the same, in whichever graph, token or run of the same model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RollupKey {
    /// Phase in which it was computed, by number.
    pub phase: u8,
    /// Layer and module.
    pub location: Location,
    /// Operator with those fused into it, such as `RMS_NORM+MUL`.
    pub op: String,
    /// Name, such as `ffn_up-7`.
    pub name: String,
    /// Types and shapes of the operands and the result: `q4_K[640×2048] f32[640] → f32[2048]`.
    pub shape: String,
}

impl RollupKey {
    /// The key of a node of a graph whose locations are known.
    pub fn of(
        trace: &Trace,
        graph: &Graph,
        locations: &[Location],
        (node, fused): (u32, u32),
        phase: Phase,
    ) -> Self {
        let name = node::result(graph, node, fused).map_or("", |tensor| trace.file.string(tensor.name));
        Self {
            phase: phase as u8,
            location: location_of(locations, node, fused),
            op: op_label(&trace.file, graph, node, fused),
            name: name.to_owned(),
            shape: signature(&trace.file, graph, node, fused),
        }
    }
}

/// The location of what a kernel gives: that of its last node.
pub fn location_of(locations: &[Location], node: u32, fused: u32) -> Location {
    let at = |node: u32| locations.get(node as usize).copied();
    at(node.saturating_add(fused)).or_else(|| at(node)).unwrap_or_default()
}

/// Types and shapes of operands and result.
pub fn signature(file: &TraceFile, graph: &Graph, node: u32, fused: u32) -> String {
    let text = |tensor: &Tensor| format!("{}[{}]", node::type_name(file, tensor), node::shape(tensor));
    let Some(first) = graph.tensors.get(node as usize) else { return String::new() };
    let sources = first.sources.iter().take(4).filter_map(|&source| graph.tensors.get(source as usize));
    let mut all = sources.map(text).collect::<Vec<_>>().join(" ");
    if let Some(result) = node::result(graph, node, fused) {
        all.push_str(" → ");
        all.push_str(&text(result));
    }
    all
}

/// The location of each node of a graph, by its index.
pub fn locations(file: &TraceFile, graph: &Graph) -> Vec<Location> {
    let nodes = graph.tensors.get(..graph.nodes as usize).unwrap_or(&graph.tensors);
    let mut found: Vec<Location> = Vec::with_capacity(nodes.len());
    for tensor in nodes {
        let name = file.string(tensor.name);
        let op = file.string(tensor.op);
        let sources = || tensor.sources.iter().filter_map(|&source| graph.tensors.get(source as usize));
        // Weights and caches; nodes' own names come later.
        let stored = || sources().filter(|source| file.string(source.op) == "NONE");
        let stored = || stored().map(|source| file.string(source.name)).filter(|name| !is_automatic(name));
        let automatic = is_automatic(name);
        let by_weight = stored().find_map(weight_module);
        let by_name = if automatic { None } else { name_module(name) };
        let mut module =
            if is_norm(op) { Some(Module::Norm) } else { by_name.or(by_weight).or_else(|| op_module(op)) };
        let mut layer = node::layer(name).or_else(|| stored().find_map(stored_layer));
        // What the engine named without a layer belongs to none.
        if automatic || module.is_none() {
            let before = tensor.sources.iter().filter_map(|&source| found.get(source as usize));
            if layer.is_none() && automatic && !matches!(module, Some(Module::Output | Module::Embedding)) {
                layer = before.clone().filter_map(|location| location.layer).max();
            }
            if module.is_none() {
                // The latest layer's source: a residual belongs to what it adds.
                let known = before.filter(|location| location.module != Module::Other);
                let known = known.max_by_key(|location| (location.layer, location.module != Module::Norm));
                module = known.map(|location| location.module);
            }
        }
        found.push(Location { layer, module: module.unwrap_or_default() });
    }
    // Engines call a norm `norm` in some places, and what scales it `attn_post_norm-7`.
    for (index, tensor) in nodes.iter().enumerate() {
        if file.string(tensor.name) == "norm"
            && let Some(next) = nodes.get(index + 1)
            && next.sources.contains(&(index as u32))
            && let Some(&scaled) = found.get(index + 1)
            && let Some(norm) = found.get_mut(index)
        {
            norm.layer = scaled.layer;
        }
    }
    found
}

/// Whether ggml made up the name.
pub(crate) fn is_automatic(name: &str) -> bool {
    let base = name.split(' ').next().unwrap_or(name);
    let number = base.strip_prefix("node_").or_else(|| base.strip_prefix("leaf_"));
    base.is_empty() || number.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_norm(op: &str) -> bool {
    matches!(op, "RMS_NORM" | "NORM" | "L2_NORM" | "GROUP_NORM")
}

/// What an operator can only be part of.
fn op_module(op: &str) -> Option<Module> {
    match op {
        "FLASH_ATTN_EXT" | "ROPE" => Some(Module::Attention),
        "MUL_MAT_ID" | "ADD_ID" => Some(Module::Moe),
        "SSM_CONV" | "SSM_SCAN" | "RWKV_WKV6" | "RWKV_WKV7" | "GATED_LINEAR_ATTN" | "GATED_DELTA_NET" => {
            Some(Module::Recurrent)
        }
        _ => None,
    }
}

/// The layer in a weight's name: `blk.7.…`, and `encoder.blocks.7.…` of other engines.
fn stored_layer(name: &str) -> Option<u32> {
    node::layer(name).or_else(|| {
        let (_, rest) = name.split_once("blocks.").or_else(|| name.split_once("layers."))?;
        rest.split('.').next()?.parse().ok()
    })
}

/// By the name that an engine gives to a node.
fn name_module(name: &str) -> Option<Module> {
    let role = role(name);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| role.starts_with(prefix));
    let found = if starts(&["ffn_moe", "ffn_shexp", "shared_expert", "moe_"]) {
        Module::Moe
    } else if role.contains("norm") && !starts(&["kq", "kqv"]) {
        Module::Norm
    } else if starts(&["ffn", "mlp", "l_out"]) {
        Module::Ffn
    } else if starts(&["result_", "output"]) {
        Module::Output
    } else if starts(&["inp_", "embd", "inpL", "token_embd"]) {
        Module::Embedding
    } else if starts(&["ssm", "conv_", "linear_attn", "mamba", "wkv", "time_mix", "gdn", "delta_net"]) {
        Module::Recurrent
    } else if starts(&["Qcur", "Kcur", "Vcur", "Q", "K", "V", "q_", "k_", "v_", "kq", "qkv", "wqkv", "kv_"])
        || starts(&["attn", "sa_out", "cache_k", "cache_v", "cross_attn", "__fattn__"])
        || matches!(role, "q" | "k" | "v")
    {
        Module::Attention
    } else {
        return None;
    };
    Some(found)
}

/// By the name of a weight: `blk.7.ffn_up.weight`, `decoder.blocks.0.mlp.0.weight`.
fn weight_module(name: &str) -> Option<Module> {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let found = if has(&["_exps", "_shexp", "ffn_gate_inp", "exp_probs"]) {
        Module::Moe
    } else if has(&["_norm", "_ln.", ".ln.", "ln_post"]) {
        Module::Norm
    } else if has(&["ssm_", "time_mix", "shortconv"]) {
        Module::Recurrent
    } else if has(&["ffn_", ".mlp.", "channel_mix"]) {
        Module::Ffn
    } else if has(&["attn", "cache_k", "cache_v", "rope_freqs"]) {
        Module::Attention
    } else if has(&["token_embd", "token_embedding", "position", ".conv1.", ".conv2.", "token_types"]) {
        Module::Embedding
    } else if name.starts_with("output") {
        Module::Output
    } else if name.starts_with("inp_") && has(&["embd", "tokens"]) {
        Module::Embedding
    } else {
        return None;
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::Source;
    use std::collections::BTreeMap;

    fn sample(name: &str) -> Trace {
        let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
        Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
    }

    fn last_graph(trace: &Trace) -> &Graph {
        trace.graph(trace.graph_spans.last().unwrap().graph).unwrap()
    }

    #[test]
    fn every_node_of_the_samples_has_a_place() {
        for (name, layers) in [("gemma3-270m-2t", 18), ("qwen3moe-synthetic-2t", 8)] {
            let trace = sample(name);
            let graph = last_graph(&trace);
            let all = locations(&trace.file, graph);
            assert_eq!(all.len(), graph.nodes as usize);
            let mut by: BTreeMap<Location, Vec<String>> = BTreeMap::new();
            for (tensor, location) in graph.tensors.iter().zip(&all) {
                by.entry(*location).or_default().push(trace.file.string(tensor.name).to_owned());
            }
            let other: Vec<_> = by.iter().filter(|(key, _)| key.module == Module::Other).collect();
            assert!(other.is_empty(), "{name}: {other:?}");
            let found: std::collections::BTreeSet<_> = all.iter().filter_map(|at| at.layer).collect();
            assert_eq!(found.len(), layers, "{name}");
            // Layers are alike, but for the last, which takes the rows that are asked for
            // from itself and the one before.
            let of = |layer, module| by.get(&Location { layer: Some(layer), module }).map_or(0, Vec::len);
            for module in Module::ALL {
                for layer in 1..layers as u32 - 2 {
                    assert_eq!(of(layer, module), of(1, module), "{name} {layer} {module:?} {by:#?}");
                }
            }
        }
    }

    #[test]
    fn what_nobody_named_is_placed_by_its_weights_and_sources() {
        let trace = sample("qwen3moe-synthetic-2t");
        let graph = last_graph(&trace);
        let all = locations(&trace.file, graph);
        let find = |name: &str| {
            let at = graph.tensors.iter().position(|tensor| trace.file.string(tensor.name) == name);
            all[at.unwrap()]
        };
        assert_eq!(find("node_28"), Location { layer: Some(0), module: Module::Attention });
        assert_eq!(find("ffn_moe_down-3"), Location { layer: Some(3), module: Module::Moe });
        assert_eq!(find("result_output"), Location { layer: None, module: Module::Output });
        assert_eq!(find("result_norm"), Location { layer: None, module: Module::Norm });
    }

    #[test]
    fn names_of_other_engines_and_architectures() {
        assert_eq!(weight_module("decoder.blocks.3.mlp.0.weight"), Some(Module::Ffn));
        assert_eq!(weight_module("encoder.blocks.3.attn_ln.weight"), Some(Module::Norm));
        assert_eq!(weight_module("blk.2.attn_output.weight"), Some(Module::Attention));
        assert_eq!(weight_module("blk.2.ffn_gate_inp.weight"), Some(Module::Moe));
        assert_eq!(stored_layer("decoder.blocks.3.mlp.0.weight"), Some(3));
        assert_eq!(name_module("ffn_moe_weights_norm-4"), Some(Module::Moe));
        assert_eq!(name_module("Qcur_normed-4"), Some(Module::Norm));
        assert_eq!(name_module("something"), None);
        assert!(is_automatic("node_12 (view)") && is_automatic("") && !is_automatic("norm"));
    }
}
