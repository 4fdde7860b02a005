#!/usr/bin/env python3
"""Pages a mapped file out of every process that maps it, and out of the page cache.

What reads it next waits for the disk. Needs root; Linux 5.10 or later on x86-64.
"""

import argparse
import ctypes
import os
import re
from pathlib import Path

PIDFD_OPEN, PROCESS_MADVISE = 434, 440
MADV_PAGEOUT = 21
PIECE = 1 << 20
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.*)")


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def mappings(pid, file):
    """Where a process maps a file."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        found = LINE.match(line)
        if found and found[3] == str(file):
            yield int(found[1], 16), int(found[2], 16)


def page_out(libc, pid, begin, end):
    """Asks the kernel to take the pages of a range; how many bytes it took advice on."""
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), f"cannot open process {pid}")
    done = 0
    for base in range(begin, end, PIECE):
        piece = Piece(base, min(PIECE, end - base))
        advised = libc.syscall(PROCESS_MADVISE, pidfd, ctypes.byref(piece), 1, MADV_PAGEOUT, 0)
        if advised < 0:
            raise OSError(ctypes.get_errno(), f"cannot page out of process {pid}")
        done += advised
    os.close(pidfd)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file.resolve()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            for begin, end in mappings(entry.name, file):
                total += page_out(libc, int(entry.name), begin, end)
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    print(f"page_out: {total >> 20} MiB were mapped")


if __name__ == "__main__":
    main()
