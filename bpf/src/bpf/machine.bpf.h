/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What the kernel does with the target's threads and memory. These programs are attached to
 * tracepoints of the kernel through its BTF, which needs no tracefs, and run for every process:
 * whose they are is asked first, and costs all others a look into a small table.
 */
#ifndef LLMTRACE_MACHINE_BPF_H
#define LLMTRACE_MACHINE_BPF_H

#include "common.bpf.h"

#define TASK_UNINTERRUPTIBLE 2
#define TASK_DEAD 0x80
#define PAGE_MASK (~0xfffULL)
#define KERNEL_ADDRESS (1ULL << 63)
#define REQ_OP_MASK 0xff	/* 0 is a read */
#define MAX_MERGED 128		/* reads of one request; the default limit of segments */

/* Processes that are recorded: the recorder's number of each. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

/* Reads that are under way, by struct bio *. */
struct read {
	__u64 begin;
	__u32 tid;
	__u32 process;
	__u32 bytes;
	__u32 device;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct read);
} reads SEC(".maps");

/* As BEGIN, for a program that knows the thread: puts its records under this name. */
#define MACHINE_BEGIN(tid)							\
	__u64 time = bpf_ktime_get_ns();					\
	__u64 id = (tid);							\
	__u32 cpu = bpf_get_smp_processor_id();					\
	struct shard *shard = bpf_map_lookup_elem(&shards, &cpu);		\
										\
	if (!shard)								\
		return 0

static __always_inline __u32 *watched_as(__u32 tgid)
{
	/* The idle threads. */
	if (!tgid || !recording)
		return 0;
	return bpf_map_lookup_elem(&watched, &tgid);
}

static __always_inline int off_cpu(struct task_struct *prev, struct task_struct *next, bool preempt,
				   __u32 process)
{
	__u32 state = prev->__state;
	struct pt_regs *regs;
	__u32 flags = 0;

	MACHINE_BEGIN(prev->pid);
	/* One that was about to sleep when it was preempted goes on and then sleeps. */
	if (preempt || !state)
		flags = OFF_CPU_RUNNABLE;
	else if (state & TASK_DEAD)
		flags = OFF_CPU_ENDED;
	else if (state & TASK_UNINTERRUPTIBLE)
		flags = OFF_CPU_UNINTERRUPTIBLE;
	/* The number of the system call, or -1. */
	regs = (struct pt_regs *)bpf_task_pt_regs(prev);
	if ((long)regs->orig_ax == -1)
		flags |= OFF_CPU_EXCEPTION;
	PUT(event_off_cpu, EVENT_OFF_CPU, process,
		event->flags = flags;
		event->next_tid = next->pid;
		event->next_pid = next->tgid;
		event->pad = 0;
	);
	if (flags & OFF_CPU_RUNNABLE && next->pid)
		PUT(event_thread_name, EVENT_THREAD_NAME, process,
			bpf_probe_read_kernel(event->name, sizeof(event->name), next->comm);
		);
	return 0;
}

