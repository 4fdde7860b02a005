//! A graph like that of Gemma 3 270M in Q4_K_M, without its weights.

use super::model::{Model, ModelGraph, ModelTensor};
use llmtrace_format::meta::{Tensor, TensorType};

const LAYERS: u32 = 18;
const EMBEDDING: i64 = 640;
const FEED_FORWARD: i64 = 2048;
const HEAD: i64 = 256;
const HEADS: i64 = 4;
const VOCABULARY: i64 = 262_144;
const CACHE: i64 = 512;

const F32: u32 = 0;
const F16: u32 = 1;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;

/// The built-in model, with a prompt of this many tokens.
pub fn gemma(prompt_tokens: u32) -> Model {
    Model {
        name: "synthetic-270m-q4_k_m.gguf".into(),
        types: types(),
        prompt_tokens,
        prefill: Builder::default().build(prompt_tokens.into()),
        decode: Builder::default().build(1),
    }
}

fn types() -> Vec<TensorType> {
    let known = [(F32, "f32", 1, 4), (F16, "f16", 1, 2), (Q8_0, "q8_0", 32, 34), (Q4_K, "q4_K", 256, 144)];
    let mut types = vec![TensorType::default(); 15];
    for (index, name, block_elements, block_bytes) in known {
        if let Some(known) = types.get_mut(index as usize) {
            *known = TensorType { name: name.to_owned(), block_elements, block_bytes };
        }
    }
    types
}

/// Where a source is: nodes come first in the file, and leaves are not counted
/// before all nodes are there.
#[derive(Clone, Copy)]
enum Place {
    Node(usize),
    Leaf(usize),
}

#[derive(Default)]
struct Builder {
    nodes: Vec<(ModelTensor, Vec<Place>)>,
    leaves: Vec<ModelTensor>,
}

impl Builder {
    fn build(mut self, tokens: i64) -> ModelGraph {
        let table = self.leaf("token_embd.weight", Q8_0, [EMBEDDING, VOCABULARY, 1, 1]);
        let ids = self.leaf("inp_tokens", F32, [tokens, 1, 1, 1]);
        let embedded = self.node("inp_embd", "GET_ROWS", [EMBEDDING, tokens, 1, 1], &[table, ids]);
        let mut hidden = self.node("inp_scaled", "SCALE", [EMBEDDING, tokens, 1, 1], &[embedded]);
        for layer in 0..LAYERS {
            hidden = self.attention(layer, tokens, hidden);
            hidden = self.feed_forward(layer, tokens, hidden);
        }
        // Only the last token's logits are asked for.
        let normed = self.norm("result_norm", "output_norm.weight", [EMBEDDING, 1, 1, 1], hidden);
        self.node("result_output", "MUL_MAT", [VOCABULARY, 1, 1, 1], &[table, normed]);
        let nodes = self.nodes.len();
        let index = |place: &Place| match place {
            Place::Node(index) => *index as u32,
            Place::Leaf(index) => (nodes + index) as u32,
        };
        let nodes_with_sources = self.nodes.iter().map(|(node, sources)| {
            let mut node = node.clone();
            node.tensor.sources = sources.iter().map(index).collect();
            if matches!(node.op.as_str(), "VIEW" | "RESHAPE" | "PERMUTE") {
                node.tensor.view_of = node.tensor.sources.first().copied();
            }
            node
        });
        let tensors = nodes_with_sources.collect::<Vec<_>>().into_iter().chain(self.leaves).collect();
        ModelGraph { tensors, nodes: nodes as u32 }
    }

    fn attention(&mut self, layer: u32, tokens: i64, input: Place) -> Place {
        let name = |role: &str| format!("{role}-{layer}");
        let weight = |role: &str| format!("blk.{layer}.{role}.weight");
        let width = [EMBEDDING, tokens, 1, 1];
        let x = self.norm(&name("attn_norm"), &weight("attn_norm"), width, input);
        let q = self.linear(&name("Qcur"), &weight("attn_q"), HEAD * HEADS, tokens, x);
        let k = self.linear(&name("Kcur"), &weight("attn_k"), HEAD, tokens, x);
        let v = self.linear(&name("Vcur"), &weight("attn_v"), HEAD, tokens, x);
        let positions = self.leaf("inp_pos", F32, [tokens, 1, 1, 1]);
        let (q_heads, k_heads) = ([HEAD, HEADS, tokens, 1], [HEAD, 1, tokens, 1]);
        let q = self.node(&name("Qcur (reshaped)"), "RESHAPE", q_heads, &[q]);
        let q = self.norm(&name("Qcur_normed"), &weight("attn_q_norm"), q_heads, q);
        let q = self.node(&name("Qcur"), "ROPE", q_heads, &[q, positions]);
        let q = self.node(&name("Qcur_scaled"), "SCALE", q_heads, &[q]);
        let k = self.node(&name("Kcur (reshaped)"), "RESHAPE", k_heads, &[k]);
        let k = self.norm(&name("Kcur_normed"), &weight("attn_k_norm"), k_heads, k);
        let k = self.node(&name("Kcur"), "ROPE", k_heads, &[k, positions]);
        let cache = [HEAD, CACHE, 1, 1];
        let k_cache = self.leaf(&format!("cache_k_l{layer}"), F16, cache);
        let v_cache = self.leaf(&format!("cache_v_l{layer}"), F16, cache);
        let k = self.node(&format!("cache_k_l{layer} (view)"), "SET_ROWS", cache, &[k, k_cache]);
        let v = self.node(&format!("cache_v_l{layer} (view)"), "SET_ROWS", cache, &[v, v_cache]);
        let k = self.node(&format!("cache_k_l{layer} (view) (permuted)"), "PERMUTE", cache, &[k]);
        let v = self.node(&format!("cache_v_l{layer} (view) (permuted)"), "PERMUTE", cache, &[v]);
        let out = self.node(&format!("__fattn__-{layer}"), "FLASH_ATTN_EXT", q_heads, &[q, k, v]);
        let out = self.node(&name("kqv_out"), "RESHAPE", [HEAD * HEADS, tokens, 1, 1], &[out]);
        let out = self.linear(&name("attn_out"), &weight("attn_output"), EMBEDDING, tokens, out);
        let out = self.norm(&name("attn_post_norm"), &weight("post_attention_norm"), width, out);
        self.node(&name("sa_out"), "ADD", width, &[out, input])
    }

