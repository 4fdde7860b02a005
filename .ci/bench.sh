#!/usr/bin/env bash
# Prints the figures that CHANGELOG and README quote. Wants an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

.ci/setup.sh demo
sample-traces/tools/setup-python.sh
LLMTRACE_TEST_PYTHON=$PYTHON LLMTRACE_TEST_MODEL=$MODEL LLMTRACE_TEST_GENERATE=$GENERATE \
    cargo bench --workspace --locked
