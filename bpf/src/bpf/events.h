/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/* The contract between the BPF programs and the recorder: fixed-width
 * integers, explicit padding, no pointers. The Rust side takes these types
 * from the compiled object (see abi.rs), never from a copy. */
#ifndef LLMTRACE_EVENTS_H
#define LLMTRACE_EVENTS_H

/* Also the order of llmtrace_format::tables::EVENT_KINDS; a test compares. */
enum event_kind {
	EVENT_NONE = 0,
	EVENT_DECODE_BEGIN = 1,
	EVENT_DECODE_END = 2,
	EVENT_UBATCH_BEGIN = 3,
	EVENT_UBATCH_END = 4,
	EVENT_GRAPH_BEGIN = 5,
	EVENT_GRAPH_END = 6,
	EVENT_OP_BEGIN = 7,
	EVENT_FUSED_BEGIN = 8,
	EVENT_BARRIER = 9,
	EVENT_KINDS = 10,
};

/* Cookie bits of the decode and ubatch probes; twins in recorder's plan.rs. */
enum cookie {
	COOKIE_ENCODE = 1,	/* the call is an encode */
	COOKIE_BATCH = 2,	/* second argument is a struct llama_batch */
	COOKIE_UBATCH_OLD = 4,	/* no n_seqs_unq behind n_seqs */
	COOKIE_BATCH_ON_STACK = 8,	/* a struct llama_batch is passed by value */
};

struct event_head {
	__u64 time;		/* bpf_ktime_get_ns */
	__u32 tid;
	__u16 kind;		/* enum event_kind */
	__u16 cpu;
};

struct event_decode_begin {
	struct event_head head;
	__u32 tokens;		/* 0 when the batch type does not tell */
	__u32 is_encode;
};

struct event_decode_end {
	struct event_head head;
	__s32 result;
	__u32 pad;
};

struct event_ubatch_begin {
	struct event_head head;
	__u32 tokens;
	__u32 sequences;	/* distinct ones where the build tells, else n_seqs */
};

struct event_ubatch_end {
	struct event_head head;
};

struct event_graph_begin {
	struct event_head head;
	__u64 graph;		/* struct ggml_cgraph * */
	__u64 nodes;		/* cgraph->nodes */
	__u64 uid;		/* cgraph->uid, garbage in builds without it */
	__u32 node_count;
	__u32 threads;
};

struct event_graph_end {
	struct event_head head;
};

struct event_op_begin {
	struct event_head head;
	__u64 tensor;		/* struct ggml_tensor * */
	__u32 ith;
	__u32 pad;
};

struct event_fused_begin {
	struct event_head head;
	__u64 tensor;		/* the first node */
	__u64 last_tensor;	/* the last node fused into it */
	__u32 ith;
	__u32 pad;
};

struct event_barrier {
	struct event_head head;
};

#endif
