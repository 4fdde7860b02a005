#!/usr/bin/env bash
# Which lines of `format` its tests and those of `testing` run, file by file; fails below LEAST percent
# (90). Needs the LLVM tools of the compiler's version, of Debian or Ubuntu, of rustup's component
# llvm-tools, or those that LLVM_COV and LLVM_PROFDATA name.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
component=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
tool() { command -v "$component/$1" || command -v "$1-$version" || true; }
cov=${LLVM_COV:-$(tool llvm-cov)} profdata=${LLVM_PROFDATA:-$(tool llvm-profdata)}
if [[ -z $cov || -z $profdata ]]; then
    echo "coverage: needs LLVM $version's tools: apt-get install llvm-$version, or rustup component add llvm-tools" >&2
    exit 3
fi

# Flags differ from those of all else, so what is built is kept apart.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/coverage
export CARGO_TARGET_DIR
raw=$CARGO_TARGET_DIR/raw
rm -rf "$raw"
mkdir -p "$raw"
export RUSTFLAGS="${RUSTFLAGS:-} -C instrument-coverage" LLVM_PROFILE_FILE
LLVM_PROFILE_FILE=$(realpath "$raw")/%p-%m.profraw
cargo test -q --locked -p llmtrace-format -p llmtrace-testing
mapfile -t programs < <(cargo test --locked -p llmtrace-format -p llmtrace-testing --no-run 2>&1 |
    sed -n 's/^ *Executable .*(\(.*\))$/-object=\1/p')
"$profdata" merge --sparse "$raw"/*.profraw -o "$CARGO_TARGET_DIR/merged"
report=$("$cov" report "${programs[@]}" --instr-profile "$CARGO_TARGET_DIR/merged" --show-region-summary=false \
    --show-branch-summary=false --ignore-filename-regex='/(registry|rustc|analysis|testing|tests)/|_tests\.rs$')
echo "$report"
percent=$(awk '$1 == "TOTAL" { print $NF }' <<<"$report" | tr -d %)
echo "coverage of format: $percent % of lines (at least ${LEAST:-90})"
awk -v found="$percent" -v least="${LEAST:-90}" 'BEGIN { exit found < least }'
