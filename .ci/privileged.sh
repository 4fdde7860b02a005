#!/usr/bin/env bash
# The tests that record a real llama.cpp. Builds them as ourselves, runs only the result as root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

built=$(cargo test --locked -p llmtrace --test record --test long --no-run 2>&1) || {
    echo "$built"
    exit 1
}
mapfile -t exes < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built" | xargs realpath)

cd recorder # where cargo would run it
for exe in "${exes[@]}"; do
    as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" \
        LLMTRACE_TEST_GENERATE="$GENERATE" "$exe" --ignored --test-threads=1
done
