/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Which experts each token is sent to. The thread whose `ith` is 0 reads the
 * selection when a node that uses it begins: by then it is there, and the
 * memory is not yet used for something else.
 */
#ifndef LLMTRACE_EXPERTS_BPF_H
#define LLMTRACE_EXPERTS_BPF_H

#include "bulk.bpf.h"

/* Of struct ggml_tensor, since November 2024; MUL_MAT_ID of before is not recorded. */
enum tensor_offset {
	TENSOR_NE = 16,
	TENSOR_NB = 48,
	TENSOR_OP = 80,
	TENSOR_SRC = 152,
	TENSOR_DATA = 248,
};

/* Whether the weights of the experts are recorded, too. */
const volatile __u32 expert_weights = 0;

/* The number of MUL_MAT_ID in each process; 0 when it is not known. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} expert_ops SEC(".maps");

/* The last selection that was recorded in each process, and its graph: several nodes use one. */
struct last_selection {
	__u64 ids;
	__u64 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct last_selection);
} last_selections SEC(".maps");

struct experts_small {
	struct bulk_experts experts;
	__u32 values[EXPERTS_SMALL];
};

struct experts_large {
	struct bulk_experts experts;
	__u32 values[EXPERTS_LARGE];
};

/* A selection while it is read. */
struct selection {
	__u64 time;
	__u64 id;
	struct shard *shard;
	__u64 node;
	__u64 ids;
	__u64 data;		/* of the selection */
	__u64 nb0, nb1;		/* bytes from one expert to the next, and from one token to the next */
	__u64 weights;		/* data of what the weights are taken from, or 0 */
	__u64 weights_nb1, weights_nb2;
	__u32 used;
	__u32 tokens;
	__u32 ranks;
	__u32 per_record;	/* tokens that fit into a large record */
	__u32 cpu;
	__u32 process;
	/* The record that is being filled. */
	__u32 first;
	__u32 count;
	__u32 failed;
	__u32 *values;
	__u32 *experts;
};

/* Most experts of a token in a record of each size; the others are cut off, and it says so. */
#define RANKS_SMALL 16
#define RANKS_LARGE 256

/* In place of a value that cannot be read: no expert, and no weight but a NaN. */
#define UNREADABLE 0xffffffff

#define DESCRIBE(record, s, what_) do {				\
	(record)->experts.node = (s)->node;					\
	(record)->experts.ids = (s)->ids;					\
	(record)->experts.used = (s)->used;					\
	(record)->experts.tokens = (s)->tokens;					\
	(record)->experts.first = (s)->first;				\
	(record)->experts.count = (s)->count;				\
	(record)->experts.ranks = (s)->ranks;					\
	(record)->experts.what = what_;						\
	if ((s)->ranks < (s)->used)						\
		(record)->experts.head.flags |= BULK_PARTIAL;			\
} while (0)

/*
 * Callbacks of bpf_loop, for each size of record; values are in memory that is
 * `most` long, which bounds every offset in a way that the verifier follows.
 */
#define READERS(size, most, most_ranks)							\
/* One token whose experts lie side by side. */						\
static long read_row_##size(__u32 index, struct selection *s)				\
{											\
	__u32 ranks = s->ranks;								\
	__u32 at = index * ranks;							\
	__u32 *values = s->values;							\
											\
	if (index >= s->count || at > (most) - (most_ranks) || ranks > (most_ranks) || !values)	\
		return 1;								\
	if (bpf_probe_read_user(values + at, ranks * 4,					\
			(const void *)(s->data + (s->first + index) * s->nb1))) {	\
		values[at] = UNREADABLE;						\
		s->failed = 1;								\
	}										\
	return 0;									\
}											\
											\
/* One expert of one token. */								\
static long read_id_##size(__u32 index, struct selection *s)				\
{											\
	__u32 token = index / s->ranks, rank = index % s->ranks;			\
	__u32 *values = s->values;							\
											\
	if (token >= s->count || index >= (most) || !values)				\
		return 1;								\
	if (bpf_probe_read_user(values + index, 4,					\
			(const void *)(s->data + (s->first + token) * s->nb1 + rank * s->nb0))) {	\
		values[index] = UNREADABLE;						\
		s->failed = 1;								\
	}										\
	return 0;									\
}											\
											\
/* The weight of an expert, from the tensor of all of them. */				\
static long read_weight_##size(__u32 index, struct selection *s)			\
{											\
	__u32 token = index / s->ranks;							\
	__u32 *values = s->values, *experts = s->experts;				\
											\
	if (token >= s->count || index >= (most) || !values || !experts)		\
		return 1;								\
	if (bpf_probe_read_user(values + index, 4,					\
			(const void *)(s->weights + (s->first + token) * s->weights_nb2	\
				       + experts[index] * s->weights_nb1)))		\
		values[index] = UNREADABLE;						\
	return 0;									\
}											\
											\
