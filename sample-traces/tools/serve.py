#!/usr/bin/env python3
"""Serves several requests at once with llama.cpp's server (xllamacpp) on the CPU.

Requests are posted over HTTP to the loopback interface, some at the same time, so that the
server batches them; there are more requests than slots, so that slots are used again. One line of
JSON per request goes to stdout, in the order in which they ended: the slot, and the timings that
the server itself gives.
"""

import argparse
import json
import sys
import threading
import urllib.request
from pathlib import Path

import xllamacpp
from generate import engine_params, prompt_of

TIMEOUT_SECS = 300
# Tokens that follow each other often enough to be drafted from what was said before.
REPETITION = "one two three four five six seven eight nine ten eleven twelve. "


def server_params(args):
    """As `generate`, with several slots that share a context."""
    params = engine_params(args.model, args.threads)
    params.n_parallel = args.slots
    params.n_ctx = args.context * args.slots
    params.n_threads_http = args.slots + 1
    params.cont_batching = True
    params.ctx_shift = args.shift
    # Else layers with a sliding window forget what these need.
    params.swa_full = args.cache_prompt or args.shift
    if args.draft_model:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        params.speculative.draft.mparams.path = str(args.draft_model)
        params.speculative.draft.n_max = args.draft
    elif args.draft:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        params.speculative.ngram_simple.size_n = 4
        params.speculative.ngram_simple.size_m = args.draft
    return params


def post(address, number, args):
    """Runs one request; the row that describes it."""
    prompt = prompt_of(args.prompt_tokens + 8 * (number % 3))
    if args.draft:
        prompt = REPETITION * 6
    body = {
        # Different from the first word on, unless a prefix is to be found in the cache.
        "prompt": prompt if args.cache_prompt else f"Story {number}. {prompt}",
        "n_predict": args.tokens + 4 * (number % 3),
        "temperature": 0,
        "seed": 1,
        "ignore_eos": True,
        "cache_prompt": args.cache_prompt,
    }
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as answer:
        reply = json.load(answer)
    return {"request": number, "slot": reply["id_slot"], "timings": reply["timings"]}


def serve(address, args):
    """Runs all requests, so many at a time; each row is printed when it is there."""
    numbers = iter(range(args.requests))
    lock = threading.Lock()
    failures = []

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                row = post(address, number, args)
            except OSError as error:
                failures.append(f"request {number}: {error}")
                return
            with lock:
                print(json.dumps(row), flush=True)

    workers = [threading.Thread(target=work) for _ in range(args.clients or args.slots)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise SystemExit("serve: " + "; ".join(failures))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--slots", type=int, default=4, metavar="N", help="sequences at once")
    parser.add_argument("--clients", type=int, default=0, metavar="N", help="requests at once [slots]")
    parser.add_argument("--requests", type=int, default=6, metavar="N")
    parser.add_argument("--tokens", type=int, default=16, metavar="N", help="tokens of the shortest")
    parser.add_argument("--prompt-tokens", type=int, default=40, metavar="N", help="of the shortest, roughly")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="tokens of a slot")
    parser.add_argument("--cache-prompt", action="store_true", help="reuse prefixes of prompts")
    parser.add_argument("--shift", action="store_true", help="shift the context when it is full")
    parser.add_argument("--draft", type=int, default=0, metavar="N", help="draft up to N tokens")
    parser.add_argument("--draft-model", type=Path, metavar="GGUF", help="with this model")
    args = parser.parse_args()
    for model in filter(None, [args.model, args.draft_model]):
        if not model.is_file():
            parser.error(f"no such model: {model}")
    if min(args.threads, args.slots, args.requests, args.tokens, args.prompt_tokens) < 1:
        parser.error("counts must be positive")
    return args


def main():
    args = parse_args()
    server = xllamacpp.Server(server_params(args))
    serve(server.listening_address, args)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
