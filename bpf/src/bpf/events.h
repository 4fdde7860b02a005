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
	EVENT_SEQUENCE_RUN = 12,
	EVENT_KV_OPERATION = 13,
	EVENT_CALL_BEGIN = 14,
	EVENT_CALL_END = 15,
	EVENT_DRAFT_ACCEPTED = 16,
	EVENT_TOKENS = 17,
	EVENT_EXPERTS = 18,	/* in the bulk channel */
	EVENT_SCHEDULER_BEGIN = 19,
	EVENT_SCHEDULER_END = 20,
	EVENT_BACKENDS = 21,
	EVENT_SPLIT_BEGIN = 22,
	EVENT_SPLIT_NODES = 23,
	EVENT_SPLIT_END = 24,
	EVENT_COPY_BEGIN = 25,
	EVENT_COPY_ENDS = 26,
	EVENT_COPY_NAME = 27,
	EVENT_COPY_END = 28,
	EVENT_WAIT_BEGIN = 29,
	EVENT_WAIT_END = 30,
	EVENT_COUNTERS = 31,
	EVENT_MORE_COUNTERS = 32,
	EVENT_OFF_CPU = 33,
	EVENT_ON_CPU = 34,
	EVENT_WOKEN = 35,
	EVENT_THREAD_ENDED = 36,
	EVENT_THREAD_NAME = 37,
	EVENT_FAULT = 38,
	EVENT_BLOCK_READ = 39,
	EVENT_KINDS = 40,
};

/*
 * What a probe knows from where it was attached. Low bits: below; bits 8 to 15:
 * the recorder's number of the process; bits 16 to 23: enum kv_kind, call_kind
 * or copy_call; bits 32 to 63: the process' id, 0 when that is
 * not known in the initial namespace. Twins in recorder's plan.rs and kernel.rs.
 */
enum cookie {
	COOKIE_ENCODE = 1,	/* the call is an encode */
	COOKIE_BATCH = 2,	/* second argument is a struct llama_batch */
	COOKIE_UBATCH_OLD = 4,	/* no n_seqs_unq behind n_seqs */
	COOKIE_BATCH_ON_STACK = 8,	/* a struct llama_batch is passed by value */
	COOKIE_TOKENS = 16,	/* ids of tokens are wanted */
	COOKIE_SEQUENCE = 32,	/* the fourth argument is a sequence */
	COOKIE_UBATCH_EXT = 64,	/* probably an ubatch of a build with llama_batch_ext */
};

/* What an operation on the KV cache does; as llmtrace_format::inference::KvOperation. */
enum kv_kind {
	KV_REMOVE = 1,
	KV_COPY = 2,
	KV_KEEP = 3,
	KV_ADD = 4,
	KV_DIVIDE = 5,
	KV_CLEAR = 6,
};

/* Calls that are timed; as llmtrace_format::inference::CallKind, where the rest is. */
enum call_kind {
	CALL_SAMPLE = 1,
	CALL_STATE_SAVE = 7,
	CALL_STATE_LOAD = 8,
};

