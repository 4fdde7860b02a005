#!/usr/bin/env python3
"""A real ggml that computes one graph of the smallest possible nodes, over and over.

This loads the recorder, not the engine: a node adds two numbers, so that nearly all that the
threads do is to begin nodes and to meet at barriers. With a rate, graphs start on a
fixed schedule. ggml comes from the library inside xllamacpp. Each second, one line of JSON
on stdout tells how many graphs were computed.
"""

import argparse
import ctypes
import json
import time
from pathlib import Path

import xllamacpp

F32 = 0
TENSOR_BYTES = 512  # of memory for each node: the tensor, its data and its bookkeeping


class InitParams(ctypes.Structure):
    """struct ggml_init_params"""

    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


class ThreadpoolParams(ctypes.Structure):
    """struct ggml_threadpool_params; workers that do not poll sleep between graphs"""

    _fields_ = [
        ("cpumask", ctypes.c_bool * 512),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


class Plan(ctypes.Structure):
    """struct ggml_cplan, with room for fields that later versions add"""

    _fields_ = [
        ("work_size", ctypes.c_size_t),
        ("work_data", ctypes.c_void_p),
        ("rest", ctypes.c_uint8 * 128),
    ]


def load_ggml():
    """The library, its functions declared."""
    folder = Path(xllamacpp.__file__).parent
    ggml = ctypes.CDLL(str(next(folder.glob("xllamacpp*.so"))))
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    for name, result, *arguments in (
        ("ggml_init", pointer, InitParams),
        ("ggml_new_tensor_1d", pointer, pointer, integer, ctypes.c_int64),
        ("ggml_set_zero", pointer, pointer),
        ("ggml_add", pointer, pointer, pointer, pointer),
        ("ggml_new_graph_custom", pointer, pointer, size, ctypes.c_bool),
        ("ggml_build_forward_expand", None, pointer, pointer),
        ("ggml_threadpool_params_init", None, ctypes.POINTER(ThreadpoolParams), integer),
        ("ggml_threadpool_new", pointer, ctypes.POINTER(ThreadpoolParams)),
        ("ggml_graph_plan", Plan, pointer, integer, pointer),
        ("ggml_graph_compute", integer, pointer, ctypes.POINTER(Plan)),
    ):
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


def chain(ggml, nodes):
    """A graph of `nodes` nodes, each of which doubles the one number of the one before."""
    memory = (nodes + 8) * TENSOR_BYTES + 64 * nodes + (1 << 20)
    context = ggml.ggml_init(InitParams(memory, None, False))
    tensor = ggml.ggml_set_zero(ggml.ggml_new_tensor_1d(context, F32, 1))
    for _ in range(nodes):
        tensor = ggml.ggml_add(context, tensor, tensor)
    graph = ggml.ggml_new_graph_custom(context, nodes + 1, False)
    ggml.ggml_build_forward_expand(graph, tensor)
    return graph


def run(ggml, graph, plan, rate):
    """Computes until killed; `rate` graphs a second, 0 for as many as can be."""
    begin = time.monotonic()
    told, told_at, done = 0, begin, 0
    while True:
        if ggml.ggml_graph_compute(graph, ctypes.byref(plan)) != 0:
            raise SystemExit("load: ggml could not compute the graph")
        done += 1
        now = time.monotonic()
        if now - told_at >= 1:
            row = {"graphs": done - told, "secs": round(now - told_at, 4)}
            print(json.dumps(row), flush=True)
            told, told_at = done, now
        if rate:
            time.sleep(max(0, begin + done / rate - now))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--nodes", type=int, default=1000, metavar="N", help="of the graph")
    parser.add_argument("--rate", type=float, default=0, metavar="N", help="graphs a second")
    args = parser.parse_args()
    ggml = load_ggml()
    graph = chain(ggml, args.nodes)
    params = ThreadpoolParams()
    ggml.ggml_threadpool_params_init(ctypes.byref(params), args.threads)
    if args.rate:
        params.poll = 0
    pool = ggml.ggml_threadpool_new(ctypes.byref(params))
    plan = ggml.ggml_graph_plan(graph, args.threads, pool)
    work = ctypes.create_string_buffer(max(1, plan.work_size))
    plan.work_data = ctypes.cast(work, ctypes.c_void_p)
    run(ggml, graph, plan, args.rate)


if __name__ == "__main__":
    main()
