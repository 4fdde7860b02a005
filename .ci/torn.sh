#!/usr/bin/env bash
# Kills the recorder of a real llama.cpp KILLS times (200), and attaches to one CYCLES times (100);
# prints what was found. `make test` does some of each.
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
built=$(cargo test --locked -p llmtrace --test record --no-run 2>&1) || {
    echo "$built"
    exit 1
}
record=$(realpath "$(sed -n 's/^ *Executable tests\/record.rs (\(.*\))$/\1/p' <<<"$built")")
cd recorder
as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" LLMTRACE_TEST_GENERATE="$GENERATE" \
    LLMTRACE_TEST_KILLS="${KILLS:-200}" LLMTRACE_TEST_CYCLES="${CYCLES:-100}" \
    "$record" --ignored --nocapture --test-threads=1 "${@:-torn::}"
