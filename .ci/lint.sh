#!/usr/bin/env bash
# The checks that need no test run.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
if command -v shellcheck >/dev/null; then
    shellcheck -x .ci/run .ci/*.sh sample-traces/tools/*.sh
fi
