#!/usr/bin/env bash
# Draws the pictures of docs/tutorial.md anew, from the bundled samples.
# usage: .ci/docs-pictures.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-docs/pictures}
[[ -n ${VIEWER:-} ]] || cargo build --quiet --locked -p llmtrace-viewer
viewer=${VIEWER:-${CARGO_TARGET_DIR:-target}/debug/llmtrace-viewer}
samples=sample-traces

# picture NAME SAMPLE VIEW ARGS…
picture() {
    local name=$1 sample=$2 view=$3
    shift 3
    "$viewer" "$samples/$sample.llmtrace" --screenshot "$folder/tutorial-$name.png" --view "$view" --theme light "$@"
}
picture overview gemma3-270m-2t overview --size 1280x860
picture token gemma3-270m-2t timeline --size 1280x560 --range token:5
picture node gemma3-270m-2t timeline --size 1280x720 --range token:5 --select ffn_up-7
picture operators gemma3-270m-2t operators --size 1280x720
picture graph gemma3-270m-2t graph --size 1280x720
picture preempted gemma3-270m-preempted-2t timeline --size 1280x560 --range token:9