    fn feed_forward(&mut self, layer: u32, tokens: i64, input: Place) -> Place {
        let name = |role: &str| format!("{role}-{layer}");
        let weight = |role: &str| format!("blk.{layer}.{role}.weight");
        let width = [EMBEDDING, tokens, 1, 1];
        let x = self.norm(&name("ffn_norm"), &weight("ffn_norm"), width, input);
        let gate = self.linear(&name("ffn_gate"), &weight("ffn_gate"), FEED_FORWARD, tokens, x);
        let up = self.linear(&name("ffn_up"), &weight("ffn_up"), FEED_FORWARD, tokens, x);
        let x = self.node(&name("ffn_geglu"), "GLU", [FEED_FORWARD, tokens, 1, 1], &[gate, up]);
        if let Some((glu, _)) = self.nodes.last_mut() {
            glu.variant = "GEGLU".to_owned();
        }
        let out = self.linear(&name("ffn_out"), &weight("ffn_down"), EMBEDDING, tokens, x);
        let out = self.norm(&name("ffn_post_norm"), &weight("post_ffw_norm"), width, out);
        self.node(&name("l_out"), "ADD", width, &[out, input])
    }

    /// A norm and its multiplication, which llama.cpp runs as one kernel.
    fn norm(&mut self, name: &str, weight: &str, ne: [i64; 4], input: Place) -> Place {
        let layer = name.rsplit_once('-').map_or("", |(_, layer)| layer);
        let norm = if layer.is_empty() { "norm".to_owned() } else { format!("norm-{layer}") };
        let normed = self.node(&norm, "RMS_NORM", ne, &[input]);
        let weight = self.leaf(weight, F32, [ne[0], 1, 1, 1]);
        self.node(name, "MUL", ne, &[normed, weight])
    }

    fn linear(&mut self, name: &str, weight: &str, out: i64, tokens: i64, input: Place) -> Place {
        let width = match input {
            Place::Node(index) => self.nodes.get(index).map_or(1, |(node, _)| node.tensor.ne[0]),
            Place::Leaf(index) => self.leaves.get(index).map_or(1, |leaf| leaf.tensor.ne[0]),
        };
        let weight = self.leaf(weight, Q4_K, [width, out, 1, 1]);
        self.node(name, "MUL_MAT", [out, tokens, 1, 1], &[weight, input])
    }

    fn node(&mut self, name: &str, op: &str, ne: [i64; 4], sources: &[Place]) -> Place {
        self.nodes.push((tensor(name, op, F32, ne), sources.to_vec()));
        Place::Node(self.nodes.len() - 1)
    }

    fn leaf(&mut self, name: &str, tensor_type: u32, ne: [i64; 4]) -> Place {
        let known = self.leaves.iter().position(|leaf| leaf.name == name);
        Place::Leaf(known.unwrap_or_else(|| {
            self.leaves.push(tensor(name, "NONE", tensor_type, ne));
            self.leaves.len() - 1
        }))
    }
}

fn tensor(name: &str, op: &str, tensor_type: u32, ne: [i64; 4]) -> ModelTensor {
    let (elements, bytes) = match tensor_type {
        F32 => (1, 4),
        F16 => (1, 2),
        Q8_0 => (32, 34),
        _ => (256, 144),
    };
    let row = ne[0] as u64 / elements * bytes;
    let plane = row * ne[1] as u64;
    let nb = [bytes, row, plane, plane * ne[2] as u64];
    let tensor = Tensor { tensor_type, ne, nb, ..Tensor::default() };
    ModelTensor { name: name.to_owned(), op: op.to_owned(), variant: String::new(), tensor }
}
