#!/usr/bin/env python3
"""Generates text with llama.cpp (xllamacpp) on the CPU, the same way each time.

This is what we record: a stock llama.cpp that knows nothing of llmtrace. Sampling is greedy,
the end of text is ignored and no prompt is cached, so that every generation decodes the same
number of tokens. One line of JSON per generation goes to stdout.

llama.cpp's server runs inside this process; it listens on the loopback interface only.
"""

import argparse
import ctypes
import json
import os
import sys
import time
from pathlib import Path

import xllamacpp

TEXT = """The lighthouse stood at the end of the long stone pier, and every evening the keeper
climbed its narrow stairs to light the lamp. He had done so for thirty years, through storms and
quiet summers, and he knew the sound of each step. From the top he could see the fishing boats
come home, one after the other, with gulls behind them. In the village people set their clocks by
the first flash of the light. On a cold night in autumn a young engineer came to visit him. She
carried a small wooden box and a roll of drawings, and she told him that the lamp would soon turn
on by itself. He listened, poured two cups of tea, and asked her what would happen when the
machine was tired. She laughed and said that machines are never tired, but he shook his head and
pointed at the sea, which had worn away the old pier stone by stone.
"""
# English as the Gemma tokenizer cuts it, punctuation included.
TOKENS_PER_WORD = 1.17
GO_TIMEOUT_SECS = 120
CONTEXT_TOKENS = 1024
MADV_PAGEOUT = 21  # of Linux 5.4; not in Python's mmap module


def prompt_of(tokens):
    """Plain English of about `tokens` tokens."""
    source = TEXT.split()
    count = max(1, round(tokens / TOKENS_PER_WORD))
    return " ".join(source[i % len(source)] for i in range(count))


def engine_params(model, threads):
    """One sequence on `threads` CPU threads, with every decode switched off that can be.

    One remains: while loading, the server decodes two tokens to learn whether it can remove
    part of a sequence.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.n_threads_http = 1
    params.warmup = False  # it would decode two tokens of its own
    params.fit_params = False  # it would build the context twice
    params.n_ctx_checkpoints = 0  # they split the prompt into several decodes
    params.cache_ram_mib = 0
    params.offline = True
    params.verbosity = 1  # errors
    return params


def request(prompt, tokens):
    """What we ask the server for."""
    return {
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": 0,
        "seed": 1,
        "ignore_eos": True,
        "cache_prompt": False,
    }


def time_tokens(server, prompt, tokens):
    """Runs one generation; how long each token but the first took, in milliseconds."""
    times = []

    def token(_):
        times.append(time.monotonic_ns())
        return False

    server.handle_completions(request(prompt, tokens) | {"stream": True}, token)
    # One more comes at once after the last token.
    times = times[:tokens]
    return {"token_millis": [round((b - a) / 1e6, 4) for a, b in zip(times, times[1:])]}


def evict(model):
    """Gives the pages of the mapped model back to the disk, as a kernel short of memory does."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or Path(fields[5]) != model.resolve():
            continue
        begin, end = (int(address, 16) for address in fields[0].split("-"))
        pages = ctypes.c_void_p(begin), ctypes.c_size_t(end - begin)
        if libc.madvise(*pages, MADV_PAGEOUT) != 0:
            raise SystemExit(f"generate: cannot page out the model: {os.strerror(ctypes.get_errno())}")


def generate(server, prompt, tokens):
    """Runs one generation; the row that describes it."""
    start = time.monotonic()
    reply = server.handle_completions(request(prompt, tokens))
    wall_secs = time.monotonic() - start
    if "timings" not in reply:
        raise SystemExit(f"generate: the engine refused: {json.dumps(reply)}")
    timings = reply["timings"]
    return {
        "prompt_tokens": timings["prompt_n"],
        "generated_tokens": timings["predicted_n"],
        "prompt_tokens_per_second": round(timings["prompt_per_second"], 3),
        "tokens_per_second": round(timings["predicted_per_second"], 3),
        "wall_secs": round(wall_secs, 4),
    }


def wait_for(path):
    """Returns once `path` exists."""
    deadline = time.monotonic() + GO_TIMEOUT_SECS
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"generate: nobody made the go file in {GO_TIMEOUT_SECS} s: {path}")
        time.sleep(0.01)


def publish(path, text):
    """Writes a file that appears whole, for somebody who polls it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.rename(path)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens to generate")
    parser.add_argument(
        "--prompt-tokens", type=int, default=120, metavar="N", help="length of the prompt, roughly"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="generations; 0 goes on until killed"
    )
    parser.add_argument(
        "--evict", action="store_true", help="before generating, page the mapped model out to the disk"
    )
    parser.add_argument(
        "--token-times", action="store_true", help="say how long each token took, and nothing else"
    )
    parser.add_argument(
        "--port-file", type=Path, metavar="F", help="write the address of the server here"
    )
    parser.add_argument(
        "--wait-file", type=Path, metavar="F", help='write "ready" here when the model is loaded'
    )
    parser.add_argument(
        "--go-file", type=Path, metavar="F", help="generate only once this file exists"
    )
    args = parser.parse_args()
    if not args.model.is_file():
        parser.error(f"no such model: {args.model}")
    if args.threads < 1 or args.tokens < 1 or args.prompt_tokens < 1 or args.repeat < 0:
        parser.error("counts must be positive")
    if args.prompt_tokens + args.tokens > CONTEXT_TOKENS * 0.9:
        parser.error(f"prompt and generation must fit {CONTEXT_TOKENS} tokens")
    return args


def main():
    args = parse_args()
    server = xllamacpp.Server(engine_params(args.model, args.threads))
    if args.port_file:
        publish(args.port_file, server.listening_address + "\n")
    if args.wait_file:
        publish(args.wait_file, "ready\n")
    if args.go_file:
        wait_for(args.go_file)
    if args.evict:
        evict(args.model)
    prompt = prompt_of(args.prompt_tokens)
    done = 0
    while args.repeat == 0 or done < args.repeat:
        run = time_tokens if args.token_times else generate
        print(json.dumps(run(server, prompt, args.tokens)), flush=True)
        done += 1


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
