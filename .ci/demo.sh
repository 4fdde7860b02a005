#!/usr/bin/env bash
# Records a real llama.cpp on this machine and shows the result. Where that cannot be done, it
# says why and shows a bundled sample, so that the first look never fails.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

sample="sample-traces/gemma3-270m-2t.llmtrace"
out=target/demo
trace=$out/demo.llmtrace
reason=$(why_not_record)
have_cli=true

step() { echo "[$1/5] $2"; }

build() {
    local target=${CARGO_TARGET_DIR:-target}
    bin=$target/release
    if cargo build --quiet --release --locked -p llmtrace -p llmtrace-viewer; then
        return
    fi
    # The recorder needs clang and libelf; the viewer needs only Rust.
    [[ $setup_code -ne 0 ]] || exit 1
    reason="the packages that the recorder is built with are missing (see above)"
    have_cli=false
    cargo build --quiet --release --locked -p llmtrace-viewer
}

record() {
    # Half of the cores: llama.cpp's barriers spin, and crawl once a thread must share its core.
    local threads=$(($(nproc) / 2))
    threads=$((threads < 1 ? 1 : threads > 4 ? 4 : threads))
    mkdir -p "$out"
    as_root "$bin/llmtrace" record -o "$trace" --level thread -- \
        "$PYTHON" sample-traces/tools/generate.py --model "$MODEL" --threads "$threads" --tokens 64
}

screenshots() {
    local view theme
    mkdir -p "$out"
    for view in overview timeline; do
        for theme in light dark; do
            "$bin/llmtrace-viewer" "$1" --screenshot "$out/$view-$theme.png" \
                --view "$view" --size 1600x900 --theme "$theme"
        done
    done
    echo "demo: pictures written to $out/{overview,timeline}-{light,dark}.png"
}

show() {
    if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]; then
        "$bin/llmtrace-viewer" "$1" && return
        echo "demo: the window did not open; drawing to files instead"
    fi
    screenshots "$1"
}

step 1 "checking system packages"
setup_code=0
.ci/setup.sh demo || setup_code=$?
[[ $setup_code -ne 2 ]] || exit 2

step 2 "building (minutes the first time)"
build

step 3 "preparing llama.cpp and Gemma 3 270M in $CACHE"
if [[ -z $reason ]] && ! sample-traces/tools/setup-python.sh; then
    reason="llama.cpp and its model could not be prepared (see above)"
fi

if [[ -z $reason ]]; then
    step 4 "recording 64 tokens"
    record || reason="the recorder failed (see above)"
else
    step 4 "not recording"
fi
if [[ -n $reason ]]; then
    echo "demo: showing the bundled sample, because $reason"
    trace=$sample
fi

step 5 "showing $trace"
! $have_cli || "$bin/llmtrace" summary "$trace"
show "$trace"
