#!/usr/bin/env python3
"""Writes a small mixture-of-experts GGUF: the topology of `qwen3moe`, random weights.

llama.cpp builds the same graph for it as for a Qwen3 MoE of that many layers and experts; only
the widths are small, so that the file stays in the tens of megabytes. What it generates is
noise. The same arguments write the same weights.

The tokenizer is the beginning of the one of another SentencePiece GGUF (Gemma 3): its special
and byte tokens, single ASCII characters, and the first, most common pieces.
"""

import argparse
import math
from pathlib import Path

import gguf
import numpy as np

ARCH = gguf.MODEL_ARCH.QWEN3MOE
Q8_0 = gguf.GGMLQuantizationType.Q8_0
HEAD_DIM = 64
Q8_0_BLOCK = 32
CONTEXT_TOKENS = 4096
TEXT_SPECIALS = ("bos", "eos", "unknown", "padding")
# With these zero, every layer adds nothing: each router sees the token's embedding, normalised.
PLANTED_ZEROS = ("attn_output.weight", "ffn_down_exps.weight")
SPACE = "\u2581"  # SentencePiece's mark for a space


def field(reader, key):
    """A metadata value, or an error that names the file's lack."""
    found = reader.get_field(key)
    if found is None:
        raise SystemExit(f"make_moe: the tokenizer's model has no {key}")
    return found.contents()


def kept_tokens(tokens, kinds, limit):
    """Ids of the tokens to keep, in their order: at most `limit` ordinary ones, and the rest."""
    normal = gguf.TokenType.NORMAL
    kept, pieces = [], 0
    for token_id, (text, kind) in enumerate(zip(tokens, kinds)):
        ordinary = kind == normal and text != SPACE and not (len(text) == 1 and text.isascii())
        if ordinary:
            pieces += 1
        if not ordinary or pieces <= limit:
            kept.append(token_id)
    return kept


def copy_tokenizer(writer, source, limit):
    """Copies the head of a SentencePiece vocabulary; the texts and types of the tokens copied."""
    reader = gguf.GGUFReader(source)
    if field(reader, "tokenizer.ggml.model") != "llama":
        raise SystemExit(f"make_moe: not a SentencePiece tokenizer: {source}")
    tokens = field(reader, "tokenizer.ggml.tokens")
    scores = field(reader, "tokenizer.ggml.scores")
    kinds = field(reader, "tokenizer.ggml.token_type")
    kept = kept_tokens(tokens, kinds, limit)
    new_id = {old: new for new, old in enumerate(kept)}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre(field(reader, "tokenizer.ggml.pre"))
    writer.add_token_list([tokens[i] for i in kept])
    writer.add_token_scores([scores[i] for i in kept])
    writer.add_token_types([kinds[i] for i in kept])
    for name in TEXT_SPECIALS:
        key = f"tokenizer.ggml.{name}_token_id"
        writer.add_uint32(key, new_id[field(reader, key)])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    return [(tokens[i], kinds[i]) for i in kept]


def add_weights(writer, args, vocab):
    """Random projections as Q8_0; norms of ones and the routers as F32, as in real files."""
    rng = np.random.default_rng(args.seed)
    heads = args.embd // HEAD_DIM
    heads_kv = max(1, heads // 4)
    expert_ff = args.expert_ff

    def project(name, *shape):
        scale = 1.0 / math.sqrt(shape[-1])
        data = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        if args.planted and name.endswith(PLANTED_ZEROS):
            data[:] = 0
        if name.endswith("ffn_gate_inp.weight"):
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, Q8_0), raw_dtype=Q8_0)

    def norm(name, size):
        writer.add_tensor(name, np.ones(size, dtype=np.float32))

    project("token_embd.weight", vocab, args.embd)
    for layer in range(args.layers):
        blk = f"blk.{layer}"
        norm(f"{blk}.attn_norm.weight", args.embd)
        project(f"{blk}.attn_q.weight", heads * HEAD_DIM, args.embd)
        project(f"{blk}.attn_k.weight", heads_kv * HEAD_DIM, args.embd)
        project(f"{blk}.attn_v.weight", heads_kv * HEAD_DIM, args.embd)
        norm(f"{blk}.attn_q_norm.weight", HEAD_DIM)
        norm(f"{blk}.attn_k_norm.weight", HEAD_DIM)
        project(f"{blk}.attn_output.weight", args.embd, heads * HEAD_DIM)
        norm(f"{blk}.ffn_norm.weight", args.embd)
        project(f"{blk}.ffn_gate_inp.weight", args.experts, args.embd)
        project(f"{blk}.ffn_gate_exps.weight", args.experts, expert_ff, args.embd)
        project(f"{blk}.ffn_up_exps.weight", args.experts, expert_ff, args.embd)
        project(f"{blk}.ffn_down_exps.weight", args.experts, args.embd, expert_ff)
    norm("output_norm.weight", args.embd)
    project("output.weight", vocab, args.embd)
    return heads, heads_kv


def add_hyperparameters(writer, args, vocab, heads, heads_kv):
    writer.add_name(f"qwen3moe, {args.layers} layers, random weights (seed {args.seed})")
    writer.add_vocab_size(vocab)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(args.embd)
    writer.add_block_count(args.layers)
    writer.add_feed_forward_length(3 * args.embd)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads_kv)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_expert_count(args.experts)
    writer.add_expert_used_count(args.used)
    writer.add_expert_feed_forward_length(args.expert_ff)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, metavar="OUT.gguf")
    parser.add_argument("--tokenizer-from", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--layers", type=int, default=8, metavar="N")
    parser.add_argument("--experts", type=int, default=32, metavar="N")
    parser.add_argument("--used", type=int, default=4, metavar="N", help="experts per token")
    parser.add_argument("--embd", type=int, default=256, metavar="N", help="embedding length")
    parser.add_argument("--vocab", type=int, default=8192, metavar="N", help="ordinary tokens")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--planted",
        action="store_true",
        help="let layers add nothing, so that embedding and router alone decide which experts",
    )
    args = parser.parse_args()
    if not args.tokenizer_from.is_file():
        parser.error(f"no such model: {args.tokenizer_from}")
    if args.embd < HEAD_DIM or args.embd % HEAD_DIM:
        parser.error(f"--embd must be a multiple of {HEAD_DIM}")
    if args.layers < 1 or args.vocab < 1 or not 1 <= args.used <= args.experts:
        parser.error("--layers and --vocab must be positive, --used between 1 and --experts")
    # Qwen3-30B-A3B: 768 of 2048.
    blocks = round(args.embd * 3 / 8 / Q8_0_BLOCK)
    args.expert_ff = max(1, blocks) * Q8_0_BLOCK
    return args


def main():
    args = parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_name(args.output.name + ".partial")
    writer = gguf.GGUFWriter(partial, gguf.MODEL_ARCH_NAMES[ARCH])
    vocab = len(copy_tokenizer(writer, args.tokenizer_from, args.vocab))
    heads, heads_kv = add_weights(writer, args, vocab)
    add_hyperparameters(writer, args, vocab, heads, heads_kv)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(args.output)
    megabytes = args.output.stat().st_size / 1e6
    print(
        f"make_moe: {args.layers} layers, {args.used} of {args.experts} experts, "
        f"vocabulary {vocab}, {megabytes:.1f} MB: {args.output}"
    )


if __name__ == "__main__":
    main()
