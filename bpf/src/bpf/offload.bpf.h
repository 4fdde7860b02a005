/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The scheduler and its backends: splits, copies, waits. A few dozen hits a token.
 */
#ifndef LLMTRACE_OFFLOAD_BPF_H
#define LLMTRACE_OFFLOAD_BPF_H

#include "common.bpf.h"

/* Of struct ggml_tensor; the recorder attaches no copy to builds with another one. */
#define TENSOR_BUFFER 8
#define TENSOR_NE 16
#define TENSOR_NB 48
#define TENSOR_VIEW_SRC 232
#define TENSOR_NAME 256
#define NAME_PIECE 16

/* ggml_backend_sched_graph_compute_async(sched, struct ggml_cgraph *) */
SEC("uprobe.multi")
int scheduler_begin(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_scheduler_begin, EVENT_SCHEDULER_BEGIN,
		event->scheduler = PT_REGS_PARM1(ctx);
		event->nodes = READ_USER(__u64, PT_REGS_PARM2(ctx) + 16);
	);
	return 0;
}

SEC("uretprobe.multi")
int scheduler_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_scheduler_end, EVENT_SCHEDULER_END, );
	return 0;
}

/* ggml_backend_sched_new(ggml_backend_t *, ggml_backend_buffer_type_t *, int, ...) */
SEC("uprobe.multi")
int backends_told(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_backends, EVENT_BACKENDS,
		event->backends = PT_REGS_PARM1(ctx);
		event->count = PT_REGS_PARM3(ctx);
	);
	return 0;
}

/* backend->iface.graph_compute(ggml_backend_t, struct ggml_cgraph *, ...) */
SEC("uprobe.multi")
int split_begin(struct pt_regs *ctx)
{
	__u64 graph = PT_REGS_PARM2(ctx);

	BEGIN;
	EMIT(event_split_begin, EVENT_SPLIT_BEGIN,
		event->backend = PT_REGS_PARM1(ctx);
		event->graph = graph;
	);
	EMIT(event_split_nodes, EVENT_SPLIT_NODES,
		__u64 count = READ_USER(__u32, graph + 4);

		event->nodes_count = READ_USER(__u64, graph + 16) | (count < 0xffff ? count : 0xffff) << 48;
		event->uid = READ_USER(__u64, graph + 88);
	);
	return 0;
}

SEC("uretprobe.multi")
int split_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_split_end, EVENT_SPLIT_END, );
	return 0;
}

/* backend->iface.synchronize(ggml_backend_t) */
SEC("uprobe.multi")
int wait_begin(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_wait_begin, EVENT_WAIT_BEGIN,
		event->backend = PT_REGS_PARM1(ctx);
	);
	return 0;
}

SEC("uretprobe.multi")
int wait_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_wait_end, EVENT_WAIT_END, );
	return 0;
}

/* Where a tensor's content lies. That of a view is in the memory of what it views. */
static __always_inline __u64 buffer_of(__u64 tensor)
{
	__u64 viewed = READ_USER(__u64, tensor + TENSOR_VIEW_SRC);

	return READ_USER(__u64, (viewed ?: tensor) + TENSOR_BUFFER);
}

/* Bytes from a tensor's first element to behind its last: of one without gaps the
 * largest of its dimensions' extents. */
static __always_inline __u64 bytes_of(__u64 tensor)
{
	__u64 shape[8] = {};	/* ne, nb */
	__u64 bytes = 0;

	if (bpf_probe_read_user(shape, sizeof(shape), (const void *)(tensor + TENSOR_NE)))
		return 0;
	for (int i = 0; i < 4; i++) {
		__u64 extent = shape[i] * shape[4 + i];

		/* Where elements come in blocks, which are longer than any element, the
		 * first dimension has other units than its stride. */
		if (i == 0 && shape[4] > 8 && shape[4] <= shape[5])
			continue;
		if (extent > bytes)
			bytes = extent;
	}
	return bytes;
}

SEC("uprobe.multi")
int copy_begin(struct pt_regs *ctx)
{
	__u64 call = bpf_get_attach_cookie(ctx) >> 16 & 15;
	/* Read here, each by itself: the verifier does not follow a choice between them. */
	__u64 arg1 = PT_REGS_PARM1(ctx), arg2 = PT_REGS_PARM2(ctx), arg3 = PT_REGS_PARM3(ctx);
	__u64 arg4 = PT_REGS_PARM4(ctx), arg5 = PT_REGS_PARM5(ctx), arg6 = PT_REGS_PARM6(ctx);
	__u64 from = 0, to = 0, named, bytes = 0;
	__u8 more = 0;

	barrier_var(arg1);
	barrier_var(arg2);
	barrier_var(arg3);
	barrier_var(arg4);
	barrier_var(arg5);
	barrier_var(arg6);
	BEGIN;
	switch (call) {
	case COPY_TENSOR:
		from = arg1;
		to = arg2;
		break;
	case COPY_TENSOR_ASYNC:
	case COPY_BY_BACKEND:
		from = arg3;
		to = arg4;
		break;
	case COPY_SET:
		to = arg1;
		break;
	case COPY_SET_ASYNC:
		to = arg2;
		break;
	case COPY_GET:
		from = arg1;
		break;
	case COPY_GET_ASYNC:
		from = arg2;
		break;
	}
	if (from && to) {
		bytes = bytes_of(from);
	} else if (call == COPY_SET || call == COPY_GET) {
		bytes = arg4;
		if (cookie >> 16 & COPY_TIMES)
			bytes *= arg5;
	} else {
		bytes = arg5;
		if (cookie >> 16 & COPY_TIMES)
			bytes *= arg6;
	}
	named = from ?: to;
	EMIT(event_copy_begin, EVENT_COPY_BEGIN,
		event->bytes = bytes;
		event->call = call;
	);
	EMIT(event_copy_ends, EVENT_COPY_ENDS,
		event->source = from ? buffer_of(from) : 0;
		event->target = to ? buffer_of(to) : 0;
	);
	EMIT(event_copy_name, EVENT_COPY_NAME,
		bpf_probe_read_user(event->name, NAME_PIECE, (const void *)(named + TENSOR_NAME));
		more = event->name[NAME_PIECE - 1];
	);
	if (more)
		EMIT(event_copy_name, EVENT_COPY_NAME,
			bpf_probe_read_user(event->name, NAME_PIECE,
					    (const void *)(named + TENSOR_NAME + NAME_PIECE));
		);
	return 0;
}

SEC("uretprobe.multi")
int copy_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_copy_end, EVENT_COPY_END,
		/* A bool is in the lowest byte only. */
		event->done = (cookie >> 16 & 15) == COPY_BY_BACKEND ? (__u8)PT_REGS_RC(ctx) : 1;
	);
	return 0;
}

/* As in llmtrace.bpf.c. */
struct offload_event_types {
	struct event_scheduler_begin scheduler_begin;
	struct event_scheduler_end scheduler_end;
	struct event_backends backends;
	struct event_split_begin split_begin;
	struct event_split_nodes split_nodes;
	struct event_split_end split_end;
	struct event_copy_begin copy_begin;
	struct event_copy_ends copy_ends;
	struct event_copy_name copy_name;
	struct event_copy_end copy_end;
	struct event_wait_begin wait_begin;
	struct event_wait_end wait_end;
} offload_event_types SEC(".bss.types");

#endif
