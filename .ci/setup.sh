#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing for `build`, `demo`, `test`, `peers` (the
# tracers that `make bench-record` compares with), `ceilings` (for `make bench-ceilings`) or `browser` (for
# `make bench-viewers`).
# Exit codes: 0 all there, 1 failed, 2 wrong usage or no cargo, 3 cannot install here (says what).
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=.ci/lib.sh
source ./lib.sh

packages_for() {
    # Plain strings: this much must also work in the old bash of macOS.
    local build="clang llvm libelf-dev zlib1g-dev pkg-config make gcc"
    local window="libegl1 libgl1 libgl1-mesa-dri libx11-xcb1 libxcursor1 libxi6"
    window="$window libxkbcommon-x11-0 libxrandr2"
    local python=""
    # A Python that brings its own venv needs no package.
    python3 -c 'import ensurepip, venv' 2>/dev/null || python="python3-venv"
    case $1 in
    build) echo "$build" ;;
    demo)
        # Without a display the demo draws to files, which takes no graphics libraries.
        [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] || window=""
        echo "$build $python $window"
        ;;
    test)
        # The tests of `record` build small programs, give capabilities to a file, and strip
        # libraries. Node.js comes with setup-builds.sh: that of Debian 12 is too old.
        echo "$build $python $window xvfb xdotool imagemagick x11-utils binutils bpftool libc6-dev libcap2-bin musl-tools mesa-vulkan-drivers libvulkan1"
        ;;
    peers)
        # BCC compiles against kernel headers; Debian's, where the running kernel has none.
        local headers=linux-headers-amd64
        [[ ! -e /lib/modules/$(uname -r)/build ]] || headers=""
        echo "bpftrace bpfcc-tools python3-bpfcc $headers"
        ;;
    ceilings) echo "$build sysbench jq" ;;
    browser)
        # To compare with what draws in one.
        local npm=""
        command -v npm >/dev/null || npm="nodejs npm"
        echo "$build $python $window chromium $npm"
        ;;
    esac
}

missing_of() {
    local installed
    # dpkg-query fails when it does not know one of the names, which is the point.
    # shellcheck disable=SC2016  # dpkg-query's own variables
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "installed $package" <<<"$installed" || echo "$package"
    done
}

install_packages() {
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0) log
    log=$(mktemp)
    if as_root "${apt[@]}" update >"$log" 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends \
            "$@" >>"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    grep '^E:' "$log" >&2 || tail -n 5 "$log" >&2
    rm -f "$log"
    echo "setup: apt-get could not install: $*" >&2
    return 1
}

main() {
    local wanted missing
    case ${1:-} in build | demo | test | peers | ceilings | browser) ;; *)
        echo "usage: setup.sh build|demo|test|peers|ceilings|browser" >&2
        exit 2
        ;;
    esac
    if ! command -v cargo >/dev/null; then
        echo "setup: cargo not found; install Rust from https://rustup.rs and try again" >&2
        exit 2
    fi
    read -ra wanted <<<"$(packages_for "$1")"
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "setup: not Debian or Ubuntu; install what corresponds to: ${wanted[*]}" >&2
        exit 3
    fi
    mapfile -t missing < <(missing_of "${wanted[@]}")
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    if ! can_be_root; then
        echo "setup: needs root to install: apt-get install ${missing[*]}" >&2
        exit 3
    fi
    echo "setup: installing ${missing[*]}"
    install_packages "${missing[@]}"
}

main "$@"
