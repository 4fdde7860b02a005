#!/usr/bin/env bash
# The list of `unsafe` in SECURITY.md is the code's.
set -euo pipefail
cd "$(dirname "$0")/.."

listed=$(sed -n 's/^| `\([a-z_/]*\.rs\)` | .*/\1/p' SECURITY.md | sort)
# Whatever the file says of it: blocks, functions, implementations, and the lint's exceptions.
found=$(git ls-files '*.rs' | xargs grep -lE '\bunsafe (\{|fn|impl|extern)|unsafe_code' |
    grep -v '^bpf/src/lib.rs$' | sort)
# The skeleton that libbpf-cargo makes is included there and is not ours.
if [[ $listed != "$found" ]]; then
    echo "SECURITY.md lists other files with unsafe code than there are:" >&2
    diff <(echo "$listed") <(echo "$found") >&2 || true
    exit 1
fi
