#!/usr/bin/env python3
"""Writes a small Whisper model in whisper.cpp's own format: the topology of `tiny.en`, narrow,
with random weights. What it hears is noise without end. The same arguments write the same weights."""

import argparse
import math
import struct
from pathlib import Path

import numpy as np

MAGIC = 0x67676D6C  # "ggml"
F32, F16 = 0, 1
VOCAB = 51864  # of the English models; whisper.cpp's special tokens have fixed numbers
TEXT_TOKENS = 50257
END_OF_TEXT = 50256  # from here on, tokens have logits of zero: text goes on
AUDIO_CTX, TEXT_CTX = 1500, 448
MELS, FFT_BINS = 80, 201


def write_tensor(file, name, data):
    kind = F16 if data.dtype == np.float16 else F32
    encoded = name.encode()
    file.write(struct.pack("<iii", data.ndim, len(encoded), kind))
    file.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)))
    file.write(encoded)
    file.write(data.tobytes())


def write_weights(file, args):
    rng = np.random.default_rng(args.seed)
    width = args.width

    def weight(name, *shape, kind=np.float16, zeros=slice(0)):
        scale = 1.0 / math.sqrt(math.prod(shape[1:]))
        data = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        data[zeros] = 0
        write_tensor(file, name, data.astype(kind))

    def norm(name):
        write_tensor(file, f"{name}.weight", np.ones(width, dtype=np.float32))
        write_tensor(file, f"{name}.bias", np.zeros(width, dtype=np.float32))

    def linear(name, outputs, inputs, bias=True):
        weight(f"{name}.weight", outputs, inputs)
        if bias:
            write_tensor(file, f"{name}.bias", np.zeros(outputs, dtype=np.float32))

    def attention(name):
        linear(f"{name}.query", width, width)
        linear(f"{name}.key", width, width, bias=False)
        linear(f"{name}.value", width, width)
        linear(f"{name}.out", width, width)

    def block(name, cross):
        norm(f"{name}.attn_ln")
        attention(f"{name}.attn")
        if cross:
            norm(f"{name}.cross_attn_ln")
            attention(f"{name}.cross_attn")
        norm(f"{name}.mlp_ln")
        linear(f"{name}.mlp.0", 4 * width, width)
        linear(f"{name}.mlp.2", width, 4 * width)

    weight("encoder.positional_embedding", AUDIO_CTX, width, kind=np.float32)
    for conv, inputs in (("conv1", MELS), ("conv2", width)):
        weight(f"encoder.{conv}.weight", width, inputs, 3)
        write_tensor(file, f"encoder.{conv}.bias", np.zeros((width, 1), dtype=np.float32))
    for layer in range(args.layers):
        block(f"encoder.blocks.{layer}", cross=False)
    norm("encoder.ln_post")
    weight("decoder.positional_embedding", TEXT_CTX, width, kind=np.float32)
    weight("decoder.token_embedding.weight", VOCAB, width, zeros=slice(END_OF_TEXT, None))
    for layer in range(args.layers):
        block(f"decoder.blocks.{layer}", cross=True)
    norm("decoder.ln")


def write_vocabulary(file):
    """One name for each token; a space must be among them."""
    file.write(struct.pack("<i", TEXT_TOKENS))
    for token in range(TEXT_TOKENS):
        text = b" " if token == 220 else b" w%d" % token
        file.write(struct.pack("<i", len(text)) + text)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, metavar="OUT.bin")
    parser.add_argument("--layers", type=int, default=4, metavar="N")
    parser.add_argument("--width", type=int, default=128, metavar="N", help="a multiple of 64")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    args = parser.parse_args()
    if args.layers < 1 or args.width < 64 or args.width % 64:
        parser.error("--layers must be positive and --width a multiple of 64")
    return args


def main():
    args = parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_name(args.output.name + ".partial")
    heads = args.width // 64
    audio = (AUDIO_CTX, args.width, heads, args.layers)
    text = (TEXT_CTX, args.width, heads, args.layers)
    with partial.open("wb") as file:
        file.write(struct.pack("<12i", MAGIC, VOCAB, *audio, *text, MELS, F16))
        filters = np.random.default_rng(args.seed).random((MELS, FFT_BINS), dtype=np.float32)
        file.write(struct.pack("<2i", MELS, FFT_BINS) + (filters / FFT_BINS).tobytes())
        write_vocabulary(file)
        write_weights(file, args)
    partial.rename(args.output)
    print(f"make_whisper: {args.layers} layers of {args.width}: {args.output}")


if __name__ == "__main__":
    main()
