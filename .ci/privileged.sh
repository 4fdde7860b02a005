#!/usr/bin/env bash
# The tests that record real programs. Builds them as ourselves, runs only the result as root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

sample-traces/tools/setup-builds.sh
built=$(cargo test --locked -p llmtrace --test record --test long --test builds --no-run 2>&1) || {
    echo "$built"
    exit 1
}
exe_of() { realpath "$(sed -n "s/^ *Executable tests\/$1.rs (\(.*\))$/\1/p" <<<"$built")"; }
record=$(exe_of record)
long=$(exe_of long)
builds=$(exe_of builds)

# Tests of a build that is not there are left out, so that they count as skipped.
left_out=()
for reason in "$CACHE"/builds/*/skipped; do
    [[ -f $reason ]] || continue
    name=$(basename "$(dirname "$reason")")
    echo "SKIPPED tests of build $name: $(<"$reason")"
    left_out+=(--skip "${name//[-.]/_}::")
done

code=0
cd recorder # where cargo would run them
for tests in "$record" "$long"; do
    as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" \
        LLMTRACE_TEST_GENERATE="$GENERATE" "$tests" --ignored --test-threads=1 || code=1
done
as_root env LLMTRACE_TEST_BUILDS="$CACHE/builds" \
    "$builds" --ignored --test-threads=1 "${left_out[@]}" || code=1
exit "$code"
