#!/usr/bin/env bash
# Opens one trace with llmtrace-viewer and, exported, with the Perfetto UI, in turns, and prints how
# long each took and the ratio of the medians.
# usage: .ci/bench-viewers.sh [OP_SPANS [ROUNDS]]
# Ours is the whole process, from its start to the picture in a file. Perfetto's begins when its
# page is ready and ends when the tracks are there. Wants an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh
spans=${1:-1000000} rounds=${2:-3}
ui=$CACHE/perfetto

skip() {
    echo "SKIPPED opening beside the Perfetto UI: $1"
    exit 0
}

.ci/setup.sh browser || skip "Chromium or npm cannot be installed"
sample-traces/tools/perfetto-check.sh --prepare || skip "no Perfetto UI"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp viewer/benches/perfetto/* "$folder"
npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error --cache "$CACHE/npm" || skip "no playwright-core"
cargo build --quiet --release --locked -p llmtrace -p llmtrace-viewer
programs=${CARGO_TARGET_DIR:-target}/release
cargo run --quiet --release --locked -p llmtrace-analysis --example synth -- \
    --spans "$spans" --threads 8 --seed 1 -o "$folder/trace.llmtrace" >"$folder/log"
"$programs/llmtrace" export "$folder/trace.llmtrace" --format perfetto -o "$folder/trace.pftrace" >"$folder/log"

for ((round = 0; round < rounds; round++)); do
    begin=$(date +%s.%N)
    "$programs/llmtrace-viewer" "$folder/trace.llmtrace" --view timeline --size 1600x900 \
        --screenshot "$folder/ours.png" >"$folder/log"
    end=$(date +%s.%N)
    ours=$(awk "BEGIN { print $end - $begin }")
    theirs=$(node "$folder/open.mjs" "$ui" "$(command -v chromium)" "$folder/trace.pftrace")
    echo "$spans op spans: llmtrace-viewer $ours s, Perfetto UI $theirs s"
    echo "$ours $theirs" >>"$folder/times"
done
median() { cut -d' ' -f"$1" "$folder/times" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
awk "BEGIN { printf \"ratio of the medians: 1 : %.0f\n\", $(median 2) / $(median 1) }"
