#!/usr/bin/env bash
# Attaches to a serving llama.cpp (node-llama-cpp's llama.cpp, xllamacpp's HTTP server) CYCLES times
# (100) under load, and detaches: no request may fail, and throughput is back to what it was. Before
# that, a target crashes, runs out of memory, becomes another program and unloads its library while it is
# recorded, and a recorder stands still for STILL seconds (60). The last two lines say what came of it.
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
built=$(cargo test --locked -p llmtrace --test record --no-run 2>&1) || {
    echo "$built"
    exit 1
}
record=$(realpath "$(sed -n 's/^ *Executable tests\/record.rs (\(.*\))$/\1/p' <<<"$built")")
code=0
(
    cd recorder
    as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" LLMTRACE_TEST_GENERATE="$GENERATE" \
        LLMTRACE_TEST_STILL="${STILL:-60}" "$record" --ignored --nocapture --test-threads=1 unharmed::
) || code=1
as_root "$PYTHON" sample-traces/tools/unharmed.py --llmtrace "${LLMTRACE:-${CARGO_TARGET_DIR:-target}/release/llmtrace}" \
    --model "$MODEL" --cycles "${CYCLES:-100}" "$@" || code=1
[[ $code -eq 0 ]] && echo "unharmed: all held" || echo "unharmed: FAILED"
exit "$code"
