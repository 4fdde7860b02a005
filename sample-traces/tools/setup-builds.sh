#!/usr/bin/env bash
# Prepares the builds of llama.cpp and ggml that recording is tested on, outside of the source tree:
#   $cache/builds/NAME/as-shipped/run THREADS TOKENS      runs a workload on that build
#   $cache/builds/NAME/stripped/run THREADS TOKENS        the same after `strip -s` of its libraries
#   $cache/builds/NAME/skipped                            instead: one line that says why
# where $cache is as in setup-python.sh, which must have run. A build that cannot be prepared does
# not keep the others from being. What is there already is not made again.
# Usage: setup-builds.sh [NAME...], by default all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=.ci/lib.sh
source "$here/../../.ci/lib.sh"

all=(vulkan-3.22.1 node-3.22.1 node-3.6.0 node-3.1.1 xllamacpp whisper clang)
builds=$CACHE/builds
dense=$CACHE/models/llama-synthetic-4x256.gguf
speech=$CACHE/models/whisper-synthetic-4x128.bin
node_needed=20

say() { echo "setup-builds: $*"; }

# Ends the preparation of one build, which runs in a shell of its own.
give_up() {
    echo "$*" >"$reason_file"
    exit 1
}

# The files that a build is made of.
inputs_of() {
    case $1 in
    node-*) echo "builds/$1/package-lock.json" builds/generate.mjs make_llama.py ;;
    vulkan-*) echo "builds/$1/package-lock.json" builds/offload.mjs ;;
    xllamacpp) echo requirements.txt generate.py ;;
    whisper) echo builds/requirements-whisper.txt builds/transcribe.py make_whisper.py ;;
    clang) echo builds/requirements-source.txt builds/requirements-clang.txt builds/ggml_graph.c ;;
    *) return 1 ;;
    esac
}

# Changes with these files, and with what is done here.
stamp_of() {
    local inputs
    read -ra inputs <<<"$(inputs_of "$1")"
    (cd "$here" && cat -- "${inputs[@]}" && declare -f write_run make_stripped install_packages "prepare_${1%%-*}") | sha256sum
}

pip_quietly() {
    "$PYTHON" -m pip --disable-pip-version-check "$@" --quiet --no-cache-dir --retries 2 --no-deps \
        --require-hashes >>"$log" 2>&1 || give_up "pip failed (no package registry?); see $log"
}

# Writes the `run` script of the folder `$1`; its commands come from standard input, with the
# folder in $here, the models in $models, and the arguments in $threads and $tokens.
write_run() {
    {
        echo '#!/bin/sh'
        # shellcheck disable=SC2016  # expanded when it runs
        echo 'here=$(dirname "$(realpath "$0")") threads=$1 tokens=$2'
        printf 'models=%q python=%q\n' "$CACHE/models" "$PYTHON"
        cat
    } >"$1/run"
    chmod +x "$1/run"
}

# Makes `stripped` of `as-shipped`. Files are shared where they are the same.
make_stripped() {
    local library
    command -v strip >/dev/null || give_up "strip not found; install binutils"
    cp -al as-shipped stripped
    while IFS= read -r library; do
        rm "$library"
        strip -s -o "$library" "as-shipped/${library#stripped/}" || give_up "strip failed: $library"
    done < <(find stripped -type f \( -name '*.so' -o -name '*.so.*' -o -name '*.node' \))
}

# Makes the small models, which several builds share.
make_model() {
    local output=$1 script=$2
    shift 2
    [[ -f $output && $output -nt $here/$script ]] ||
        "$PYTHON" "$here/$script" "$output" "$@" >>"$log" 2>&1 || give_up "$script failed; see $log"
}

# Puts `node` and `npm` on the path: those of the system, or of a wheel.
find_node() {
    local venv=$builds/nodejs
    local major="process.versions.node.split('.')[0] >= $node_needed"
    if command -v npm >/dev/null && node -e "process.exit($major ? 0 : 1)" 2>/dev/null; then
        return
    fi
    if [[ ! -x $venv/bin/npm ]]; then
        rm -rf "$venv"
        python3 -m venv "$venv" >>"$log" 2>&1 || give_up "python3 -m venv failed; see $log"
        PYTHON=$venv/bin/python pip_quietly install --only-binary=:all: -r "$here/builds/requirements-node.txt"
    fi
    PATH=$venv/bin:$PATH
}

# Installs what the build's lock file names, and the script $1.
install_packages() {
    local script=$1 lock=$here/builds/$name/package-lock.json
    find_node
    cp "$here/builds/$name/package.json" "$lock" "$here/builds/$script" as-shipped
    # Not `npm ci`: it wants the optional packages of all platforms in the lock file, and some
    # registries lack some. What is in the lock file is checked against its hash all the same.
    (cd as-shipped && npm install --ignore-scripts --omit=optional --no-save --no-audit --no-fund) \
        >>"$log" 2>&1 || give_up "npm failed (no package registry?); see $log"
    cmp --silent "$lock" as-shipped/package-lock.json || give_up "npm chose other packages than $lock"
}

prepare_node() {
    local weights=$1
    install_packages generate.mjs
    write_run as-shipped <<EOF
cd "\$here" && exec $(command -v node) generate.mjs "\$models/${weights##*/}" "\$threads" "\$tokens"
EOF
}

