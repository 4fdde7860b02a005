#!/usr/bin/env bash
# Exports the samples to Parquet and compares what DuckDB says of them with `llmtrace stats`; runs the
# queries in docs/cli.md, too. With --prepare it only gets DuckDB, into $cache/duckdb (where $cache is
# as in setup-python.sh), or prints why it cannot be had and ends with 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"
cd "$REPO"

requirements=$here/requirements-duckdb.txt
venv=$CACHE/duckdb
log=$CACHE/duckdb.log

fail() {
    echo "$*"
    exit 1
}

prepare() {
    local stamp
    stamp=$(sha256sum <"$requirements")
    [[ ! -f $venv/.stamp || $(<"$venv/.stamp") != "$stamp" ]] || return 0
    [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || fail "the pinned DuckDB is for Linux x86-64"
    python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3 with its venv module not found"
    mkdir -p "$CACHE"
    rm -rf "$venv"
    python3 -m venv "$venv" >"$log" 2>&1 || fail "python3 -m venv failed; see $log"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir --retries 2 \
        --only-binary=:all: --no-deps --require-hashes -r "$requirements" >>"$log" 2>&1 ||
        fail "DuckDB cannot be had from PyPI; see $log"
    echo "$stamp" >"$venv/.stamp"
}

prepare
[[ ${1:-} != --prepare ]] || exit 0
cargo build --quiet --locked -p llmtrace
exec "$venv/bin/python" "$here/duckdb-check.py" "${CARGO_TARGET_DIR:-target}/debug/llmtrace" \
    docs/cli.md sample-traces/*.llmtrace
