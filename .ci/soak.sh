#!/usr/bin/env bash
# Records a real llama.cpp at full level for MINUTES (30) and plots what the recorder takes into
# docs/pictures/soak.svg, or PLOT. The last line says how memory and file grew.
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
[[ -n ${LLMTRACE:-} ]] || cargo build -q --locked --release -p llmtrace
as_root "$PYTHON" sample-traces/tools/soak.py --llmtrace "${LLMTRACE:-${CARGO_TARGET_DIR:-target}/release/llmtrace}" \
    --model "$MODEL" --minutes "${MINUTES:-30}" --plot "${PLOT:-docs/pictures/soak.svg}"
