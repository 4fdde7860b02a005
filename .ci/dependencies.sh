#!/usr/bin/env bash
# The dependency rule (ARCHITECTURE.md): bpf -> recorder -> format <- analysis <- viewer.
# Each line: a package, and what must not appear below it, as an extended regular expression.
set -euo pipefail
cd "$(dirname "$0")/.."

gui='e(gui|frame)(_.*)?|rfd'
failed=0

# Everything that package $1 pulls in on any platform, tests aside.
crates_below() {
    cargo tree --locked --package "$1" --edges no-dev --target all --prefix none --format '{p}' |
        cut -d' ' -f1 | sort -u
}

forbid() {
    local package=$1 pattern=$2 below found
    below=$(crates_below "$package") # fails loudly if the package is gone
    found=$(grep -Ex "$pattern" <<<"$below" | grep -vx "$package" | paste -sd' ' || true)
    if [[ -n $found ]]; then
        echo "dependencies: $package must not depend on: $found" >&2
        failed=1
    fi
}

forbid llmtrace-format "llmtrace.*|libbpf.*|$gui"
forbid llmtrace-bpf "llmtrace.*|$gui"
forbid llmtrace-analysis "llmtrace|llmtrace-(bpf|viewer|testing)|libbpf.*|$gui"
forbid llmtrace-viewer 'llmtrace|llmtrace-(bpf|testing)|libbpf.*'
forbid llmtrace "llmtrace-(viewer|testing)|$gui"
exit $failed
