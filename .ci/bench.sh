#!/usr/bin/env bash
# Prints the figures that CHANGELOG and README quote. Wants an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

.ci/setup.sh demo
cargo bench --workspace --exclude llmtrace --locked
cargo bench -p llmtrace --bench convert --locked
.ci/bench-start.sh
reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "SKIPPED slowdown of decoding: $reason"
else
    .ci/bench-record.sh --only decode,token
fi
