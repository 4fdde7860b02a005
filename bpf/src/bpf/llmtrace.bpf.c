// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * Probes of ggml and llama functions. Each does as little as it can: time,
 * thread, and the words that user space needs to find the rest.
 */
#include "common.bpf.h"
#include "counters.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* llama_context::decode(const llama_batch &), ...encode, and overloads */
SEC("uprobe.multi")
int decode_begin(struct pt_regs *ctx)
{
	__u64 batch = 0;

	BEGIN;
	/* n_tokens is the first member in every version. */
	if (cookie & COOKIE_BATCH)
		batch = PT_REGS_PARM2(ctx);
	else if (cookie & COOKIE_BATCH_ON_STACK)
		batch = PT_REGS_SP(ctx) + 8;

	EMIT(event_decode_begin, EVENT_DECODE_BEGIN,
		event->context = PT_REGS_PARM1(ctx);
		event->tokens = batch ? READ_USER(__u32, batch) : 0;
		event->is_encode = cookie & COOKIE_ENCODE;
	);
	return 0;
}

SEC("uretprobe.multi")
int decode_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_decode_end, EVENT_DECODE_END,
		event->result = PT_REGS_RC(ctx);
	);
	return 0;
}

/* The sequence of the token at `index`, of a struct llama_ubatch of early 2025. */
static __always_inline __u32 sequence_of(__u64 ubatch, __u32 index)
{
	__u64 seq_id = READ_USER(__u64, ubatch + 48);

	return READ_USER(__u32, READ_USER(__u64, seq_id + 8 * (__u64)index));
}

/*
 * In early 2025 n_seqs counts each token as a sequence, unless equal_seqs, the
 * first member, is set. If the first and the last token are of one sequence, so
 * is what lies between.
 */
static __always_inline __u32 sequences_of(__u64 ubatch, __u32 tokens)
{
	__u32 sequences = READ_USER(__u32, ubatch + 12);

	if (READ_USER(__u8, ubatch) || tokens < 2)
		return sequences;
	return sequence_of(ubatch, 0) == sequence_of(ubatch, tokens - 1) ? 1 : sequences;
}

/*
 * llama_context::process_ubatch(const llama_ubatch &, ...), or in early 2025
 * llama_set_inputs(llama_context &, const llama_ubatch &)
 */
SEC("uprobe.multi")
int ubatch_begin(struct pt_regs *ctx)
{
	__u64 ubatch = PT_REGS_PARM2(ctx);

	BEGIN;
	EMIT(event_ubatch_begin, EVENT_UBATCH_BEGIN,
		event->tokens = READ_USER(__u32, ubatch + 4);
		event->sequences = cookie & COOKIE_UBATCH_OLD ? sequences_of(ubatch, event->tokens)
							      : READ_USER(__u32, ubatch + 16);
	);
	return 0;
}

SEC("uretprobe.multi")
int ubatch_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_ubatch_end, EVENT_UBATCH_END, );
	return 0;
}

/* ggml_graph_compute(struct ggml_cgraph *, struct ggml_cplan *) */
SEC("uprobe.multi")
int graph_begin(struct pt_regs *ctx)
{
	__u64 graph = PT_REGS_PARM1(ctx);
	__u64 plan = PT_REGS_PARM2(ctx);

	BEGIN;
	__sync_fetch_and_add(&generation, 1);
	COUNT(false);
	EMIT(event_graph_nodes, EVENT_GRAPH_NODES,
		event->nodes = READ_USER(__u64, graph + 16);
		event->node_count = READ_USER(__u32, graph + 4);
		event->threads = READ_USER(__u32, plan + 16);
	);
	EMIT(event_graph_begin, EVENT_GRAPH_BEGIN,
		event->graph = graph;
		event->uid = READ_USER(__u64, graph + 88);
	);
	return 0;
}

SEC("uretprobe.multi")
int graph_end(struct pt_regs *ctx)
{
	BEGIN;
	EMIT(event_graph_end, EVENT_GRAPH_END, );
	return 0;
}

/* ggml_cpu_extra_compute_forward(struct ggml_compute_params *, struct ggml_tensor *) */
SEC("uprobe.multi")
int op_begin(struct pt_regs *ctx)
{
	BEGIN;
	COUNT(false);
	EMIT(event_op_begin, EVENT_OP_BEGIN,
		event->tensor = PT_REGS_PARM2(ctx);
		event->ith = read_ith(shard, id, PT_REGS_PARM1(ctx));
	);
	return 0;
}

/* ggml_compute_forward_rms_norm_mul_fused(params, rms_norm, mul) */
SEC("uprobe.multi")
int fused_begin(struct pt_regs *ctx)
{
	BEGIN;
	COUNT(false);
	EMIT(event_fused_begin, EVENT_FUSED_BEGIN,
		__u64 ith = read_ith(shard, id, PT_REGS_PARM1(ctx));

		event->tensor_ith = PT_REGS_PARM2(ctx) | ith << 48;
		event->last_tensor = PT_REGS_PARM3(ctx);
	);
	return 0;
}

/* ggml_barrier(struct ggml_threadpool *) */
SEC("uprobe.multi")
int barrier_arrive(struct pt_regs *ctx)
{
	BEGIN;
	COUNT(true);
	EMIT(event_barrier, EVENT_BARRIER, );
	return 0;
}

/* What a probe costs that does nothing; for calibration. */
SEC("uprobe.multi")
int nothing(struct pt_regs *ctx)
{
	return 0;
}

static __always_inline void process_event(__u32 pid, __u32 parent)
{
	__u64 time = bpf_ktime_get_ns();
	__u64 id = bpf_get_current_pid_tgid();
	__u32 cpu = bpf_get_smp_processor_id();
	struct shard *shard = bpf_map_lookup_elem(&shards, &cpu);

	if (shard)
		PUT(event_process, EVENT_PROCESS, 0, event->pid = pid; event->parent = parent;);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = parent->tgid, pid = child->tgid, yes = 1;

	if (pid == from || !bpf_map_lookup_elem(&followed, &from))
		return 0;
	bpf_map_update_elem(&followed, &pid, &yes, BPF_ANY);
	process_event(pid, from);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task)
{
	__u32 pid = task->tgid;

	if (bpf_map_lookup_elem(&followed, &pid))
		process_event(pid, pid);
	return 0;
}

/* Keeps the record types in the object's BTF, from which the Rust types come. */
struct event_types {
	struct event_decode_begin decode_begin;
	struct event_decode_end decode_end;
	struct event_ubatch_begin ubatch_begin;
	struct event_ubatch_end ubatch_end;
	struct event_graph_nodes graph_nodes;
	struct event_graph_begin graph_begin;
	struct event_graph_end graph_end;
	struct event_op_begin op_begin;
	struct event_fused_begin fused_begin;
	struct event_barrier barrier;
	struct event_process process;
	struct shard shard;
	struct bulk_experts experts;
} event_types SEC(".bss.types");

#include "experts.bpf.h"
#include "inference.bpf.h"
#include "machine.bpf.h"
#include "offload.bpf.h"
