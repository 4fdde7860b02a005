#!/usr/bin/env bash
# What `llmtrace diff` takes for a change where there is none: records pairs of the same run, and
# counts those that it calls slower. Then a pair with a competing process, which it has to name.
# Wants root and a machine with at least two CPUs; no idle one, since states of threads are recorded.
# Usage: bench-diff.sh [PAIRS] [FOLDER]. With LLMTRACE=FILE that program is used, and nothing is built.
# Exit code 1 when more than one pair in ten is called a regression, or the competitor is not named.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

pairs=${1:-10}
work=${2:-$(mktemp -d)}
mkdir -p "$work"
reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "bench-diff: $reason" >&2
    exit 1
fi
sample-traces/tools/setup-python.sh
if [[ -z ${LLMTRACE:-} ]]; then
    .ci/setup.sh build
    cargo build --quiet --release --locked -p llmtrace
    LLMTRACE=${CARGO_TARGET_DIR:-target}/release/llmtrace
fi

record() {
    as_root "$LLMTRACE" record -q --sched --max-overhead 100 -o "$work/$1.llmtrace" -- \
        "$PYTHON" "$GENERATE" --model "$MODEL" --threads 2 --prompt-tokens 16 --tokens 96 > /dev/null
}
outcome() { "$LLMTRACE" diff --json "$@" | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["outcome"])'; }

right=0
for ((pair = 1; pair <= pairs; pair++)); do
    record "a$pair"
    record "b$pair"
    found=$(outcome "$work/a$pair.llmtrace" "$work/b$pair.llmtrace")
    [[ $found == slower ]] || right=$((right + 1))
    printf '%2d %-14s %s\n' "$pair" "$found" \
        "$("$LLMTRACE" diff "$work/a$pair.llmtrace" "$work/b$pair.llmtrace" | head -n 1)"
done
echo "the same run: $right of $pairs pairs are not called a regression"

"$PYTHON" -c 'while True: pass' &
competitor=$!
trap 'kill "$competitor"' EXIT
as_root taskset -cp 0 "$competitor" > /dev/null
record competing
said=$("$LLMTRACE" diff "$work/a1.llmtrace" "$work/competing.llmtrace")
echo "with process $competitor competing for a CPU:"
head -n 1 <<<"$said"
named=0
if grep -q "preempted by [^,]*(pid $competitor)" <<<"$said"; then named=1; fi
[[ $named == 1 ]] && echo "it is named" || echo "it is not named"
[[ $named == 1 && $((right * 10)) -ge $((pairs * 9)) ]]
