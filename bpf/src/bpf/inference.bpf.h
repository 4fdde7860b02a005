/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What goes on around graphs: which sequences an ubatch has, what happens to
 * the KV cache, and calls such as sampling. Tens of hits a token at most.
 */
#ifndef LLMTRACE_INFERENCE_BPF_H
#define LLMTRACE_INFERENCE_BPF_H

#include "common.bpf.h"

/* Where the fields of struct llama_ubatch lie that are no counts. */
struct ubatch_layout {
	__u32 token, pos, n_seq_id, seq_id, output;
};

/* Before June 2025, since then, and since llama_batch_ext of October 2026. */
#define UBATCH_OLD { .token = 16, .pos = 32, .n_seq_id = 40, .seq_id = 48, .output = 56 }
#define UBATCH_NEW { .token = 24, .pos = 40, .n_seq_id = 48, .seq_id = 56, .output = 80 }
#define UBATCH_EXT { .token = 24, .pos = 48, .n_seq_id = 56, .seq_id = 64, .output = 88 }

/* More tokens than any ubatch has; larger numbers are no ubatch. */
#define MAX_UBATCH (1 << 16)
/* llama.cpp has at most 256. */
#define MAX_SEQUENCE 4096

/* The run that is being counted, and where its arrays lie. */
struct runs {
	__u64 time, id, cookie;
	__u64 pos, n_seq_id, seq_id, output;
	__u32 cpu;
	__u32 per_sequence;	/* tokens that share an entry of the sequence arrays */
	__s32 sequence, position;
	__u32 tokens, outputs, further, done;
};

static __always_inline void put_run(struct runs *run)
{
	__u64 time = run->time, id = run->id;
	__u32 cpu = run->cpu;
	struct shard *shard = bpf_map_lookup_elem(&shards, &cpu);

	if (!shard || !run->tokens)
		return;
	PUT(event_sequence_run, EVENT_SEQUENCE_RUN, run->cookie >> 8,
		event->sequence = run->sequence;
		event->position = run->position;
		event->tokens = run->tokens;
		event->outputs_further = (run->output ? run->outputs : OUTPUTS_UNKNOWN) |
					 (run->further < 255 ? run->further : 255) << 24;
	);
}

/* Says of one token where it belongs; false when what is read makes no sense. */
static __always_inline bool read_token(struct runs *run, __u64 index, __s32 *sequence,
				       __s32 *position, __s32 *count, __s8 *output)
{
	__u64 entry = index / (run->per_sequence ?: 1), first = 0;
	long failed;

	failed = bpf_probe_read_user(&first, 8, (const void *)(run->seq_id + 8 * entry));
	failed |= bpf_probe_read_user(sequence, 4, (const void *)first);
	failed |= bpf_probe_read_user(position, 4, (const void *)(run->pos + 4 * index));
	failed |= bpf_probe_read_user(count, 4, (const void *)(run->n_seq_id + 4 * entry));
	if (run->output)
		failed |= bpf_probe_read_user(output, 1, (const void *)(run->output + index));
	return !failed && *sequence >= 0 && *sequence < MAX_SEQUENCE && *position >= 0 &&
	       *count >= 1 && *count <= MAX_SEQUENCE;
}

static long next_token(__u64 index, struct runs *run)
{
	__s32 sequence = -1, position = -1, count = 0;
	__s8 output = 0;

	if (!read_token(run, index, &sequence, &position, &count, &output))
		return 1;
	run->done++;
	if (run->tokens && (sequence != run->sequence || (__u32)count - 1 != run->further ||
			    position != run->position + (__s32)run->tokens)) {
		put_run(run);
		run->tokens = 0;
	}
	if (!run->tokens) {
		run->sequence = sequence;
		run->position = position;
		run->further = count - 1;
		run->outputs = 0;
	}
	run->tokens++;
	run->outputs += output != 0;
	return 0;
}

/* Where the ids of the tokens lie; only for who asked for them. */
struct token_ids {
	__u64 time, id, cookie, token;
	__u32 cpu, count;
};

