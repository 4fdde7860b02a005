#!/usr/bin/env python3
"""Attaches llmtrace to a serving llama.cpp again and again, under load, and detaches.

The server is xllamacpp's (llama.cpp's own HTTP server), which listens on the loopback interface.
Two clients ask it all the time. Fails when a request fails, or when the throughput afterwards is
below what it was before by more than the throughput itself varies.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

PROMPT = "The lighthouse stood at the end of the long stone pier, and every evening the keeper"


class Client(threading.Thread):
    """Asks for a few tokens, over and over."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.ended = threading.Event()
        self.answers = []  # (when it came, tokens)
        self.failures = []

    def run(self):
        body = {"prompt": PROMPT, "n_predict": 16, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        while not self.ended.is_set():
            ask = urllib.request.Request(
                f"{self.address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(ask, timeout=600) as reply:
                    tokens = json.load(reply)["tokens_predicted"]
                    if tokens != body["n_predict"]:
                        self.failures.append(f"{tokens} tokens")
                    self.answers.append((time.monotonic(), tokens))
            except (OSError, KeyError, ValueError) as error:
                self.failures.append(repr(error))
                time.sleep(0.1)


def throughput(clients, secs):
    """Tokens a second of some parts of the next seconds."""
    parts = []
    for _ in range(6):
        begin = time.monotonic()
        time.sleep(secs / 6)
        end = time.monotonic()
        tokens = sum(n for client in clients for at, n in client.answers if begin <= at < end)
        parts.append(tokens / (end - begin))
    return parts


def serve(model, port):
    """Serves two requests at once until it is killed; writes its address to a file."""
    import xllamacpp
    from generate import engine_params, publish

    params = engine_params(model, 1)
    params.n_parallel = 2
    params.n_threads_http = 4
    server = xllamacpp.Server(params)
    publish(port, server.listening_address + "\n")
    while True:
        time.sleep(3600)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llmtrace", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--secs", type=float, default=30, help="of each measurement")
    args = parser.parse_args()
    if args.serve:
        serve(args.model, args.serve)
    if not args.llmtrace:
        parser.error("--llmtrace is missing")
    folder = Path(tempfile.mkdtemp(prefix="llmtrace-unharmed-"))
    port = folder / "port"
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", port, "--model", args.model], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not port.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit("unharmed: the server did not start")
        time.sleep(0.05)
    clients = [Client(port.read_text().strip()) for _ in range(2)]
    for client in clients:
        client.start()
    while not all(client.answers for client in clients):
        time.sleep(0.05)
    before = throughput(clients, args.secs)
    clean = 0
    for cycle in range(args.cycles):
        out = folder / "cycle.llmtrace"
        out.unlink(missing_ok=True)
        recorder = subprocess.run(
            [args.llmtrace, "record", "-q", "-p", str(server.pid), "-d", "0.5", "-o", out],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        checked = subprocess.run([args.llmtrace, "check", out], capture_output=True, text=True)
        if recorder.returncode == 0 and checked.returncode == 0 and server.poll() is None:
            clean += 1
        else:
            print(f"cycle {cycle}: {recorder.stderr}{checked.stdout}{checked.stderr}", file=sys.stderr)
    after = throughput(clients, args.secs)
    for client in clients:
        client.ended.set()
    for client in clients:
        client.join()
    server.terminate()
    server.wait()
    failures = [failure for client in clients for failure in client.failures]
    requests = sum(len(client.answers) for client in clients)
    spread = max(statistics.stdev(before), statistics.stdev(after), 0.05 * statistics.mean(before))
    lost = statistics.mean(before) - statistics.mean(after)
    print(
        f"{clean} of {args.cycles} attach and detach cycles clean; {requests} requests, {len(failures)} failed; "
        f"{statistics.mean(before):.1f} tokens/s before, {statistics.mean(after):.1f} after (± {spread:.1f})"
    )
    for failure in failures[:5]:
        print(f"failed: {failure}", file=sys.stderr)
    for name in folder.iterdir():
        name.unlink()
    os.rmdir(folder)
    if clean < args.cycles or failures or lost > 3 * spread:
        sys.exit(1)


if __name__ == "__main__":
    main()
