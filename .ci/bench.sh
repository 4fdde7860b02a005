#!/usr/bin/env bash
# Prints the figures that CHANGELOG and README quote. Wants an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

.ci/setup.sh demo
cargo bench --workspace --exclude llmtrace --locked
# Two traces of 20 M op spans side by side: aligned in 1 s, compared in 2 s.
pair=$(mktemp -d)
trap 'rm -rf "$pair"' EXIT
for seed in 1 2; do
    cargo run --quiet --release --locked -p llmtrace-analysis --example synth -- \
        --spans 20000000 --seed "$seed" -o "$pair/$seed.llmtrace" >"$pair/log"
done
cargo bench -p llmtrace-viewer --locked --bench frame -- "$pair/1.llmtrace" "$pair/2.llmtrace"
cargo bench -p llmtrace --bench convert --locked
.ci/bench-start.sh
reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "SKIPPED slowdown of decoding: $reason"
else
    .ci/bench-record.sh --only decode,token
fi
