#!/usr/bin/env bash
# Licences, duplicates and sources of everything we link (deny.toml). Advisories where their database
# can be reached; elsewhere it says that they were skipped.
# `--prepare` installs cargo-deny into the cache, once; prints why not, and fails, where it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

version=0.20.2
PATH=$CACHE/tools/bin:$PATH

if [[ ${1:-} == --prepare ]]; then
    [[ $(cargo deny --version 2>/dev/null) == "cargo-deny "* ]] && exit
    cargo install -q --locked --root "$CACHE/tools" "cargo-deny@$version" >"$CACHE/cargo-deny.log" 2>&1 || {
        echo "cargo-deny $version cannot be installed: $(tail -n 1 "$CACHE/cargo-deny.log")"
        exit 1
    }
    exit
fi

cargo deny --locked check --hide-inclusion-graph licenses bans sources
if said=$(cargo deny --locked check advisories 2>&1); then
    echo "advisories: none"
elif grep -qE 'failed to (fetch|open|load) advisory|unable to (fetch|clone)|could not resolve|network' <<<"$said"; then
    echo "SKIPPED advisories: their database cannot be reached"
else
    echo "$said" >&2
    exit 1
fi
