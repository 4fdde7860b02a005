#!/usr/bin/python3
"""The nodes that `llmtrace record --exact-begins` records, as BCC gets them.

Usage: nodes.py PID LIBRARY OUTPUT. Entry of the functions that begin nodes and of the barrier
that ends them, with time, thread and tensor; entry and return of the calls around them.
Records go through a ring buffer of 16 MiB and are written as they are.
"""

import ctypes
import signal
import sys

from bcc import BPF, lib

PROGRAM = """
#include <uapi/linux/ptrace.h>

struct event { u64 nanos; u64 pointer; u32 tid; u32 kind; };
BPF_RINGBUF_OUTPUT(events, 4096);

static int send(u32 kind, u64 pointer)
{
    struct event event = { bpf_ktime_get_ns(), pointer, (u32)bpf_get_current_pid_tgid(), kind };
    events.ringbuf_output(&event, sizeof(event), 0);
    return 0;
}

int at_op(struct pt_regs *ctx) { return send(1, PT_REGS_PARM2(ctx)); }
int at_fused_op(struct pt_regs *ctx) { return send(1, PT_REGS_PARM3(ctx)); }
int at_barrier(struct pt_regs *ctx) { return send(2, 0); }
int at_graph(struct pt_regs *ctx) { return send(3, PT_REGS_PARM1(ctx)); }
int at_graph_end(struct pt_regs *ctx) { return send(4, 0); }
int at_decode(struct pt_regs *ctx) { return send(5, 0); }
int at_decode_end(struct pt_regs *ctx) { return send(6, 0); }
"""


ENTRY, RETURN = 0, 1


def attach(bpf, kind, function, library, symbol, pid):
    """What BPF.attach_uprobe does, but with the last argument that BCC 0.26 forgets: in its place
    a random reference counter would collide with the probes of other tracers."""
    path, address = BPF._check_path_symbol(library.encode(), symbol.encode(), 0, pid)
    program = bpf.load_func(b"at_" + function.encode(), BPF.KPROBE).fd
    name = f"bench_{function}_{pid}".encode()
    if lib.bpf_attach_uprobe(program, kind, name, path, address, pid, 0) < 0:
        raise SystemExit(f"cannot attach to {symbol}")


def main():
    pid, library, output = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    bpf = BPF(text=PROGRAM)
    for function, symbol in (
        ("op", "ggml_cpu_extra_compute_forward"),
        ("fused_op", "ggml_compute_forward_rms_norm_mul_fused"),
        ("barrier", "ggml_barrier"),
        ("graph", "ggml_graph_compute"),
        ("decode", "llama_decode"),
    ):
        attach(bpf, ENTRY, function, library, symbol, pid)
    for function, symbol in (("graph_end", "ggml_graph_compute"), ("decode_end", "llama_decode")):
        attach(bpf, RETURN, function, library, symbol, pid)
    stopped = False

    def stop(*_):
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    with open(output, "wb") as file:

        def write(_, data, size):
            file.write(ctypes.string_at(data, size))
            # An exception would not get out of a callback; this ends the poll.
            return -1 if stopped else 0

        bpf["events"].open_ring_buffer(write)
        while not stopped:
            bpf.ring_buffer_poll(100)


if __name__ == "__main__":
    main()
