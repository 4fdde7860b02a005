#!/usr/bin/env bash
# Opens reports in a headless Chromium and looks at what it made of them.
# usage: .ci/browser.sh [--prepare]: prints why that cannot be done, and fails, if so.
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=
for name in chromium chromium-browser google-chrome; do
    if chromium=$(command -v "$name"); then break; fi
done
if [[ -z $chromium ]]; then
    echo "no Chromium"
    exit 1
fi
[[ ${1:-} != --prepare ]] || exit 0
LLMTRACE_TEST_CHROMIUM=$chromium cargo test --locked -p llmtrace-analysis --test report -- --ignored
