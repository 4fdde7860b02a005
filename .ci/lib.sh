# shellcheck shell=bash
# Shared by the scripts here and in sample-traces/tools. Sourced, never run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Where the Python environment and the models are kept. Under sudo: the calling user's.
cache_dir() {
    local home=$HOME
    if [[ -n ${LLMTRACE_CACHE:-} ]]; then
        echo "$LLMTRACE_CACHE"
        return
    fi
    if [[ $EUID -eq 0 && -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        echo "$home/.cache/llmtrace"
        return
    fi
    echo "${XDG_CACHE_HOME:-$home/.cache}/llmtrace"
}

CACHE=$(cache_dir)
# shellcheck disable=SC2034  # used by the scripts that source this file
PYTHON=$CACHE/venv/bin/python
# shellcheck disable=SC2034
MODEL=$CACHE/models/gemma-3-270m-q4_k_m.gguf
# shellcheck disable=SC2034
GENERATE=$REPO/sample-traces/tools/generate.py

# shellcheck disable=SC2034
Q8=$CACHE/models/gemma-3-270m-q8_0.gguf

# shellcheck disable=SC2034
MOE=$CACHE/models/qwen3moe-synthetic-8x32x512.gguf

# Makes $MOE, unless it is there. Seeded: every machine makes the same weights.
make_moe() {
    [[ -f $MOE ]] ||
        "$PYTHON" "$REPO/sample-traces/tools/make_moe.py" "$MOE" --tokenizer-from "$MODEL" \
            --layers 8 --experts 32 --used 4 --embd 512 --seed 1
}

# True if `as_root` can work without or with asking for a password.
can_be_root() {
    [[ $EUID -eq 0 ]] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null || [[ -t 0 ]]
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# Prints why this machine cannot record; prints nothing if it can.
why_not_record() {
    if [[ $(uname -s) != Linux ]]; then
        echo "recording needs Linux, this is $(uname -s)"
    elif [[ $(uname -m) != x86_64 ]]; then
        echo "recording needs x86-64, this is $(uname -m)"
    elif [[ ! -r /sys/kernel/btf/vmlinux ]]; then
        echo "the kernel has no BTF (/sys/kernel/btf/vmlinux)"
    elif ! can_be_root; then
        echo "recording needs root, and sudo cannot ask for a password here"
    fi
}
