#!/usr/bin/env bash
# Measures what this machine reads from memory with `llmtrace calibrate` and with sysbench, in
# turns, and prints both and their ratio. Wants an otherwise idle machine.
# Usage: bench-ceilings.sh [ROUNDS]. With LLMTRACE=FILE that program is measured, and nothing is built.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

rounds=${1:-3}
.ci/setup.sh ceilings
if [[ -z ${LLMTRACE:-} ]]; then
    cargo build --quiet --release --locked -p llmtrace
    LLMTRACE=${CARGO_TARGET_DIR:-target}/release/llmtrace
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# MB/s of 10^6 bytes: sysbench counts MiB. Its blocks are read again and again, so that one has to
# be larger than any cache; each thread has its own.
sysbench_reads() {
    sysbench memory --memory-oper=read --memory-access-mode=seq --memory-block-size=512M \
        --memory-total-size=1T --threads="$1" --time=3 run |
        awk '/MiB transferred/ { sub(/^.*\(/, ""); print $1 * 1.048576 }'
}

for ((round = 1; round <= rounds; round++)); do
    "$LLMTRACE" calibrate --json --dry-run --rounds 5 > "$work/calibrate-$round.json"
    jq -r '.rates[] | select(.quantity == "read_bytes") | "\(.threads) \(.highest / 1e6)"' \
        "$work/calibrate-$round.json" >> "$work/ours"
    jq -r '[.rates[] | select(.quantity == "read_bytes") | .threads] | unique | .[]' \
        "$work/calibrate-$round.json" |
        while read -r threads; do
            echo "$threads $(sysbench_reads "$threads")"
        done >> "$work/theirs"
done

echo "reading memory, GB/s, the best of $rounds turns each; $(jq -r .cpu_model "$work/calibrate-1.json")"
awk '
    FNR == NR { if ($2 > ours[$1]) ours[$1] = $2; next }
    $2 > theirs[$1] { theirs[$1] = $2 }
    END {
        printf "%8s %18s %9s %6s\n", "threads", "llmtrace calibrate", "sysbench", "ratio"
        for (n in ours) printf "%8d %18.1f %9.1f %6.2f\n", n, ours[n] / 1e3, theirs[n] / 1e3, ours[n] / theirs[n]
    }' "$work/ours" "$work/theirs" | (IFS= read -r head && echo "$head" && sort -n)
cat <<'TEXT'
Why they differ: calibrate sums 64-bit words of one buffer that the threads divide, with the widest
instructions that the CPU has, and counts a round from the moment that all threads are there until the last
is done. sysbench reads 8 bytes at a time from a block of each thread's own, and adds up what all threads
did in a fixed time, so that nobody waits for a slow one. A little under 1 is usual, over 1 where 8 bytes
at a time do not keep memory busy.
TEXT
