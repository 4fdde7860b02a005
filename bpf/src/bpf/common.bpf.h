/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
#ifndef LLMTRACE_COMMON_BPF_H
#define LLMTRACE_COMMON_BPF_H

#include "vmlinux/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "events.h"

/* The process to record. */
volatile __u32 target_tgid = 0;

/* Set once everything is attached and cleared before anything is detached, so
 * that no graph is seen through half of the probes. */
volatile __u32 recording = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);	/* resized before load */
} events SEC(".maps");

/* Events that found no room, by kind. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(__u32 kind)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &kind);

	/* A probed thread may be preempted here by another one. */
	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void fill_head(struct event_head *head, __u16 kind, __u64 time, __u32 tid)
{
	head->time = time;
	head->tid = tid;
	head->kind = kind;
	head->cpu = bpf_get_smp_processor_id();
}

/*
 * Reserves a record of one kind for the current thread, runs the statements
 * that fill it as `event`, and submits it. Ends the program when the process
 * is not the target, or, counted, when there is no room.
 */
#define EMIT(type, kind, fill...)						\
	__u64 time = bpf_ktime_get_ns();					\
	__u64 id = bpf_get_current_pid_tgid();					\
	struct type *event;							\
										\
	if (!recording || id >> 32 != target_tgid)				\
		return 0;							\
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);		\
	if (!event) {								\
		count_lost(kind);						\
		return 0;							\
	}									\
	fill_head(&event->head, kind, time, (__u32)id);				\
	fill									\
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);				\
	return 0

/*
 * The `ith` of the thread that began a node last on this CPU: generation << 48 |
 * ith << 32 | tid. One word, as a preempted program may run beside another one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_ith SEC(".maps");

/* Counts graphs: within one, a thread's `ith` does not change. */
volatile __u32 generation = 0;

/*
 * params->ith. Reading the target's memory costs a tenth of the whole hit, so
 * it is done once a graph and thread while the thread stays on its CPU.
 */
static __always_inline __u32 read_ith(__u64 params)
{
	__u32 zero = 0, ith = 0;
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 known = (__u64)(__u16)generation << 48 | tid;
	volatile __u64 *last = bpf_map_lookup_elem(&last_ith, &zero);
	__u64 value = last ? *last : 0;

	if ((value & 0xffff0000ffffffff) == known)
		return value >> 32 & 0xffff;
	bpf_probe_read_user(&ith, sizeof(ith), (const void *)params);
	if (last)
		*last = known | (__u64)(__u16)ith << 32;
	return ith;
}

/* Reads one field of the target; 0 where it cannot be read. */
#define READ_USER(type, address) ({						\
	type value_ = 0;							\
	bpf_probe_read_user(&value_, sizeof(value_), (const void *)(address));	\
	value_;									\
})

#endif
