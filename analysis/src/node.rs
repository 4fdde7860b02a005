//! What a node is called, and where in the model it belongs.

use llmtrace_format::TraceFile;
use llmtrace_format::meta::{Graph, Tensor};

/// The layer in a tensor's name: `ffn_up-7` and `blk.7.ffn_up.weight` are of
/// layer 7.
pub fn layer(name: &str) -> Option<u32> {
    // The engine appends what it did to a tensor: `cache_k_l7 (view)`.
    let name = name.split(' ').next().unwrap_or(name);
    if let Some(rest) = name.strip_prefix("blk.") {
        return rest.split('.').next()?.parse().ok();
    }
    let digits = |rest: &str| rest.parse().ok().filter(|_| !rest.starts_with('+'));
    if let Some((_, rest)) = name.rsplit_once("_l").filter(|(head, _)| head.starts_with("cache_")) {
        return digits(rest);
    }
    digits(name.rsplit_once('-')?.1)
}

/// A name without its layer: `ffn_up-7` and `ffn_up-8` are both `ffn_up`.
pub fn role(name: &str) -> &str {
    let (head, _) = name.split_once(' ').unwrap_or((name, ""));
    match head.rsplit_once('-') {
        Some((role, number)) if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => role,
        _ => head,
    }
}

/// The operator as people call it: the function of a unary or gated operator,
/// else the operator; with the operators fused into it: `RMS_NORM+MUL`.
pub fn op_label(file: &TraceFile, graph: &Graph, node: u32, fused: u32) -> String {
    let mut label = String::new();
    for index in node..=node.saturating_add(fused.min(8)) {
        let Some(tensor) = graph.tensors.get(index as usize) else { break };
        if !label.is_empty() {
            label.push('+');
        }
        label.push_str(op_name(file, tensor));
    }
    label
}

/// The tensor that a kernel gives: of `RMS_NORM+MUL` the product, whose name
/// (`attn_norm-3`) tells more than that of the norm (`norm-3`).
pub fn result(graph: &Graph, node: u32, fused: u32) -> Option<&Tensor> {
    let last = graph.tensors.get(node.saturating_add(fused) as usize);
    last.or_else(|| graph.tensors.get(node as usize))
}

/// The function of a unary or gated operator, else the operator.
pub fn op_name<'a>(file: &'a TraceFile, tensor: &Tensor) -> &'a str {
    let variant = file.string(tensor.variant);
    if variant.is_empty() { file.string(tensor.op) } else { variant }
}

/// Elements in each dimension, without trailing ones: `640×2048`.
pub fn shape(tensor: &Tensor) -> String {
    let dims = tensor.ne.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
    let dims: Vec<String> = tensor.ne[..dims].iter().map(i64::to_string).collect();
    dims.join("×")
}

/// Name of a tensor's type, such as `q4_K`.
pub fn type_name<'a>(file: &'a TraceFile, tensor: &Tensor) -> &'a str {
    let types = file.recording.as_ref().map_or(&[][..], |recording| &recording.types);
    types.get(tensor.tensor_type as usize).map_or("?", |known| known.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_names() {
        assert_eq!(layer("ffn_up-7"), Some(7));
        assert_eq!(layer("blk.17.ffn_up.weight"), Some(17));
        assert_eq!(layer("cache_k_l3 (view)"), Some(3));
        assert_eq!(layer("Kcur-11 (reshaped)"), Some(11));
        assert_eq!(layer("result_output"), None);
        assert_eq!(layer("inp_embd"), None);
        assert_eq!(layer("blk.x"), None);
    }

    #[test]
    fn roles_drop_the_layer() {
        assert_eq!(role("ffn_up-7"), "ffn_up");
        assert_eq!(role("Kcur-11 (view)"), "Kcur");
        assert_eq!(role("result_output"), "result_output");
        assert_eq!(role("a-b"), "a-b");
    }

    #[test]
    fn shapes_drop_trailing_ones() {
        let tensor = |ne| Tensor { ne, ..Tensor::default() };
        assert_eq!(shape(&tensor([640, 1, 1, 1])), "640");
        assert_eq!(shape(&tensor([640, 1, 4, 1])), "640×1×4");
        assert_eq!(shape(&tensor([1, 1, 1, 1])), "1");
    }
}
