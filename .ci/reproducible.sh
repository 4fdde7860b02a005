#!/usr/bin/env bash
# Builds the release twice, from copies of the source in different folders, and compares the programs
# byte by byte. PACKAGES="llmtrace" for one of them. Takes two release builds.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra packages <<<"${PACKAGES:-llmtrace llmtrace-viewer}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for copy in first another-name; do
    mkdir -p "$folder/$copy"
    git archive HEAD | tar -x -C "$folder/$copy"
    (
        cd "$folder/$copy"
        export CARGO_TARGET_DIR=$folder/$copy/target
        export RUSTFLAGS="--remap-path-prefix=$folder/$copy=/llmtrace --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        cargo build -q --locked --release "${packages[@]/#/-p}"
    )
done
for package in "${packages[@]}"; do
    cmp "$folder/first/target/release/$package" "$folder/another-name/target/release/$package"
    sha256sum <"$folder/first/target/release/$package" | sed "s/-/$package is built the same twice/"
done
