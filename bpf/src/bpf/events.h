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
	EVENT_GRAPH_NODES = 10,
	EVENT_PROCESS = 11,
	EVENT_EXPERTS = 12,	/* in the bulk channel */
	EVENT_KINDS = 13,
};

/*
 * What a probe knows from where it was attached. Low bits: below; bits 8 to 15:
 * the recorder's number of the process; bits 32 to 63: its id, 0 when that is
 * not known in the initial namespace. Twins in recorder's plan.rs and kernel.rs.
 */
enum cookie {
	COOKIE_ENCODE = 1,	/* the call is an encode */
	COOKIE_BATCH = 2,	/* second argument is a struct llama_batch */
	COOKIE_UBATCH_OLD = 4,	/* no n_seqs_unq behind n_seqs */
	COOKIE_BATCH_ON_STACK = 8,	/* a struct llama_batch is passed by value */
};

/* Every record fits into a slot of 32 bytes. `time` is written last: a slot in
 * which it is 0 holds no record yet. */
struct event_head {
	__u64 time;		/* bpf_ktime_get_ns */
	__u32 tid;
	__u8 kind;		/* enum event_kind */
	__u8 process;		/* the recorder's number of it */
	__u16 cpu;
};

struct event_decode_begin {
	struct event_head head;
	__u64 context;		/* struct llama_context * */
	__u32 tokens;		/* 0 when the batch type does not tell */
	__u32 is_encode;
};

struct event_decode_end {
	struct event_head head;
	__s32 result;
	__u32 pad[3];
};

struct event_ubatch_begin {
	struct event_head head;
	__u32 tokens;
	__u32 sequences;	/* distinct ones where the build tells, else n_seqs */
	__u64 pad;
};

struct event_ubatch_end {
	struct event_head head;
	__u64 pad[2];
};

/* Comes just before the begin of the graph, on the same thread. */
struct event_graph_nodes {
	struct event_head head;
	__u64 nodes;		/* cgraph->nodes */
	__u32 node_count;
	__u32 threads;
};

struct event_graph_begin {
	struct event_head head;
	__u64 graph;		/* struct ggml_cgraph * */
	__u64 uid;		/* cgraph->uid, garbage in builds without it */
};

struct event_graph_end {
	struct event_head head;
	__u64 pad[2];
};

struct event_op_begin {
	struct event_head head;
	__u64 tensor;		/* struct ggml_tensor * */
	__u32 ith;
	__u32 pad;
};

struct event_fused_begin {
	struct event_head head;
	__u64 tensor_ith;	/* the first node; `ith` in the upper 16 bits */
	__u64 last_tensor;	/* the last node fused into it */
};

struct event_barrier {
	struct event_head head;
	__u64 pad[2];
};

/* A recorded process started another one, or became another program. */
struct event_process {
	struct event_head head;	/* tid: the thread that did it */
	__u32 pid;
	__u32 parent;		/* equal to pid after an exec */
	__u64 pad;
};

/*
 * Records of the bulk channel: of variable length, for arrays. What does not fit
 * into one comes in several, each of which says where in the array it lies.
 */
struct bulk_head {
	__u64 time;		/* bpf_ktime_get_ns; the same in all pieces */
	__u32 tid;
	__u8 kind;		/* enum event_kind */
	__u8 process;		/* the recorder's number of it */
	__u16 cpu;
	__u32 length;		/* of the record, in bytes, this included; what follows is unset */
	__u32 flags;		/* enum bulk_flag */
};

enum bulk_flag {
	BULK_PARTIAL = 1,	/* some of the array could not be read, or was cut off */
};

#define EXPERTS_SMALL 64	/* values of a small record */
#define EXPERTS_LARGE 2048	/* values of a large record */

/* Which experts tokens of one MUL_MAT_ID were sent to; behind it come the values. */
struct bulk_experts {
	struct bulk_head head;
	__u64 node;		/* struct ggml_tensor * whose computing began */
	__u64 ids;		/* struct ggml_tensor * of the selection */
	__u32 used;		/* experts of each token */
	__u32 tokens;		/* tokens of the whole selection */
	__u32 first;		/* the token that this record begins with */
	__u32 count;		/* tokens in it */
	__u32 ranks;		/* experts of each token that are in it */
	__u32 what;		/* enum experts_what */
};

enum experts_what {
	EXPERTS_IDS = 0,	/* values are __s32 */
	EXPERTS_WEIGHTS = 1,	/* values are float */
};

/* The ring of one CPU: what the kernel side writes, then what it only reads. */
struct shard {
	__u64 head;		/* records claimed so far */
	__u64 last_ith;		/* see read_ith */
	__u64 pad[6];
	__u64 tail;		/* records taken so far; the recorder writes it */
	__u64 pad_tail[7];
	__u64 lost[64];		/* events that found no room, by kind */
};

#endif
