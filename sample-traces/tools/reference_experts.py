#!/usr/bin/env python3
"""Generates with a model of `make_moe.py --planted`, and says which experts each token must get.

In such a model layers add nothing, so that each router sees the token's embedding, normalised.
What it then chooses is computed here from the file's weights with numpy, and from nothing that
llama.cpp did but the ids of the tokens that it generated. One JSON object goes to the output:

  layers[l].tokens[t]   experts by rank, or null where two logits are too close to tell
  layers[l].weights[t]  the router's weights of these (softmax, before they are normalised)

Tokens are those of the prompt and all generated ones that were decoded. The last layer computes
only tokens that give outputs: the last of the prompt and the generated ones.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import xllamacpp
from generate import engine_params, publish, wait_for

# Sums of floats in another order differ by less.
LEAST_GAP = 1e-3
RMS_EPSILON = 1e-6


def tensors_of(path):
    """All tensors of a GGUF, as floats, by name."""
    reader = gguf.GGUFReader(path)
    wanted = ("token_embd.weight", "ffn_gate_inp.weight")
    found = [tensor for tensor in reader.tensors if tensor.name.endswith(wanted)]
    used = reader.get_field("qwen3moe.expert_used_count").contents()
    floats = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in found}
    return floats, used


def choose(hidden, router, used):
    """Experts by rank and their weights, for each row of `hidden`."""
    logits = hidden @ router.astype(np.float64).T
    order = np.argsort(-logits, axis=1, kind="stable")[:, : used + 1]
    ranked = np.take_along_axis(logits, order, axis=1)
    clear = (ranked[:, :-1] - ranked[:, 1:]).min(axis=1) > LEAST_GAP
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    chosen = order[:, :used]
    weights = np.take_along_axis(shares, chosen, axis=1)
    rows = [row.tolist() if is_clear else None for row, is_clear in zip(chosen, clear)]
    return {"tokens": rows, "weights": weights.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--prompt-tokens", type=int, default=700, metavar="N")
    parser.add_argument("--tokens", type=int, default=24, metavar="N", help="tokens to generate")
    parser.add_argument("--output", type=Path, required=True, metavar="JSON")
    parser.add_argument("--wait-file", type=Path, metavar="F", help="made when the model is loaded")
    parser.add_argument("--go-file", type=Path, metavar="F", help="generate once it exists")
    args = parser.parse_args()
    tensors, used = tensors_of(args.model)
    embeddings = tensors["token_embd.weight"].astype(np.float64)
    # Any tokens will do; the first few are not text.
    rng = np.random.default_rng(7)
    prompt = rng.integers(300, len(embeddings), args.prompt_tokens).tolist()
    server = xllamacpp.Server(engine_params(args.model, args.threads))
    if args.wait_file:
        publish(args.wait_file, "ready\n")
    if args.go_file:
        wait_for(args.go_file)
    request = {"prompt": prompt, "n_predict": args.tokens, "temperature": 0, "seed": 1}
    request |= {"ignore_eos": True, "cache_prompt": False, "n_probs": 1}
    reply = server.handle_completions(request)
    generated = [token["id"] for token in reply["choices"][0]["logprobs"]["content"]]
    if len(generated) != args.tokens:
        raise SystemExit(f"reference_experts: {len(generated)} tokens were generated")
    # The last one is never decoded.
    tokens = prompt + generated[:-1]
    hidden = embeddings[tokens]
    hidden /= np.sqrt((hidden**2).mean(axis=1, keepdims=True) + RMS_EPSILON)
    count = sum(name.endswith("ffn_gate_inp.weight") for name in tensors)
    layers = []
    for layer in range(count):
        seen = hidden if layer + 1 < count else hidden[len(prompt) - 1 :]
        layers.append(choose(seen, tensors[f"blk.{layer}.ffn_gate_inp.weight"], used))
    publish(args.output, json.dumps({"used": used, "prompt": len(prompt), "layers": layers}))


if __name__ == "__main__":
    main()