static long next_ids(__u64 index, struct token_ids *ids)
{
	__u64 time = ids->time, id = ids->id;
	__u32 cpu = ids->cpu, first = 3 * index;
	struct shard *shard = bpf_map_lookup_elem(&shards, &cpu);

	if (!shard)
		return 1;
	PUT(event_tokens, EVENT_TOKENS, ids->cookie >> 8,
		event->index = first;
		for (int i = 0; i < 3; i++)
			event->ids[i] = first + i < ids->count ?
				READ_USER(__s32, ids->token + 4 * ((__u64)first + i)) : -1;
	);
	return 0;
}

/* Whether an ubatch has this layout: its first token makes sense. */
static __always_inline bool lay_out(struct runs *run, __u64 ubatch, const struct ubatch_layout *layout)
{
	__s32 sequence = -1, position = -1, count = 0;
	__s8 output = 0;

	run->pos = READ_USER(__u64, ubatch + layout->pos);
	run->n_seq_id = READ_USER(__u64, ubatch + layout->n_seq_id);
	run->seq_id = READ_USER(__u64, ubatch + layout->seq_id);
	run->output = READ_USER(__u64, ubatch + layout->output);
	return read_token(run, 0, &sequence, &position, &count, &output);
}

/*
 * As ubatch_begin, and which sequences the ubatch has: tokens that follow each
 * other in one sequence are a run. Needs bpf_loop, which came with Linux 5.17.
 */
SEC("uprobe.multi")
int ubatch_sequences(struct pt_regs *ctx)
{
	const struct ubatch_layout old = UBATCH_OLD, new = UBATCH_NEW, ext = UBATCH_EXT;
	__u64 ubatch = PT_REGS_PARM2(ctx);
	__u32 tokens, per_sequence, entries;
	bool known;

	BEGIN;
	tokens = READ_USER(__u32, ubatch + 4);
	per_sequence = READ_USER(__u32, ubatch + 8);
	entries = READ_USER(__u32, ubatch + 12);
	EMIT(event_ubatch_begin, EVENT_UBATCH_BEGIN,
		event->tokens = tokens;
		event->sequences = cookie & COOKIE_UBATCH_OLD ? sequences_of(ubatch, tokens)
							      : READ_USER(__u32, ubatch + 16);
	);
	if (!tokens || tokens > MAX_UBATCH || tokens != per_sequence * entries)
		return 0;

	struct runs run = { .time = time, .id = id, .cookie = cookie, .cpu = cpu, .per_sequence = 1 };

	if (cookie & COOKIE_UBATCH_OLD) {
		run.per_sequence = per_sequence;
		known = lay_out(&run, ubatch, &old);
	} else if (cookie & COOKIE_UBATCH_EXT) {
		known = lay_out(&run, ubatch, &ext) || lay_out(&run, ubatch, &new);
	} else {
		known = lay_out(&run, ubatch, &new) || lay_out(&run, ubatch, &ext);
	}
	if (known) {
		bpf_loop(tokens, next_token, &run, 0);
		put_run(&run);
	}
	if (run.done < tokens) {
		/* The rest is of a layout that we do not know. */
		run.tokens = tokens - run.done;
		run.sequence = run.position = -1;
		run.output = run.further = 0;
		put_run(&run);
	}
	if (cookie & COOKIE_TOKENS && known) {
		__u32 token = cookie & COOKIE_UBATCH_OLD ? old.token : new.token;
		struct token_ids ids = {
			.time = time, .id = id, .cookie = cookie, .cpu = cpu, .count = tokens,
			.token = READ_USER(__u64, ubatch + token),
		};

		if (ids.token)	/* else embeddings */
			bpf_loop((tokens + 2) / 3, next_ids, &ids, 0);
	}
	return 0;
}

/* What COOKIE_KIND says of a probe: which call it is of, or which operation. */
static __always_inline __u32 kind_of(__u64 cookie)
{
	return cookie >> 16 & 0xff;
}

