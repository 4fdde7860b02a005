#!/usr/bin/env bash
# Builds the packages from the binaries that tests use, installs, runs and removes them.
# usage: .ci/deb-test.sh [--prepare]: prints why that cannot be done, and fails, if so.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/lib.sh
source .ci/lib.sh

packages=(llmtrace llmtrace-viewer)
installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

for package in "${packages[@]}"; do
    if installed "$package"; then
        echo "$package is installed; a test would replace it"
        exit 1
    fi
done
if ! can_be_root; then
    echo "installing needs root, and sudo cannot ask for a password here"
    exit 1
fi
.ci/deb.sh --prepare
[[ ${1:-} != --prepare ]] || exit 0

folder=$(mktemp -d)
chmod 755 "$folder" # for apt, which reads as somebody else
remove() {
    local package
    for package in "${packages[@]}"; do
        # shellcheck disable=SC2310
        if installed "$package"; then as_root dpkg --purge "$package" >/dev/null || true; fi
    done
    rm -rf "$folder"
}
trap remove EXIT
fail() {
    echo "FAILED packages: $1"
    exit 1
}

.ci/deb.sh --debug "$folder"
# With what they need, which a machine without a desktop may lack.
as_root apt-get install -qq -y --no-install-recommends "$folder"/*.deb >"$folder/log" 2>&1 || {
    cat "$folder/log"
    fail "they cannot be installed"
}
for file in bin/llmtrace bin/llmtrace-viewer share/applications/llmtrace-viewer.desktop \
    share/mime/packages/llmtrace.xml share/icons/hicolor/scalable/apps/llmtrace-viewer.svg \
    share/icons/hicolor/48x48/apps/llmtrace-viewer.png share/doc/llmtrace/copyright; do
    [[ -f /usr/$file ]] || fail "no /usr/$file"
done
if command -v desktop-file-validate >/dev/null; then
    desktop-file-validate /usr/share/applications/llmtrace-viewer.desktop || fail "the desktop file is wrong"
fi
sample=/usr/share/llmtrace/samples/gemma3-270m-2t.llmtrace
# What the system calls the file, by its name and, under another name, by its first bytes.
if command -v update-mime-database >/dev/null && command -v xdg-mime >/dev/null; then
    kind=$(XDG_UTILS_DEBUG_LEVEL=0 xdg-mime query filetype "$sample" 2>/dev/null || true)
    [[ -z $kind || $kind == application/x-llmtrace ]] || fail "$sample is $kind"
fi
cd "$folder" # nothing of the repository is found beside the programs
/usr/bin/llmtrace summary "$sample" | grep -q decode || fail "llmtrace does not read a sample"
/usr/bin/llmtrace report "$sample" -o "$folder/report.html" >>log || fail "llmtrace writes no report"
/usr/bin/llmtrace-viewer "$sample" --screenshot "$folder/picture.png" || fail "llmtrace-viewer draws nothing"
cd - >/dev/null
viewer/tests/xvfb.sh /usr/bin/llmtrace-viewer "$sample"
as_root dpkg --purge "${packages[@]}" >/dev/null || fail "dpkg does not remove them"
for file in bin/llmtrace bin/llmtrace-viewer share/llmtrace share/applications/llmtrace-viewer.desktop; do
    [[ ! -e /usr/$file ]] || fail "/usr/$file is left"
done
echo "PASSED packages: installed, run and removed"
