#!/usr/bin/env bash
# Records five runs that are limited by one thing each, on purpose, and checks that
# `llmtrace explain` says by which. Wants root, an idle machine, target/release/llmtrace.
# Usage: verdict-cases.sh [FOLDER], which keeps the traces. With KEEP_CEILINGS=1 the host's
# ceilings are not measured again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"
cd "$REPO"

llmtrace=${CARGO_TARGET_DIR:-target}/release/llmtrace
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
cpus=$(nproc)
tiny=$CACHE/models/llama-synthetic-tiny.gguf
[[ -f $tiny ]] || "$PYTHON" "$here/make_llama.py" "$tiny" --tokenizer-from "$MODEL" \
    --layers 8 --embd 64 --seed 1
right=0
cases=0

# record NAME MODEL THREADS PROMPT TOKENS [OPTION...]
record() {
    local name=$1 model=$2 threads=$3 prompt=$4 tokens=$5
    shift 5
    # Nothing is left out: what recording costs is known, and taken off.
    as_root "$llmtrace" record -q -o "$folder/$name.llmtrace" --max-overhead 100 -- \
        "$PYTHON" "$here/generate.py" --model "$model" --threads "$threads" \
        --prompt-tokens "$prompt" --tokens "$tokens" "$@" > "$folder/$name.log"
}

# expect NAME PHASE BOUND
expect() {
    local found
    found=$("$llmtrace" explain --json "$folder/$1.llmtrace" | "$PYTHON" -c '
import json, sys
answer = json.load(sys.stdin)
verdict = next(p for p in answer["phases"] if p["phase"] == sys.argv[1])["verdict"]
print(verdict["bound"], verdict["confidence"], "; ".join(verdict["evidence"]), sep="\t")
' "$2")
    cases=$((cases + 1))
    if [[ ${found%%$'\t'*} == "$3" ]]; then right=$((right + 1)); fi
    printf '%-16s %-8s expected %-16s found %s\n' "$1" "$2" "$3" "$found"
}

[[ -n ${KEEP_CEILINGS:-} ]] || "$llmtrace" calibrate
record compute "$MODEL" 1 600 2
expect compute prefill compute
record memory "$MODEL" "$cpus" 16 60
expect memory decode memory
record synchronisation "$MODEL" $((4 * cpus)) 16 24
expect synchronisation decode synchronisation
record overhead "$tiny" "$cpus" 16 800
expect overhead decode overhead
# Loading reads the whole model; so the weights are taken out of memory once it is loaded.
rm -f "$folder/ready" "$folder/go"
record io "$MODEL" "$cpus" 16 8 --wait-file "$folder/ready" --go-file "$folder/go" &
until [[ -f $folder/ready ]]; do sleep 0.1; done
as_root "$PYTHON" "$here/page_out.py" "$MODEL"
touch "$folder/go"
wait $!
expect io prefill io
echo "$right of $cases verdicts are right; traces in $folder"
[[ $right -eq $cases ]]
