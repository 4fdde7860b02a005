#!/usr/bin/env bash
# Measures the recorder and prints its figures beside their goals; docs/performance.md explains
# them. Options are those of recorder/benches/record/run.rs: --only, --pairs, --soak, --profile.
# Builds as ourselves, runs only the result as root. Wants an otherwise idle machine.
# Exit code: 0 when every row was measured, whether or not its goal was met.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

links=() # what we made under /lib/modules, to be taken away again, the last first
no_headers=""

remove_links() {
    local i
    for ((i = ${#links[@]} - 1; i >= 0; i--)); do
        if [[ -L ${links[i]} ]]; then as_root rm -f "${links[i]}"; else as_root rmdir "${links[i]}"; fi
    done
}

# BCC compiles against the headers of the running kernel. Where there are none, those of Debian's
# own kernel will do for uprobes, which need no more than the registers.
link_headers() {
    local modules build common folder
    modules=/lib/modules/$(uname -r)
    if [[ -e $modules/build || -r /sys/kernel/kheaders.tar.xz ]]; then return; fi
    build=$(find /usr/src -maxdepth 1 -name 'linux-headers-*-amd64' | sort -V | tail -n 1)
    common=${build%-amd64}-common
    if [[ -z $build || ! -d $common ]]; then
        no_headers="no headers for kernel $(uname -r), and Debian's linux-headers-amd64 is not there"
        return
    fi
    for folder in /lib/modules "$modules"; do
        if [[ -d $folder ]]; then continue; fi
        as_root mkdir "$folder" || { no_headers="cannot make $folder"; return; }
        links+=("$folder")
    done
    as_root ln -s "$build" "$modules/build" && links+=("$modules/build")
    as_root ln -s "$common" "$modules/source" && links+=("$modules/source")
}

reason=$(why_not_record)
if [[ -n $reason ]]; then
    echo "bench-record: $reason" >&2
    exit 1
fi
.ci/setup.sh demo
# Where they cannot be had, their rows say so.
.ci/setup.sh peers || true
sample-traces/tools/setup-python.sh
make_moe
built=$(cargo bench --locked -p llmtrace --bench record --no-run 2>&1) || {
    echo "$built" >&2
    exit 1
}
exe=$(realpath "$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built")")

trap remove_links EXIT
link_headers
as_root env LLMTRACE_TEST_PYTHON="$PYTHON" LLMTRACE_TEST_MODEL="$MODEL" \
    LLMTRACE_TEST_GENERATE="$GENERATE" LLMTRACE_BENCH_MOE="$MOE" \
    LLMTRACE_BENCH_NO_HEADERS="$no_headers" "$exe" "$@"
