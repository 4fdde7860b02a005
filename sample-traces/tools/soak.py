#!/usr/bin/env python3
"""Records a real llama.cpp at full level for long, and plots what the recorder takes.

Memory and CPU time of the recorder come from /proc once a second, as does the length of its file. Fails
when memory grows, from the end of its first tenth on, by more than 5 % an hour, or events are lost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT = 760, 130, 90, 20
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def sample(pid, trace):
    """CPU seconds, resident MB, MB of the file."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return (int(fields[11]) + int(fields[12])) / TICKS, resident / 1e6, trace.stat().st_size / 1e6


def slope(times, values):
    """Least squares: how much a second."""
    mean_time, mean_value = sum(times) / len(times), sum(values) / len(values)
    over = sum((t - mean_time) * (v - mean_value) for t, v in zip(times, values))
    return over / sum((t - mean_time) ** 2 for t in times)


def thinned(times, values, most=WIDTH):
    """Means of runs of samples, so that a picture of hours is as small as one of minutes."""
    step = max(1, len(times) // most)
    parts = [slice(at, at + step) for at in range(0, len(times), step)]
    mean = lambda part: sum(part) / len(part)
    return [(mean(times[part]), mean(values[part])) for part in parts]


def plot(times, series):
    """An SVG of curves below each other, over the same minutes. Readable on light and dark pages."""
    end, pieces = times[-1], []
    for index, (name, values) in enumerate(series):
        top = 30 + index * (HEIGHT + 50)
        most = max(values) * 1.1 or 1
        points = " ".join(
            f"{LEFT + t / end * WIDTH:.1f},{top + HEIGHT - v / most * HEIGHT:.1f}" for t, v in thinned(times, values)
        )
        pieces.append(f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{name}</text>')
        for part in (0, 0.5, 1):
            y = top + HEIGHT - part * HEIGHT
            pieces.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#8886"/>')
            label = f"{part * most:.3g}"
            pieces.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
        for part in range(7):
            x, minutes = LEFT + part / 6 * WIDTH, end / 60 * part / 6
            label = f"{minutes:.0f}" if end > 600 else f"{minutes:.1f}"
            pieces.append(f'<text x="{x}" y="{top + HEIGHT + 18}" text-anchor="middle">{label} min</text>')
        pieces.append(f'<polyline points="{points}" fill="none" stroke="#2d7fd3" stroke-width="1.5"/>')
    height = 30 + len(series) * (HEIGHT + 50)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#777">\n' + "\n".join(pieces) + "\n</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llmtrace", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--plot", type=Path, required=True, help="SVG to write")
    args = parser.parse_args()
    generate = Path(__file__).with_name("generate.py")
    folder = Path(tempfile.mkdtemp(prefix="llmtrace-soak-"))
    trace = folder / "soak.llmtrace"
    engine = subprocess.Popen(
        [sys.executable, generate, "--model", args.model, "--threads", "2", "--tokens", "128", "--repeat", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    engine.stdout.readline()  # it has generated once
    sink = subprocess.Popen(["cat"], stdin=engine.stdout, stdout=subprocess.DEVNULL)  # a full pipe would stop it
    recorder = subprocess.Popen(
        [args.llmtrace, "record", "-q", "--max-overhead", "100", "-p", str(engine.pid), "-o", trace]
    )
    try:
        while not trace.exists() or trace.stat().st_size < 20_000:
            if recorder.poll() is not None:
                sys.exit("soak: the recorder has ended")
            time.sleep(0.05)
        begin, samples = time.monotonic(), []
        while time.monotonic() - begin < args.minutes * 60:
            samples.append((time.monotonic() - begin, *sample(recorder.pid, trace)))
            time.sleep(1)
        recorder.send_signal(signal.SIGINT)
        ended = recorder.wait()
    finally:
        recorder.kill()
        engine.kill()
        sink.kill()
    info = json.loads(subprocess.run([args.llmtrace, "info", "--json", trace], capture_output=True, check=True).stdout)
    clean = subprocess.run([args.llmtrace, "check", trace], capture_output=True).returncode == 0
    trace.unlink()
    folder.rmdir()

    times, cpu, resident, size = (list(column) for column in zip(*samples))
    share = [0.0] + [
        (cpu[at] - cpu[at - 1]) / (times[at] - times[at - 1]) * 100 for at in range(1, len(times))
    ]
    args.plot.write_text(
        plot(times, [("recorder's memory, MB", resident), ("recorder's CPU, % of one", share), ("file, MB", size)])
    )
    settled = len(times) // 10
    hourly = slope(times[settled:], resident[settled:]) * 3600
    # Beyond the half, as fast as before: nothing in the file grows on its own.
    halves = [slope(times[part], size[part]) * 60 for part in (slice(settled, len(times) // 2), slice(len(times) // 2, None))]
    lost = info["ending"]["lost"]
    percent = hourly / (sum(resident[settled:]) / len(resident[settled:])) * 100
    print(
        f"soak: {times[-1] / 60:.1f} min, {info['ending']['events']} events, {lost} lost; memory {max(resident):.1f} MB at most, "
        f"{hourly:+.2f} MB an hour ({percent:+.1f} %); CPU {cpu[-1] / times[-1] * 100:.1f} %; file {size[-1]:.1f} MB, "
        f"{halves[0]:.2f} then {halves[1]:.2f} MB a minute; check {'clean' if clean else 'FAILED'}"
    )
    sys.exit(0 if ended == 0 and clean and percent < 5 and lost == 0 else 1)


if __name__ == "__main__":
    main()
