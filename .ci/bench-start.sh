#!/usr/bin/env bash
# Prints how long the app takes from its start until its window shows the first frame, under Xvfb and
# with a software renderer: with nothing open, and with a sample. The goal is a second.
# usage: .ci/bench-start.sh [VIEWER [ROUNDS]]
# eframe shows the window once the first frame is painted, so that a visible window has one.
set -euo pipefail
cd "$(dirname "$0")/.."
viewer=${1:-} rounds=${2:-7}
for tool in Xvfb xdotool; do
    command -v "$tool" >/dev/null || {
        echo "SKIPPED start of the app: no $tool"
        exit 0
    }
done
if [[ -z $viewer ]]; then
    cargo build --quiet --release --locked -p llmtrace-viewer
    viewer=${CARGO_TARGET_DIR:-target}/release/llmtrace-viewer
fi
work=$(mktemp -d)
Xvfb -displayfd 3 -noreset -screen 0 1600x900x24 -nolisten tcp 3>"$work/display" 2>"$work/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 50); do [[ -s $work/display ]] && break || sleep 0.1; done
DISPLAY=:$(<"$work/display")
export DISPLAY LIBGL_ALWAYS_SOFTWARE=1 XDG_DATA_HOME=$work/data
unset WAYLAND_DISPLAY

# once NAME ARGS…: milliseconds until a visible window has the name.
once() {
    local name=$1 begin app
    shift
    begin=$(date +%s%N)
    "$viewer" "$@" >"$work/out" 2>&1 &
    app=$!
    xdotool search --sync --onlyvisible --name "$name" >"$work/windows"
    echo $((($(date +%s%N) - begin) / 1000000))
    kill "$app"
    wait "$app" 2>/dev/null || true
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
sample=sample-traces/gemma3-270m-2t.llmtrace
once llmtrace >/dev/null # files are in memory from here on
for what in "" "$sample"; do
    name=llmtrace
    [[ -z $what ]] || name=$(basename "$what")
    for ((round = 0; round < rounds; round++)); do once "$name" ${what:+"$what"}; done >"$work/times"
    echo "first frame, ${what:-nothing open}: median $(median <"$work/times") ms, longest $(sort -n "$work/times" | tail -1) ms (goal 1000)"
done
