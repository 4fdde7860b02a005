#!/usr/bin/env bash
# Makes target/dist: an archive of both programs with man pages, shell completions and licences, debs
# (where `make deb` is there), the bill of materials, and SHA256SUMS. The same source on the same
# machine gives the same archive.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
built=${CARGO_TARGET_DIR:-target}
dist=target/dist
name=llmtrace-$version-x86_64-linux
cyclonedx=0.5.9
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
# Paths of this machine do not belong into what is distributed.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$REPO=/llmtrace --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"

rm -rf "$dist"
mkdir -p "$dist/$name"
cargo build -q --locked --release -p llmtrace -p llmtrace-viewer
cargo run -q --locked --release -p llmtrace --example manual -- "$dist/$name"
install -m 755 "$built/release/llmtrace" "$built/release/llmtrace-viewer" "$dist/$name"
cp README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT "$dist/$name"
mkdir "$dist/$name/docs"
cp docs/*.md "$dist/$name/docs"
.ci/licences.py >"$dist/$name/THIRD-PARTY.txt"
tar --directory "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --create "$name" | gzip -n -9 >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"

PATH=$CACHE/tools/bin:$PATH
if cargo cyclonedx --version >/dev/null 2>&1 ||
    cargo install -q --locked --root "$CACHE/tools" "cargo-cyclonedx@$cyclonedx"; then
    for package in llmtrace:recorder llmtrace-viewer:viewer; do
        cargo cyclonedx -q --format json --manifest-path "${package#*:}/Cargo.toml" --override-filename bom
        mv "${package#*:}/bom.json" "$dist/${package%:*}-$version.cdx.json"
        find . -name bom.json -not -path './target/*' -delete
    done
else
    echo "dist: no bill of materials: cargo-cyclonedx $cyclonedx cannot be installed" >&2
fi
if grep -q '^deb:' Makefile; then
    make deb
    find target -maxdepth 3 -name '*.deb' -not -path "$dist/*" -exec cp {} "$dist" \;
fi
# The newest section of the changelog.
awk '/^## /{ n++ } n == 1' CHANGELOG.md >"$dist/NOTES.md"
(cd "$dist" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
cat "$dist/SHA256SUMS"
