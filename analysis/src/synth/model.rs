//! The graphs that a synthetic run computes, and what their nodes cost.

use super::{Kernel, Slow};
use crate::Trace;
use llmtrace_format::meta::{Graph, Tensor, TensorType};
use llmtrace_format::{TraceFile, Writer};
use std::collections::HashMap;
use std::io::Write;

/// A model: one graph to read a prompt, one to decode a token.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name of its file.
    pub name: String,
    /// Tensor types.
    pub types: Vec<TensorType>,
    /// Tokens that `prefill` reads.
    pub prompt_tokens: u32,
    /// Computes the prompt.
    pub prefill: ModelGraph,
    /// Computes one token.
    pub decode: ModelGraph,
}

/// A graph whose strings are not yet part of a file.
#[derive(Clone, Debug, Default)]
pub struct ModelGraph {
    pub(super) tensors: Vec<ModelTensor>,
    pub(super) nodes: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ModelTensor {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) variant: String,
    pub(super) tensor: Tensor,
}

impl Model {
    /// The graphs of a recorded trace: the one that ran most often decodes, the
    /// one with the most elements reads the prompt. `None` for a trace without
    /// graphs.
    pub fn of_trace(trace: &Trace) -> Option<Self> {
        let mut runs: HashMap<u32, usize> = HashMap::new();
        for span in &trace.graph_spans {
            *runs.entry(span.graph).or_default() += 1;
        }
        let graphs = &trace.file.graphs;
        let decode = graphs.iter().max_by_key(|graph| runs.get(&graph.id).copied().unwrap_or(0))?;
        let elements = |graph: &&Graph| -> i128 {
            let nodes = graph.tensors.iter().take(graph.nodes as usize);
            nodes.map(|tensor| tensor.ne.iter().map(|&n| i128::from(n)).sum::<i128>()).sum()
        };
        let prefill = graphs.iter().max_by_key(elements)?;
        let recording = trace.file.recording.as_ref();
        Some(Self {
            name: recording.and_then(|r| r.target.models.first().cloned()).unwrap_or_default(),
            types: recording.map(|r| r.types.clone()).unwrap_or_default(),
            prompt_tokens: trace.tokens.iter().map(|token| token.tokens).max().unwrap_or(1),
            prefill: ModelGraph::of(&trace.file, prefill),
            decode: ModelGraph::of(&trace.file, decode),
        })
    }
}

impl ModelGraph {
    fn of(file: &TraceFile, graph: &Graph) -> Self {
        let tensor = |tensor: &Tensor| ModelTensor {
            name: file.string(tensor.name).to_owned(),
            op: file.string(tensor.op).to_owned(),
            variant: file.string(tensor.variant).to_owned(),
            tensor: tensor.clone(),
        };
        Self { tensors: graph.tensors.iter().map(tensor).collect(), nodes: graph.nodes }
    }

    pub(super) fn interned<W: Write>(&self, id: u32, writer: &mut Writer<W>) -> Graph {
        let tensors = self.tensors.iter().map(|tensor| Tensor {
            name: writer.string(&tensor.name),
            op: writer.string(&tensor.op),
            variant: writer.string(&tensor.variant),
            ..tensor.tensor.clone()
        });
        Graph { id, tensors: tensors.collect(), nodes: self.nodes }
    }

    /// What the nodes run as: views run nothing, and a norm takes the
    /// multiplication behind it along.
    pub(super) fn kernels(&self, threads: u32, slow: &[Slow]) -> Vec<Kernel> {
        let nodes = self.tensors.get(..self.nodes as usize).unwrap_or(&self.tensors);
        let mut kernels = Vec::new();
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            let next = nodes.get(at + 1);
            let fused = node.op == "RMS_NORM"
                && next.is_some_and(|next| next.op == "MUL" && next.tensor.sources.contains(&(at as u32)));
            let result = if fused { next.unwrap_or(node) } else { node };
            if !matches!(node.op.as_str(), "NONE" | "VIEW" | "RESHAPE" | "PERMUTE" | "TRANSPOSE" | "") {
                let factor: f64 = slow
                    .iter()
                    .filter(|slow| result.name.contains(&slow.name) || node.op.contains(&slow.name))
                    .map(|slow| slow.factor)
                    .product();
                let nanos =
                    (self.nanos(node).max(900.0 * f64::from(threads)) / f64::from(threads) * factor) as u64;
                kernels.push(Kernel { node: at as u32, fused: fused.into(), nanos });
            }
            at += 1 + usize::from(fused);
        }
        kernels
    }

    /// Nanoseconds on one thread, of a machine that reads 12 bytes and computes
    /// 60 operations each nanosecond.
    fn nanos(&self, node: &ModelTensor) -> f64 {
        let elements = |tensor: &Tensor| tensor.ne.iter().map(|&n| n.max(1) as f64).product::<f64>();
        let out = elements(&node.tensor);
        let source = node.tensor.sources.first().and_then(|&source| self.tensors.get(source as usize));
        match (node.op.as_str(), source) {
            ("MUL_MAT" | "MUL_MAT_ID", Some(ModelTensor { tensor: weight, .. })) => {
                let used = weight.ne[2].clamp(1, 8) as f64;
                let bytes = weight.nb[1] as f64 * weight.ne[1].max(1) as f64 * used;
                let operations = 2.0 * weight.ne[0].max(1) as f64 * out;
                (bytes / 12.0).max(operations / 60.0).clamp(300.0, 1e9)
            }
            ("FLASH_ATTN_EXT", _) => (2_000.0 + out * 4.0).min(1e9),
            // Writes its rows into a much larger cache.
            ("SET_ROWS", Some(rows)) => (900.0 + elements(&rows.tensor) * 0.6).min(1e9),
            _ => (900.0 + out * 0.6).min(1e9),
        }
    }
}
