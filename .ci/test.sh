#!/usr/bin/env bash
# Everything `make test` and CI check. Runs all steps, also after a failure, and closes with a
# line of totals: each Rust test counts, and each check that is no Rust test counts as one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
logs=target/test-logs
passed=0 failed=0 skipped=0
failed_steps=()
flaky=()

# Runs a command under a name; shows how long it took. Its output also goes to the log.
run_step() {
    local name=$1 code=0 start=$SECONDS
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$logs/$name.log" || code=$?
    if [[ $code -ne 0 ]]; then failed_steps+=("$name"); fi
    echo "-- $name: $([[ $code -eq 0 ]] && echo ok || echo "FAILED ($code)") in $((SECONDS - start)) s"
    return "$code"
}

check() {
    if run_step "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

skip() {
    echo "SKIPPED $1: $2"
    skipped=$((skipped + 1))
}

# Sums the "test result:" lines of a log: passed, failed, ignored.
sum_results() {
    awk '/^test result:/ { gsub(/[^0-9 ]/, " "); p += $1; f += $2; i += $3 }
         END { print p + 0, f + 0, i + 0 }' "$1"
}

# A step that runs Rust tests. Ignored ones count as skipped until something runs them.
# A flaky one, which passed when it was run again, stands in the log as failed and as passed.
tests() {
    local name=$1 code=0 p f i again
    run_step "$@" || code=$?
    read -r p f i < <(sum_results "$logs/$name.log")
    mapfile -t again < <(sed -n 's/^FLAKY \([^ ]*\):.*/\1/p' "$logs/$name.log")
    flaky+=("${again[@]}")
    f=$((f - ${#again[@]}))
    # One that did not compile or crashed has no line that says so.
    if [[ $code -ne 0 && $f -eq 0 ]]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
    tests_run=$((p + f))
}

# The tests that `tests` counted as ignored, if this machine can run them.
check_privileged() {
    local reason
    reason=$(why_not_record)
    if [[ -z $reason ]] && ! run_step python-environment sample-traces/tools/setup-python.sh; then
        reason="llama.cpp and its model could not be prepared"
    fi
    if [[ -n $reason ]]; then
        echo "SKIPPED privileged tests: $reason" # counted already, as ignored tests
        return
    fi
    tests privileged .ci/privileged.sh
    skipped=$((skipped > tests_run ? skipped - tests_run : 0))
}

# Reports in a browser; their tests were counted as ignored, too.
check_browser() {
    local reason
    if reason=$(.ci/browser.sh --prepare); then
        tests browser .ci/browser.sh
        skipped=$((skipped > tests_run ? skipped - tests_run : 0))
    else
        echo "SKIPPED reports in a browser: $reason"
    fi
}

# A check of exports with another program, if that can be had.
check_prepared() {
    local name=$1 script=$2 reason
    if reason=$("$script" --prepare); then
        check "$name" "$script"
    else
        skip "$name" "$reason"
    fi
}

mkdir -p "$logs"
total=$SECONDS
run_step setup .ci/setup.sh test || {
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}
check fmt cargo fmt --all --check
check dependencies .ci/dependencies.sh
check unsafe .ci/unsafe.sh
check clippy cargo clippy --workspace --all-targets --locked -- -D warnings
tests tests cargo test --workspace --locked --no-fail-fast
check_privileged
check_browser
check_prepared duckdb sample-traces/tools/duckdb-check.sh
check_prepared perfetto sample-traces/tools/perfetto-check.sh
if [[ -x viewer/tests/xvfb.sh ]]; then
    check real-window viewer/tests/xvfb.sh
else
    skip "real window" "no viewer/tests/xvfb.sh"
fi
check_prepared packages .ci/deb-test.sh
check doc env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
check_prepared deny .ci/deny.sh
check fuzz-targets .ci/fuzz.sh --check

echo
[[ ${#failed_steps[@]} -eq 0 ]] || echo "failed: ${failed_steps[*]}"
[[ ${#flaky[@]} -eq 0 ]] || echo "flaky, passed at the second try: ${flaky[*]}"
echo "all steps took $((SECONDS - total)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 && ${#failed_steps[@]} -eq 0 ]]
