/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
#ifndef LLMTRACE_COMMON_BPF_H
#define LLMTRACE_COMMON_BPF_H

#include "vmlinux/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "events.h"

/* Set once everything is attached and cleared before anything is detached, so
 * that no graph is seen through half of the probes. */
volatile __u32 recording = 0;

/* Counts graphs: within one, a thread's `ith` does not change. */
volatile __u32 generation = 0;

/* Slots of each CPU's ring, as a power of two. */
const volatile __u32 slots_shift = 10;

struct slot {
	__u64 words[4];
};

/*
 * A ring for each CPU, in memory that the recorder maps. A program claims a slot
 * by moving the ring's head, fills it, and writes its time last. BPF's own ring
 * buffer would do, but its lock and its two calls cost a tenth of the whole hit,
 * and one ring for all CPUs is fought over at every barrier.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);	/* set before load */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);		/* CPUs; set before load */
	__type(key, __u32);
	__type(value, struct shard);
} shards SEC(".maps");

/* Processes whose children are recorded, too. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} followed SEC(".maps");

/* Several programs may run on one CPU at once, as a probed thread can be preempted. */
#define CLAIM_TRIES 4

/* A free slot, or, counted, none. Programs do not move to another CPU. */
static __always_inline struct slot *claim(struct shard *shard, __u32 cpu, __u32 kind)
{
	__u64 mask = (1ULL << slots_shift) - 1;

	for (int i = 0; i < CLAIM_TRIES; i++) {
		__u64 head = *(volatile __u64 *)&shard->head;

		if (head - *(volatile __u64 *)&shard->tail > mask)
			break;
		if (__sync_val_compare_and_swap(&shard->head, head, head + 1) == head) {
			__u32 index = cpu << slots_shift | (head & mask);

			return bpf_map_lookup_elem(&slots, &index);
		}
	}
	__sync_fetch_and_add(&shard->lost[kind & 63], 1);
	return 0;
}

/*
 * Claims a slot for a record of one kind by the current thread, runs the
 * statements that fill it as `event`, and publishes it.
 */
#define PUT(type, kind_, process_, fill...) do {				\
	struct type *event;							\
										\
	_Static_assert(sizeof(struct type) == sizeof(struct slot), "fills a slot");	\
	event = (struct type *)claim(shard, cpu, kind_);			\
	if (event) {								\
		event->head.tid = (__u32)id;					\
		event->head.kind = kind_;					\
		event->head.process = process_;					\
		event->head.cpu = cpu;						\
		fill								\
		asm volatile("" ::: "memory");					\
		*(volatile __u64 *)&event->head.time = time;			\
	}									\
} while (0)

/*
 * What every program of a probe begins with: who, when, where. Ends the program
 * when the process is not the one it was attached for.
 */
#define BEGIN									\
	__u64 time = bpf_ktime_get_ns();					\
	__u64 id = bpf_get_current_pid_tgid();					\
	__u64 cookie = bpf_get_attach_cookie(ctx);				\
	__u32 cpu = bpf_get_smp_processor_id();					\
	struct shard *shard;							\
										\
	if (!recording || (cookie >> 32 && id >> 32 != cookie >> 32))		\
		return 0;							\
	shard = bpf_map_lookup_elem(&shards, &cpu);				\
	if (!shard)								\
		return 0

#define EMIT(type, kind, fill...) PUT(type, kind, cookie >> 8, fill)

/*
 * params->ith. Reading the target's memory costs a tenth of the whole hit, so
 * it is done once a graph and thread while the thread stays on its CPU. What is
 * remembered is one word, generation << 48 | ith << 32 | tid, as a preempted
 * program may run beside another one.
 */
static __always_inline __u32 read_ith(struct shard *shard, __u32 tid, __u64 params)
{
	__u64 known = (__u64)(__u16)generation << 48 | tid;
	__u64 value = *(volatile __u64 *)&shard->last_ith;
	__u32 ith = 0;

	if ((value & 0xffff0000ffffffff) == known)
		return value >> 32 & 0xffff;
	bpf_probe_read_user(&ith, sizeof(ith), (const void *)params);
	*(volatile __u64 *)&shard->last_ith = known | (__u64)(__u16)ith << 32;
	return ith;
}

/* Reads one field of the target; 0 where it cannot be read. */
#define READ_USER(type, address) ({						\
	type value_ = 0;							\
	bpf_probe_read_user(&value_, sizeof(value_), (const void *)(address));	\
	value_;									\
})

#endif