/* A signed number in 22 bits; what does not fit is SMALL_UNKNOWN. */
static __always_inline __u32 small(__s32 value)
{
	return (value > -(1 << 21) && value < 1 << 21 ? (__u32)value : SMALL_UNKNOWN) & 0x3fffff;
}

/*
 * An argument as a value of its own: else the compiler chooses between addresses
 * in the context, which the verifier forbids.
 */
#define ARGUMENT(n) ({ __u64 value_ = PT_REGS_PARM##n(ctx); barrier_var(value_); value_; })

/* llama_memory_seq_rm(memory, sequence, begin, end) and the like */
SEC("uprobe.multi")
int kv_operation(struct pt_regs *ctx)
{
	BEGIN;
	__u32 kind = kind_of(cookie);
	__s32 second = ARGUMENT(2), third = ARGUMENT(3), fourth = ARGUMENT(4), fifth = ARGUMENT(5);
	__s32 sequence = kind == KV_CLEAR ? -1 : second;
	__s32 begin = -1, end = -1, value = 0;

	if (kind == KV_COPY) {
		value = third;
		begin = fourth;
		end = fifth;
	} else if (kind != KV_CLEAR && kind != KV_KEEP) {
		begin = third;
		end = fourth;
		if (kind != KV_REMOVE)
			value = fifth;
	}
	if (sequence < -1 || sequence >= 512)
		sequence = -512;
	EMIT(event_kv_operation, EVENT_KV_OPERATION,
		/* Allocations are aligned to 16 bytes. */
		event->memory_kind = (__u32)PT_REGS_PARM1(ctx) | kind;
		event->begin = begin;
		event->end = end;
		event->sequence_value = (__u32)sequence << 22 | small(value);
	);
	return 0;
}

SEC("uprobe.multi")
int call_begin(struct pt_regs *ctx)
{
	BEGIN;
	__u64 first = ARGUMENT(1), second = ARGUMENT(2);
	__s32 third = ARGUMENT(3), fourth = ARGUMENT(4);
	__u32 kind = kind_of(cookie);

	if (kind == CALL_STATE_SAVE || kind == CALL_STATE_LOAD)
		third = cookie & COOKIE_SEQUENCE ? fourth : -1;
	EMIT(event_call_begin, EVENT_CALL_BEGIN,
		event->context = kind == CALL_SAMPLE ? second : first;
		event->argument = third;
		event->kind = kind;
	);
	return 0;
}

static __always_inline int call_ends(struct pt_regs *ctx)
{
	BEGIN;
	__u32 kind = kind_of(cookie);

	EMIT(event_call_end, EVENT_CALL_END,
		/* What was sampled is private. */
		event->result = kind == CALL_SAMPLE && !(cookie & COOKIE_TOKENS) ? -1 : PT_REGS_RC(ctx);
		event->kind = kind;
		event->pad = 0;
	);
	return 0;
}

SEC("uretprobe.multi")
int call_end(struct pt_regs *ctx)
{
	return call_ends(ctx);
}

/* At the instructions that return, where the result is in its register, too. */
SEC("uprobe.multi")
int call_returns(struct pt_regs *ctx)
{
	return call_ends(ctx);
}

/* common_speculative_accept(speculative, sequence, n_accepted) */
SEC("uprobe.multi")
int draft_accepted(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_draft_accepted, EVENT_DRAFT_ACCEPTED,
		event->sequence = PT_REGS_PARM2(ctx);
		event->accepted = (__u16)PT_REGS_PARM3(ctx);
		event->pad = 0;
	);
	return 0;
}

/* As event_types of llmtrace.bpf.c. */
struct inference_types {
	struct event_sequence_run sequence_run;
	struct event_kv_operation kv_operation;
	struct event_call_begin call_begin;
	struct event_call_end call_end;
	struct event_draft_accepted draft_accepted;
	struct event_tokens tokens;
} inference_types SEC(".bss.types");

#endif
