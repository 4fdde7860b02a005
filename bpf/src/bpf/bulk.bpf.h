/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The bulk channel: arrays of the target, which do not fit into a slot. One
 * thread at a time writes to it, a few times a token, so that BPF's own ring
 * buffer will do. The recorder is not woken.
 */
#ifndef LLMTRACE_BULK_BPF_H
#define LLMTRACE_BULK_BPF_H

#include "common.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);	/* bytes; set before load */
} bulk SEC(".maps");

/*
 * Room for a record of one kind and a constant size by the current thread, or,
 * counted, 0. It begins with a struct bulk_head, all of which is set.
 */
#define BULK_RESERVE(type, shard, kind_, process_, id, time_, cpu_) ({			\
	type *record_ = bpf_ringbuf_reserve(&bulk, sizeof(type), 0);			\
											\
	if (record_) {									\
		struct bulk_head *head_ = (struct bulk_head *)record_;			\
											\
		head_->time = time_;							\
		head_->tid = (__u32)(id);						\
		head_->kind = kind_;							\
		head_->process = process_;						\
		head_->cpu = cpu_;							\
		head_->length = sizeof(type);						\
		head_->flags = 0;							\
	} else {									\
		__sync_fetch_and_add(&(shard)->lost[(kind_) & 63], 1);			\
	}										\
	record_;									\
})

#define BULK_SUBMIT(record) bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP)

#endif
