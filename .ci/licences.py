#!/usr/bin/env python3
"""Prints licence and licence texts of every crate that both programs link."""

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


def linked(metadata):
    """Ids of packages that are reached over normal edges from our programs."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    todo = [id for id in metadata["workspace_members"] if names[id] in ("llmtrace", "llmtrace-viewer")]
    found = set()
    while todo:
        id = todo.pop()
        if id in found:
            continue
        found.add(id)
        for edge in nodes[id]["deps"]:
            if any(kind["kind"] is None for kind in edge["dep_kinds"]):
                todo.append(edge["pkg"])
    return found - set(metadata["workspace_members"])


def main():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    used = linked(metadata)
    packages = sorted((p for p in metadata["packages"] if p["id"] in used), key=lambda p: (p["name"], p["version"]))
    print("llmtrace links these crates; their licence texts follow.\n")
    texts = {}
    for package in packages:
        print(f"{package['name']} {package['version']}: {package['license'] or 'see its text'}")
        folder = Path(package["manifest_path"]).parent
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.upper().startswith(NAMES):
                text = path.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, of in sorted(texts.items(), key=lambda item: item[1]):
        print(f"\n{'=' * 78}\n{', '.join(of)}\n{'-' * 78}\n{text}")
    return 0 if packages else 1


if __name__ == "__main__":
    sys.exit(main())
