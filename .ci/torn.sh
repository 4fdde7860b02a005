#!/usr/bin/env bash
# Kills the recorder of a real llama.cpp KILLS times (200); the last line says how many files open and how
# much of the time before the kill they lack: MISSING milliseconds (1000) at most. `make test` does some.
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
log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" LLMTRACE_TEST_GENERATE="$GENERATE" \
    LLMTRACE_TEST_KILLS="${KILLS:-200}" LLMTRACE_TEST_MISSING="${MISSING:-1000}" \
    "$record" --ignored --nocapture --test-threads=1 "${@:-torn::}" 2>&1 | tee "$log" || code=$?
grep -oh 'torn: .*' "$log" || { echo "torn: FAILED"; exit 1; }
exit "$code"
