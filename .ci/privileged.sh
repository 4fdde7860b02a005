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

# Runs a test program. What fails is run once more, by itself: these tests record other programs on
# a machine that others share. A test that passes then is reported as flaky and counted as such.
run_tests() {
    local log failed name
    log=$(mktemp)
    as_root "$@" --ignored --test-threads=1 "${left_out[@]}" 2>&1 | tee "$log" && { rm "$log"; return 0; }
    # The names below the last "failures:", or none if it crashed.
    mapfile -t failed < <(awk '/^failures:$/ { names = ""; next } /^    [^ ]+$/ { names = names $1 "\n" }
                               END { printf "%s", names }' "$log")
    rm "$log"
    [[ ${#failed[@]} -gt 0 && ${#failed[@]} -le $MOST_FLAKY ]] || return 1
    for name in "${failed[@]}"; do
        as_root "$@" --ignored --exact "$name" || return 1
        echo "FLAKY $name: failed, then passed"
    done
}

# More than these failing together is no accident.
MOST_FLAKY=2
code=0
cd recorder # where cargo would run them
for tests in "$record" "$long"; do
    run_tests env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" \
        LLMTRACE_TEST_GENERATE="$GENERATE" "$tests" || code=1
done
run_tests env LLMTRACE_TEST_BUILDS="$CACHE/builds" "$builds" || code=1
exit "$code"