static __always_inline int on_cpu(struct task_struct *next, __u32 process)
{
	MACHINE_BEGIN(next->pid);
	PUT(event_on_cpu, EVENT_ON_CPU, process, );
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(machine_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 *process = watched_as(prev->tgid);

	if (process)
		off_cpu(prev, next, preempt, *process);
	process = watched_as(next->tgid);
	if (process)
		on_cpu(next, *process);
	return 0;
}

/* Before the thread is put on a queue of a CPU. */
SEC("tp_btf/sched_waking")
int BPF_PROG(machine_waking, struct task_struct *task)
{
	__u32 *process = watched_as(task->tgid);
	struct task_struct *waker;
	struct pt_regs *regs;
	bool wakes;

	if (!process)
		return 0;
	MACHINE_BEGIN(task->pid);
	/* A thread in a system call wakes another one; outside of one, something came upon it. */
	waker = bpf_get_current_task_btf();
	regs = (struct pt_regs *)bpf_task_pt_regs(waker);
	wakes = waker->pid && (long)regs->orig_ax != -1;
	PUT(event_woken, EVENT_WOKEN, *process,
		event->waker_tid = wakes ? waker->pid : 0;
		event->waker_pid = wakes ? waker->tgid : 0;
		event->pad = 0;
	);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(machine_exit, struct task_struct *task)
{
	__u32 *process = watched_as(task->tgid);

	if (!process)
		return 0;
	MACHINE_BEGIN(task->pid);
	PUT(event_thread_ended, EVENT_THREAD_ENDED, *process,
		event->minor = task->min_flt;
		event->major = task->maj_flt;
	);
	return 0;
}

static __always_inline int fault(unsigned long address)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 *process = watched_as(task->tgid);

	if (!process)
		return 0;
	MACHINE_BEGIN(task->pid);
	PUT(event_fault, EVENT_FAULT, *process,
		event->address = address & PAGE_MASK;
		event->minor = task->min_flt;
		event->major = task->maj_flt;
	);
	return 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(machine_fault_user, unsigned long address)
{
	return fault(address);
}

/* In a system call that reads or writes the program's memory. */
SEC("tp_btf/page_fault_kernel")
int BPF_PROG(machine_fault_kernel, unsigned long address)
{
	return address & KERNEL_ADDRESS ? 0 : fault(address);
}

static __always_inline void read_asked(__u64 key, __u64 id, __u32 process, __u32 bytes, __u32 device)
{
	struct read read = {
		.begin = bpf_ktime_get_ns(),
		.tid = id,
		.process = process,
		.bytes = bytes,
		.device = device,
	};

	if (bpf_map_update_elem(&reads, &key, &read, BPF_ANY)) {
		__u32 cpu = bpf_get_smp_processor_id();
		struct shard *shard = bpf_map_lookup_elem(&shards, &cpu);

		if (shard)
			__sync_fetch_and_add(&shard->lost[EVENT_BLOCK_READ], 1);
	}
}

/* A file system asks for pages, in the thread that wants them or one that reads ahead for it. */
SEC("tp_btf/block_bio_queue")
int BPF_PROG(machine_read_asked, struct bio *bio)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 *process = watched_as(id >> 32);

	if (!process || bio->bi_opf & REQ_OP_MASK)
		return 0;
	read_asked((__u64)bio, id, *process, bio->bi_iter.bi_size, bio->bi_bdev->bd_dev);
	return 0;
}

static __always_inline int read_done(__u64 key)
{
	struct read *found = bpf_map_lookup_elem(&reads, &key);
	struct read read;

	if (!found)
		return 0;
	read = *found;
	bpf_map_delete_elem(&reads, &key);
	MACHINE_BEGIN(read.tid);
	PUT(event_block_read, EVENT_BLOCK_READ, read.process,
		__u64 micros = (time - read.begin) / 1000;

		event->micros = micros > 0xffffffff ? 0xffffffff : micros;
		event->bytes = read.bytes;
		event->device = read.device;
		event->pad = 0;
	);
	return 0;
}

/* A request to a device is done, or a part of it; several reads may have become one. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(machine_request_done, struct request *request, int error, unsigned int bytes)
{
	struct bio *bio = request->bio;
	__u64 done = 0;

	for (int i = 0; i < MAX_MERGED && bio; i++) {
		done += bio->bi_iter.bi_size;
		if (done > bytes)
			break;
		read_done((__u64)bio);
		bio = bio->bi_next;
	}
	return 0;
}

/* The same of devices without requests, such as those that are made of others. */
SEC("tp_btf/block_bio_complete")
int BPF_PROG(machine_read_done, struct request_queue *queue, struct bio *bio)
{
	return read_done((__u64)bio);
}

/*
 * What the two programs of a read do, without one; for calibration. A disk takes so long, and
 * so differently long, that what they add to it cannot be told.
 */
SEC("uprobe.multi")
int read_rehearsed(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 *process = watched_as(id >> 32);
	__u64 key = PT_REGS_SP(ctx);

	if (!process)
		return 0;
	read_asked(key, id, *process, 4096, 0);
	return read_done(key);
}

struct machine_event_types {
	struct event_off_cpu off_cpu;
	struct event_on_cpu on_cpu;
	struct event_woken woken;
	struct event_thread_ended ended;
	struct event_thread_name name;
	struct event_fault fault;
	struct event_block_read read;
} machine_event_types SEC(".bss.types");

#endif
