#!/usr/bin/env bash
# Draws the PNGs of the icon from its SVG, after a change of it. Wants rsvg-convert (librsvg2-bin).
set -euo pipefail
cd "$(dirname "$0")/../viewer/desktop"
for size in 16 32 48 64 128 256; do
    mkdir -p "icons/$size"
    rsvg-convert --width "$size" --height "$size" llmtrace-viewer.svg --output "icons/$size/llmtrace-viewer.png"
done
