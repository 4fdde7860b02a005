#!/usr/bin/env bash
# Fuzzes what reads strangers' bytes (fuzz/): TIME seconds a target (default 60), all targets or
# those named. A finding ends the run; its input is under fuzz/artifacts.
# `--check` only compiles the targets, on any toolchain. SANITIZER=address also looks into zstd.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

version=0.13.2
time=${TIME:-60}
sanitizer=${SANITIZER:-none}

if [[ ${1:-} == --check ]]; then
    exec cargo check --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}"
fi

targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || mapfile -t targets < <(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml)

PATH=$CACHE/tools/bin:$PATH
command -v cargo-fuzz >/dev/null || cargo install -q --locked --root "$CACHE/tools" "cargo-fuzz@$version"
# By the toolchain that built the rest already.
cargo run -q --locked -p llmtrace-testing --example seeds -- fuzz/corpus
# libFuzzer needs coverage, which is for nightly compilers, or for others that are told so.
if cargo +nightly --version >/dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi

mkdir -p fuzz/corpus/binary
for options in "-O1" "-O2" "-O2 -fcf-protection=none" "-O2 -s"; do
    # shellcheck disable=SC2086  # several options
    "${CC:-cc}" -shared -fPIC -nostdlib $options -o "fuzz/corpus/binary/ggml${options//[^a-z0-9A-Z]/}.so" fuzz/ggml.c
done

for target in "${targets[@]}"; do
    # As the goal has it: no more than four times a file, and 64 MiB. Files are 1 MiB at most, and
    # libFuzzer keeps the corpus in memory.
    cargo fuzz run --sanitizer "$sanitizer" "$target" "fuzz/corpus/$target" -- \
        -max_total_time="$time" -timeout=10 -rss_limit_mb=512 -max_len=1048576 -print_final_stats=1
done
