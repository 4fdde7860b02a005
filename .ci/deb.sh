#!/usr/bin/env bash
# Builds the Debian packages of the recorder and the viewer.
# usage: .ci/deb.sh [--prepare | --debug] [FOLDER]
# --prepare only gets cargo-deb, and fails with the reason where it cannot be had.
# --debug packs what `cargo build` makes, quickly: to test packaging, not to be given to anybody.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

VERSION=3.8.0
cargo_deb=$CACHE/cargo-deb-$VERSION/bin/cargo-deb

# cargo checks the sums of what it downloads by the lock file that comes with cargo-deb.
get_cargo_deb() {
    [[ ! -x $cargo_deb ]] || return 0
    local folder=$CACHE/cargo-deb-$VERSION log=$CACHE/cargo-deb.log
    mkdir -p "$CACHE"
    # Its own target folder: flags of this workspace would build all of it again each time.
    if ! CARGO_TARGET_DIR="$folder/target" cargo install --quiet --locked --root "$folder" \
        --version "=$VERSION" cargo-deb >"$log" 2>&1; then
        echo "cargo-deb $VERSION cannot be installed (see $log)"
        return 1
    fi
    rm -rf "$folder/target"
}

if ! command -v dpkg-deb >/dev/null; then
    echo "not a Debian or Ubuntu"
    exit 1
fi
get_cargo_deb
profile=(release --release) quick=()
case ${1:-} in
--prepare) exit 0 ;;
--debug)
    profile=(dev) quick=(--fast)
    shift
    ;;
esac
folder=${1:-${CARGO_TARGET_DIR:-target}/debian}
mkdir -p "$folder"
cargo build --quiet --locked "${profile[@]:1}" -p llmtrace -p llmtrace-viewer
for package in llmtrace llmtrace-viewer; do
    "$cargo_deb" --quiet --no-build --locked --profile "${profile[0]}" "${quick[@]}" -p "$package" --output "$folder"
done
ls -l "$folder"/*.deb
