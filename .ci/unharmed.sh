#!/usr/bin/env bash
# Attaches to a serving llama.cpp (node-llama-cpp's llama.cpp, xllamacpp's HTTP server) CYCLES times
# (100) under load, and detaches: no request may fail, and throughput is back to what it was.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "cannot record here: $reason" >&2
    exit 3
fi
sample-traces/tools/setup-python.sh
cargo build -q --locked --release -p llmtrace
as_root "$PYTHON" sample-traces/tools/unharmed.py --llmtrace "${LLMTRACE:-${CARGO_TARGET_DIR:-target}/release/llmtrace}" \
    --model "$MODEL" --cycles "${CYCLES:-100}" "$@"