/* Where the arguments of a function that copies are; as recorder's offload.rs. */
enum copy_call {
	COPY_TENSOR = 1,	/* source, target */
	COPY_TENSOR_ASYNC = 2,	/* backend, backend, source, target */
	COPY_SET = 3,		/* target, data, offset, size */
	COPY_SET_ASYNC = 4,	/* backend, target, data, offset, size */
	COPY_GET = 5,		/* source, data, offset, size */
	COPY_GET_ASYNC = 6,	/* backend, source, data, offset, size */
	COPY_BY_BACKEND = 7,	/* as 2; returns whether it did */
	COPY_TIMES = 16,	/* flag: the argument behind the size is how often */
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

#define OUTPUTS_UNKNOWN 0xffffff

/* Tokens of an ubatch that follow each other in one sequence. Comes behind the
 * begin of the ubatch, on the same thread. */
struct event_sequence_run {
	struct event_head head;
	__s32 sequence;		/* -1 when nothing is known of the tokens */
	__s32 position;		/* of the first token */
	__u32 tokens;
	__u32 outputs_further;	/* tokens with an output, OUTPUTS_UNKNOWN for unknown; in the
				 * upper 8 bits how many more sequences they belong to */
};

#define SMALL_UNKNOWN (-(1 << 21))

struct event_kv_operation {
	struct event_head head;
	__u32 memory_kind;	/* low bits of the address; in the lowest 4 enum kv_kind */
	__s32 begin;		/* positions; below 0: from the first, to the last */
	__s32 end;
	__u32 sequence_value;	/* the sequence in the upper 10 bits, -512 when it does not
				 * fit, and what is added, divided by or copied to, SMALL_UNKNOWN
				 * when that does not; both signed */
};

struct event_call_begin {
	struct event_head head;
	__u64 context;		/* struct llama_context *, or what else comes first */
	__s32 argument;
	__u32 kind;		/* enum call_kind */
};

struct event_call_end {
	struct event_head head;
	__s64 result;
	__u32 kind;
	__u32 pad;
};

/* How many tokens of a draft the target model agreed with. */
struct event_draft_accepted {
	struct event_head head;
	__s32 sequence;
	__u32 accepted;
	__u64 pad;
};

/* Ids of three tokens of an ubatch; only when they were asked for. */
struct event_tokens {
	struct event_head head;
	__u32 index;		/* of the first, in the ubatch */
	__s32 ids[3];		/* -1 behind the last */
};

/* ggml_backend_sched_graph_compute_async */
struct event_scheduler_begin {
	struct event_head head;
	__u64 scheduler;	/* struct ggml_backend_sched * */
	__u64 nodes;		/* cgraph->nodes */
};

struct event_scheduler_end {
	struct event_head head;
	__u64 pad[2];
};

/* A scheduler is made. */
struct event_backends {
	struct event_head head;
	__u64 backends;		/* ggml_backend_t * */
	__u32 count;
	__u32 pad;
};

/* A backend's graph_compute. */
struct event_split_begin {
	struct event_head head;
	__u64 backend;		/* ggml_backend_t */
	__u64 graph;		/* struct ggml_cgraph * */
};

/* Comes behind the begin of the split, on the same thread. */
struct event_split_nodes {
	struct event_head head;
	__u64 nodes_count;	/* cgraph->nodes; in the upper 16 bits how many, 0xffff for that many or more */
	__u64 uid;		/* cgraph->uid, garbage in builds without it */
};

struct event_split_end {
	struct event_head head;
	__u64 pad[2];
};

struct event_copy_begin {
	struct event_head head;
	__u64 bytes;
	__u32 call;		/* enum copy_call, without flags */
	__u32 pad;
};

/* Comes behind the begin of the copy, on the same thread, as the name does. */
struct event_copy_ends {
	struct event_head head;
	__u64 source;		/* struct ggml_backend_buffer *, 0 for the program's own memory */
	__u64 target;
};

/* Sixteen bytes of the name of the tensor; the next ones, if any, come in a next record. */
struct event_copy_name {
	struct event_head head;
	__u8 name[16];
};

struct event_copy_end {
	struct event_head head;
	__u32 done;		/* what a function returned that says so, else 1 */
	__u32 pad;
	__u64 pad2;
};

/* A backend's synchronize. */
struct event_wait_begin {
	struct event_head head;
	__u64 backend;		/* ggml_backend_t */
	__u64 pad;
};

struct event_wait_end {
	struct event_head head;
	__u64 pad[2];
};

#define COUNTERS 8	/* most counters */

/* What is counted; twin in recorder's counters. */
enum counter_kind {
	COUNTER_EVENT = 0,	/* an event of perf */
	COUNTER_PAGE_FAULTS = 1,
	COUNTER_MINOR_FAULTS = 2,
	COUNTER_MAJOR_FAULTS = 3,
	COUNTER_CONTEXT_SWITCHES = 4,
	COUNTER_VOLUNTARY_SWITCHES = 5,
	COUNTER_INVOLUNTARY_SWITCHES = 6,
	COUNTER_MIGRATIONS = 7,
	COUNTER_TASK_CLOCK = 8,
};

#define COUNT_UNKNOWN 0xffffffff
#define COUNT_SHIFTED 0x80000000	/* times 2^COUNT_SHIFT */
#define COUNT_SCALED 0x40000000		/* the event shared its place with others */
#define COUNT_SHIFT 12

/* What was counted up to the barrier event of the same thread and time that follows; in
 * the lower 30 bits. */
struct event_counters {
	struct event_head head;
	__u32 counts[4];
};

/* The same of counters 4 to 7; comes behind. */
struct event_more_counters {
	struct event_head head;
	__u32 counts[4];
};

/* Records of machine.bpf.h. `tid` is the target's thread that they tell of, whoever runs. */
enum off_cpu {
	OFF_CPU_RUNNABLE = 1,	/* it was preempted, and could go on */
	OFF_CPU_UNINTERRUPTIBLE = 2,
	OFF_CPU_EXCEPTION = 4,	/* in an exception of the program, such as a page fault, not a system call */
	OFF_CPU_ENDED = 8,
};

struct event_off_cpu {
	struct event_head head;
	__u32 flags;		/* enum off_cpu */
	__u32 next_tid;		/* who runs in its place; 0 for nobody */
	__u32 next_pid;
	__u32 pad;
};

struct event_on_cpu {
	struct event_head head;
	__u64 pad[2];
};

struct event_woken {
	struct event_head head;
	__u32 waker_tid;	/* 0: not a thread, but an interrupt that came upon one */
	__u32 waker_pid;
	__u64 pad;
};

struct event_thread_ended {
	struct event_head head;
	__u64 minor;		/* faults in its life */
	__u64 major;
};

/* Comes behind an off_cpu: the name of who runs in its place. */
struct event_thread_name {
	struct event_head head;
	__u8 name[16];
};

struct event_fault {
	struct event_head head;
	__u64 address;		/* rounded down to a page */
	__u32 minor;		/* faults of the thread before, without this one, lower 32 bits */
	__u32 major;
};

struct event_block_read {
	struct event_head head;	/* when it was done; the thread that asked */
	__u32 micros;		/* since it was asked for */
	__u32 bytes;
	__u32 device;		/* dev_t of the kernel */
	__u32 pad;
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
