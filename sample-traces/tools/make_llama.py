#!/usr/bin/env python3
"""Writes a small dense GGUF: the topology of `llama`, random weights, for engines of any age.

llama.cpp has read this architecture since its first days, so that builds which are too old for
Gemma 3 can be recorded, too. What it generates is noise, but never an end of text. The same
arguments write the same weights. The tokenizer is the beginning of another model's.
"""

import argparse
import math
from pathlib import Path

import gguf
import numpy as np

from make_moe import copy_tokenizer

ARCH = gguf.MODEL_ARCH.LLAMA
Q8_0 = gguf.GGMLQuantizationType.Q8_0
HEAD_DIM = 64
CONTEXT_TOKENS = 2048


def is_special(text, kind):
    """Whether an engine may take the token for an end; some go by the text, such as `</s>`."""
    return kind != gguf.TokenType.NORMAL or text.startswith("<")


def add_weights(writer, args, special):
    """Random projections as Q8_0; norms of ones. `special` tokens get logits of zero."""
    rng = np.random.default_rng(args.seed)
    heads = args.embd // HEAD_DIM
    heads_kv = max(1, heads // 2)

    def project(name, *shape, zeros=()):
        scale = 1.0 / math.sqrt(shape[-1])
        data = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        data[list(zeros)] = 0
        writer.add_tensor(name, gguf.quants.quantize(data, Q8_0), raw_dtype=Q8_0)

    def norm(name):
        writer.add_tensor(name, np.ones(args.embd, dtype=np.float32))

    vocab = len(special)
    project("token_embd.weight", vocab, args.embd)
    for layer in range(args.layers):
        blk = f"blk.{layer}"
        norm(f"{blk}.attn_norm.weight")
        project(f"{blk}.attn_q.weight", heads * HEAD_DIM, args.embd)
        project(f"{blk}.attn_k.weight", heads_kv * HEAD_DIM, args.embd)
        project(f"{blk}.attn_v.weight", heads_kv * HEAD_DIM, args.embd)
        project(f"{blk}.attn_output.weight", args.embd, heads * HEAD_DIM)
        norm(f"{blk}.ffn_norm.weight")
        project(f"{blk}.ffn_gate.weight", args.feed_forward, args.embd)
        project(f"{blk}.ffn_up.weight", args.feed_forward, args.embd)
        project(f"{blk}.ffn_down.weight", args.embd, args.feed_forward)
    norm("output_norm.weight")
    project("output.weight", vocab, args.embd, zeros=np.flatnonzero(special))
    return heads, heads_kv


def add_hyperparameters(writer, args, vocab, heads, heads_kv):
    writer.add_name(f"llama, {args.layers} layers, random weights (seed {args.seed})")
    writer.add_vocab_size(vocab)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(args.embd)
    writer.add_block_count(args.layers)
    writer.add_feed_forward_length(args.feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads_kv)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, metavar="OUT.gguf")
    parser.add_argument("--tokenizer-from", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--layers", type=int, default=4, metavar="N")
    parser.add_argument("--embd", type=int, default=256, metavar="N", help="embedding length")
    parser.add_argument("--vocab", type=int, default=2048, metavar="N", help="ordinary tokens")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    args = parser.parse_args()
    if not args.tokenizer_from.is_file():
        parser.error(f"no such model: {args.tokenizer_from}")
    if args.embd < HEAD_DIM or args.embd % HEAD_DIM:
        parser.error(f"--embd must be a multiple of {HEAD_DIM}")
    if args.layers < 1 or args.vocab < 1:
        parser.error("--layers and --vocab must be positive")
    args.feed_forward = 3 * args.embd
    return args


def main():
    args = parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_name(args.output.name + ".partial")
    writer = gguf.GGUFWriter(partial, gguf.MODEL_ARCH_NAMES[ARCH])
    tokens = copy_tokenizer(writer, args.tokenizer_from, args.vocab)
    special = [is_special(text, kind) for text, kind in tokens]
    heads, heads_kv = add_weights(writer, args, special)
    add_hyperparameters(writer, args, len(tokens), heads, heads_kv)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(args.output)
    print(f"make_llama: {args.layers} layers, vocabulary {len(tokens)}: {args.output}")


if __name__ == "__main__":
    main()