/* s->count tokens from s->first on. */							\
static __always_inline void record_##size(struct selection *s)				\
{											\
	struct experts_##size *record = RESERVE(struct experts_##size, s), *weights;	\
											\
	if (!record)									\
		return;									\
	DESCRIBE(record, s, EXPERTS_IDS);						\
	s->values = record->values;							\
	s->failed = 0;									\
	if (s->nb0 == 4)								\
		bpf_loop(s->count, read_row_##size, s, 0);				\
	else										\
		bpf_loop(s->count * s->ranks, read_id_##size, s, 0);			\
	if (s->failed)									\
		record->experts.head.flags |= BULK_PARTIAL;				\
	if (expert_weights && s->weights) {						\
		weights = RESERVE(struct experts_##size, s);				\
		if (weights) {								\
			DESCRIBE(weights, s, EXPERTS_WEIGHTS);				\
			s->experts = record->values;					\
			s->values = weights->values;					\
			bpf_loop(s->count * s->ranks, read_weight_##size, s, 0);	\
			BULK_SUBMIT(weights);						\
		}									\
	}										\
	s->values = 0;									\
	s->experts = 0;									\
	BULK_SUBMIT(record);								\
}

#define RESERVE(type, s) \
	BULK_RESERVE(type, (s)->shard, EVENT_EXPERTS, (s)->process, (s)->id, (s)->time, (s)->cpu)

READERS(small, EXPERTS_SMALL, RANKS_SMALL)
READERS(large, EXPERTS_LARGE, RANKS_LARGE)

/* One record of a selection that takes several, or one large one. */
static long large_record(__u32 index, struct selection *s)
{
	s->first = index * s->per_record;
	if (s->first >= s->tokens)
		return 1;
	s->count = s->tokens - s->first;
	if (s->count > s->per_record)
		s->count = s->per_record;
	record_large(s);
	return 0;
}

/* Records the selection in the tensor at s->ids. */
static __always_inline void record_selection(struct selection *s)
{
	__u64 shape[8];

	if (bpf_probe_read_user(shape, sizeof(shape), (const void *)(s->ids + TENSOR_NE)))
		return;
	s->data = READ_USER(__u64, s->ids + TENSOR_DATA);
	s->used = shape[0];
	s->tokens = shape[1];
	s->nb0 = shape[4];
	s->nb1 = shape[5];
	/* More than any batch has; not a selection of experts. */
	if (!s->used || !s->tokens || shape[0] > 1 << 16 || shape[1] > 1 << 20 || !s->data)
		return;
	if (s->used <= RANKS_SMALL && s->used * s->tokens <= EXPERTS_SMALL - RANKS_SMALL) {
		s->ranks = s->used;
		s->count = s->tokens;
		record_small(s);
		return;
	}
	s->ranks = s->used > RANKS_LARGE ? RANKS_LARGE : s->used;
	s->per_record = (EXPERTS_LARGE - RANKS_LARGE) / s->ranks;
	bpf_loop(1 << 18, large_record, s, 0);
}

#define SELECTION(node_) { .time = time, .id = id, .shard = shard, .node = node_, .cpu = cpu,	\
			   .process = cookie >> 8 & 0xff }

/*
 * ggml_compute_forward_get_rows(const struct ggml_compute_params *, struct ggml_tensor *):
 * gathers the weights of the experts selected. So are rows of other tables gathered; only
 * the indexes of experts are computed themselves.
 */
SEC("uprobe.multi")
int experts_gathered(struct pt_regs *ctx)
{
	__u64 node = PT_REGS_PARM2(ctx);

	BEGIN;
	if (read_ith(shard, id, PT_REGS_PARM1(ctx)))
		return 0;

	struct selection s = SELECTION(node);
	__u64 probs = READ_USER(__u64, node + TENSOR_SRC);

	s.ids = READ_USER(__u64, node + TENSOR_SRC + 8);
	if (!s.ids || !READ_USER(__u32, s.ids + TENSOR_OP))
		return 0;
	if (expert_weights) {
		s.weights = READ_USER(__u64, probs + TENSOR_DATA);
		s.weights_nb1 = READ_USER(__u64, probs + TENSOR_NB + 8);
		s.weights_nb2 = READ_USER(__u64, probs + TENSOR_NB + 16);
	}
	record_selection(&s);
	return 0;
}

/*
 * ggml_cpu_extra_compute_forward(struct ggml_compute_params *, struct ggml_tensor *): each
 * node; for builds in which the above cannot be probed.
 */
SEC("uprobe.multi")
int experts_begin(struct pt_regs *ctx)
{
	__u64 node = PT_REGS_PARM2(ctx);

	BEGIN;
	__u32 process = cookie >> 8 & 0xff;
	__u32 *op = bpf_map_lookup_elem(&expert_ops, &process);
	struct last_selection *last = bpf_map_lookup_elem(&last_selections, &process);

	if (!op || !last || !*op || READ_USER(__u32, node + TENSOR_OP) != *op
	    || read_ith(shard, id, PT_REGS_PARM1(ctx)))
		return 0;

	struct selection s = SELECTION(node);

	s.ids = READ_USER(__u64, node + TENSOR_SRC + 16);
	if (!s.ids || (last->ids == s.ids && last->generation == generation))
		return 0;
	last->ids = s.ids;
	last->generation = generation;
	record_selection(&s);
	return 0;
}

#endif
