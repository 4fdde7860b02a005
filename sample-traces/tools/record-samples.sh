#!/usr/bin/env bash
# Records the traces in sample-traces/ again, with target/release/llmtrace. Wants an idle machine
# with at least two cores. Usage: record-samples.sh [NAME...], by default all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"
cd "$REPO"

max_bytes=2000000
llmtrace=${CARGO_TARGET_DIR:-target}/release/llmtrace

# record NAME MODEL THREADS: about 120 tokens of prefill, 71 of decode.
record() {
    record_command "$1" "$PYTHON" sample-traces/tools/generate.py --model "$2" --threads "$3" \
        --prompt-tokens 128 --tokens 72
}

# record_command NAME COMMAND...; more options of the recorder in `options`.
options=()
record_command() {
    local output=sample-traces/$1.llmtrace bytes
    shift
    echo "record-samples: recording $output"
    # A trace that is too large never takes the place of a good one.
    as_root "$llmtrace" record -o "$output.new" --level thread --max-overhead 100 "${options[@]}" -- "$@"
    bytes=$(stat -c %s "$output.new")
    if [[ $bytes -gt $max_bytes ]]; then
        echo "record-samples: $bytes bytes, more than $max_bytes: $output.new" >&2
        exit 1
    fi
    mv "$output.new" "$output"
    echo "record-samples: $bytes bytes: $output"
}

# record_machine NAME MODEL THREADS TOKENS ARGUMENTS...: a short run with what the kernel did.
record_machine() {
    options=(--sched --faults)
    record_command "$1" "$PYTHON" sample-traces/tools/generate.py --model "$2" --threads "$3" \
        --prompt-tokens 32 --tokens "$4" "${@:5}"
    options=()
}

# record_counted NAME: with what the kernel counts for each operator.
record_counted() {
    options=(--counters page-faults,context-switches,cpu-migrations,task-clock)
    record_command "$1" "$PYTHON" sample-traces/tools/generate.py --model "$MODEL" --threads 2 \
        --prompt-tokens 128 --tokens 24
    options=()
}

# record_preempted NAME: while a loop that never sleeps wants one of the CPUs.
record_preempted() {
    local neighbour
    taskset -c 0 "$PYTHON" -c 'while True: pass' &
    neighbour=$!
    # It never ends by itself, whatever goes wrong.
    # shellcheck disable=SC2064
    trap "kill $neighbour" EXIT
    record_machine "$1" "$MODEL" 2 96
    trap - EXIT
    kill "$neighbour"
}

# record_offload NAME LAYERS: the same build with some layers on Vulkan, that is on Mesa's llvmpipe.
record_offload() {
    local build=$CACHE/builds/vulkan-3.22.1
    sample-traces/tools/setup-builds.sh vulkan-3.22.1
    if [[ -f $build/skipped ]]; then
        echo "record-samples: no $1: $(<"$build/skipped")" >&2
        exit 1
    fi
    record_command "$1" "$build/as-shipped/run" 2 12 "$2"
}

record_sample() {
    case $1 in
    gemma3-270m-1t) record "$1" "$MODEL" 1 ;;
    gemma3-270m-2t) record "$1" "$MODEL" 2 ;;
    qwen3moe-synthetic-2t)
        make_moe
        record "$1" "$MOE" 2
        ;;
    gemma3-270m-server-1t)
        # Three slots for seven requests, with different prompts and lengths.
        record_command "$1" "$PYTHON" sample-traces/tools/serve.py --model "$MODEL" --slots 3 --requests 7 \
            --tokens 16
        ;;
    gemma3-270m-vulkan9-2t) record_offload "$1" 9 ;;
    # Pairs for `llmtrace diff`.
    gemma3-270m-undisturbed-2t) record_machine "$1" "$MODEL" 2 96 ;;
    gemma3-270m-q8-2t)
        [[ -f $Q8 ]] || "$PYTHON" sample-traces/tools/make_q8.py "$MODEL" "$Q8"
        record_machine "$1" "$Q8" 2 96
        ;;
    gemma3-270m-preempted-2t) record_preempted "$1" ;;
    gemma3-270m-counters-2t) record_counted "$1" ;;
    gemma3-270m-warm-1t) record_machine "$1" "$MODEL" 1 24 ;;
    gemma3-270m-cold-1t) record_machine "$1" "$MODEL" 1 24 --evict ;;
    *)
        echo "record-samples: no such sample: $1" >&2
        exit 2
        ;;
    esac
}

reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "record-samples: $reason" >&2
    exit 1
fi
.ci/setup.sh build
sample-traces/tools/setup-python.sh
cargo build --quiet --release --locked -p llmtrace
[[ $# -gt 0 ]] || set -- gemma3-270m-1t gemma3-270m-2t qwen3moe-synthetic-2t gemma3-270m-server-1t \
    gemma3-270m-vulkan9-2t gemma3-270m-undisturbed-2t gemma3-270m-q8-2t gemma3-270m-preempted-2t \
    gemma3-270m-counters-2t gemma3-270m-warm-1t gemma3-270m-cold-1t
for name in "$@"; do
    record_sample "$name"
done
