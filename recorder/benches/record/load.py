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
NODE_BYTES = 512  # more than a tensor and its place in a graph take


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


def load_ggml():
    """The library, its functions declared."""
    folder = Path(xllamacpp.__file__).parent
    ggml = ctypes.CDLL(str(next(folder.glob("xllamacpp*.so"))))
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    for name, result, *arguments in (
        ("ggml_init", pointer, InitParams),
        ("ggml_new_tensor_1d", pointer, pointer, integer, ctypes.c_int64),
        ("ggml_add", pointer, pointer, pointer, pointer),
        ("ggml_new_graph_custom", pointer, pointer, size, ctypes.c_bool),
        ("ggml_build_forward_expand", None, pointer, pointer),
        ("ggml_threadpool_params_init", None, ctypes.POINTER(ThreadpoolParams), integer),
        ("ggml_threadpool_new", pointer, ctypes.POINTER(ThreadpoolParams)),
        ("ggml_backend_cpu_init", pointer),
        ("ggml_backend_cpu_set_n_threads", None, pointer, integer),
        ("ggml_backend_cpu_set_threadpool", None, pointer, pointer),
        ("ggml_set_input", None, pointer),
        (
            "ggml_backend_sched_new",
            pointer,
            ctypes.POINTER(pointer),
            pointer,
            integer,
            size,
            ctypes.c_bool,
            ctypes.c_bool,
        ),
        ("ggml_backend_sched_alloc_graph", ctypes.c_bool, pointer, pointer),
        ("ggml_backend_sched_graph_compute", integer, pointer, pointer),
    ):
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


def chain(ggml, nodes):
    """A graph of `nodes` nodes, each of which doubles the one number of the one before."""
    context = ggml.ggml_init(InitParams((nodes + 8) * NODE_BYTES + (1 << 20), None, True))
    tensor = ggml.ggml_new_tensor_1d(context, F32, 1)
    ggml.ggml_set_input(tensor)
    for _ in range(nodes):
        tensor = ggml.ggml_add(context, tensor, tensor)
    graph = ggml.ggml_new_graph_custom(context, nodes + 1, False)
    ggml.ggml_build_forward_expand(graph, tensor)
    return graph


def scheduler(ggml, threads, poll, graph, nodes):
    """ggml's scheduler over the CPU, as engines use it, with `graph` allocated in it."""
    params = ThreadpoolParams()
    ggml.ggml_threadpool_params_init(ctypes.byref(params), threads)
    if not poll:
        params.poll = 0
    backend = ggml.ggml_backend_cpu_init()
    ggml.ggml_backend_cpu_set_n_threads(backend, threads)
    ggml.ggml_backend_cpu_set_threadpool(backend, ggml.ggml_threadpool_new(ctypes.byref(params)))
    backends = (ctypes.c_void_p * 1)(backend)
    sched = ggml.ggml_backend_sched_new(backends, None, 1, 2 * nodes + 8, False, False)
    if not ggml.ggml_backend_sched_alloc_graph(sched, graph):
        raise SystemExit("load: ggml could not allocate the graph")
    return sched


def run(compute, rate):
    """Computes until killed; `rate` graphs a second, 0 for as many as can be."""
    begin = time.monotonic()
    told, told_at, done = 0, begin, 0
    while True:
        if compute() != 0:
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
    sched = scheduler(ggml, args.threads, args.rate == 0, graph, args.nodes)
    run(lambda: ggml.ggml_backend_sched_graph_compute(sched, graph), args.rate)


if __name__ == "__main__":
    main()