# Offloads to Vulkan's first device; Mesa's llvmpipe is one that every machine can have. A third
# argument of `run` is how many layers: 0, a number, or max; a fourth one which of our models.
prepare_vulkan() {
    local driver
    driver=$(compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' | head -n 1)
    [[ -n $driver ]] || give_up "Mesa's Vulkan driver llvmpipe not found; install mesa-vulkan-drivers"
    make_moe >>"$log" 2>&1 || give_up "the mixture of experts cannot be made; see $log"
    install_packages offload.mjs
    write_run as-shipped <<EOF
export GGML_VK_VISIBLE_DEVICES=0 VK_ICD_FILENAMES=$driver VK_DRIVER_FILES=$driver
cd "\$here" && exec $(command -v node) offload.mjs "\$models/\${4:-${MODEL##*/}}" "\$threads" "\$tokens" "\${3:-9}"
EOF
}

prepare_xllamacpp() {
    local packages
    packages=$("$PYTHON" -c 'import xllamacpp; print(xllamacpp.__path__[0])' 2>>"$log") ||
        give_up "xllamacpp cannot be imported; see $log"
    cp -r "$packages" "$here/generate.py" as-shipped
    write_run as-shipped <<EOF
export PYTHONPATH=\$here
exec "\$python" "\$here/generate.py" --model "\$models/${MODEL##*/}" --threads "\$threads" \\
    --tokens "\$tokens" --prompt-tokens 32
EOF
}

prepare_whisper() {
    make_model "$speech" make_whisper.py
    pip_quietly install --only-binary=:all: --target as-shipped -r "$here/builds/requirements-whisper.txt"
    cp "$here/builds/transcribe.py" as-shipped
    write_run as-shipped <<EOF
export PYTHONPATH=\$here
exec "\$python" "\$here/transcribe.py" "\$models/${speech##*/}" "\$threads" "\$tokens"
EOF
}

prepare_clang() {
    local venv=$PWD/venv ggml flags
    for tool in clang clang++; do
        command -v "$tool" >/dev/null || give_up "$tool not found; install clang"
    done
    say "building ggml with clang, which takes a few minutes"
    python3 -m venv "$venv" >>"$log" 2>&1 || give_up "python3 -m venv failed; see $log"
    PYTHON=$venv/bin/python pip_quietly install --only-binary=:all: -r "$here/builds/requirements-clang.txt"
    PATH=$venv/bin:$PATH
    PYTHON=$venv/bin/python pip_quietly download --no-binary llama-cpp-python --no-build-isolation \
        --dest source -r "$here/builds/requirements-source.txt"
    tar -xzf source/*.tar.gz -C source --strip-components=1 --wildcards '*/vendor/llama.cpp/ggml'
    ggml=$PWD/source/vendor/llama.cpp/ggml
    touch "$ggml/ggml.pc.in" # the distribution lacks it
    flags=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Release
        -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF
        -DGGML_LLAMAFILE=OFF -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF)
    { cmake -G Ninja -S "$ggml" -B build "${flags[@]}" && nice cmake --build build --target ggml-cpu; } \
        >>"$log" 2>&1 || give_up "ggml cannot be built; see $log"
    cp -a build/src/libggml-base.so* build/src/libggml-cpu.so* as-shipped
    # shellcheck disable=SC2016  # $ORIGIN is the loader's
    clang -O2 -I "$ggml/include" "$here/builds/ggml_graph.c" -o as-shipped/ggml_graph \
        -L as-shipped -lggml-cpu -lggml-base -Wl,-rpath,'$ORIGIN' >>"$log" 2>&1 ||
        give_up "ggml_graph.c cannot be built; see $log"
    rm -rf source build "$venv"
    write_run as-shipped <<EOF
exec "\$here/ggml_graph" "\$threads" "\$tokens"
EOF
}

# In a shell of its own, in a new folder of the build.
prepare() {
    mkdir as-shipped
    case $name in
    node-3.22.1) prepare_node "$MODEL" ;;
    vulkan-*) prepare_vulkan ;;
    node-*) # too old for Gemma 3
        make_model "$dense" make_llama.py --tokenizer-from "$MODEL"
        prepare_node "$dense"
        ;;
    *) "prepare_$name" ;;
    esac
    make_stripped
    stamp_of "$name" >.stamp
}

main() {
    local name reason_file log
    # Files in a user's cache belong to that user, also when sudo calls us.
    if [[ $EUID -eq 0 && -n ${SUDO_USER:-} && $SUDO_USER != root && -z ${LLMTRACE_CACHE:-} ]]; then
        exec sudo -H -u "$SUDO_USER" "$here/setup-builds.sh" "$@"
    fi
    [[ $# -gt 0 ]] || set -- "${all[@]}"
    for name in "$@"; do
        inputs_of "$name" >/dev/null || { say "no such build: $name" >&2 && exit 2; }
        if [[ -f $builds/$name/.stamp && $(<"$builds/$name/.stamp") == "$(stamp_of "$name")" ]]; then
            continue
        fi
        rm -rf "${builds:?}/$name"
        mkdir -p "$builds/$name"
        reason_file=$builds/$name/skipped log=$builds/$name.log
        : >"$log"
        say "preparing $name"
        # Not in a condition: bash would then ignore `set -e` inside.
        set +e
        (set -e && cd "$builds/$name" && prepare)
        [[ $? -eq 0 || -f $reason_file ]] || echo "it failed; see $log" >"$reason_file"
        set -e
        if [[ -f $reason_file ]]; then say "skipped $name: $(<"$reason_file")"; fi
    done
}

main "$@"
