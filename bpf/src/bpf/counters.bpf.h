/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Counters: what a thread counted since it last hit a probe of an operator.
 *
 * What the kernel counts for each thread anyway is read from its task. Events of perf are
 * opened once for each CPU, and belong to the thread that runs there: counter_switch adds
 * up what was counted whenever a thread leaves a CPU, so that neither other threads nor
 * another CPU get into its counts, and threads need not be known beforehand.
 */
#ifndef LLMTRACE_COUNTERS_BPF_H
#define LLMTRACE_COUNTERS_BPF_H

/* Set before load: how many counters, what each is (enum counter_kind), and the stride of
 * counter_events. */
const volatile __u32 counter_count = 0;
const volatile __u32 counter_kinds[COUNTERS] = {};
const volatile __u32 counter_cpus = 1;

/* Whether counters are read; off while the price of a hit without them is measured. */
volatile __u32 counting = 0;

/* Event of counter i on CPU c at i * counter_cpus + c. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, __u32);
} counter_events SEC(".maps");

/* Of one thread. Only the thread's own programs touch it, and counter_switch on its CPU. */
struct counter_state {
	__u32 switches;		/* how often it was given a CPU */
	__u32 begun;		/* bit i: last[i] and before[i] hold */
	__u32 based;		/* bit i: base[i] holds */
	__u32 pad;
	__u64 last[COUNTERS];	/* at the last probe */
	struct bpf_perf_event_value before[COUNTERS];	/* the same of events */
	struct bpf_perf_event_value base[COUNTERS];	/* the CPU's event when it was given the CPU */
	struct bpf_perf_event_value sum[COUNTERS];	/* on CPUs before */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct counter_state);
} counter_states SEC(".maps");

/*
 * The time that a thread has had on a CPU, but for an unknown constant. Its task is
 * brought up to date at ticks and switches only; since then it runs. The scheduler's
 * clock and ours differ by a constant, too, and its clock for tasks stands still during
 * interrupts and while a hypervisor runs others: by how much in all, the CPU tells.
 */
static __always_inline __u64 task_clock(struct task_struct *task, __u64 time)
{
	__u64 start = 0, sum = 0, stood = 0;

	/* Not every kernel tells the address of its run queues; kernels with groups lead there. */
	if (bpf_core_field_exists(task->se.cfs_rq)) {
		struct rq *rq = task->se.cfs_rq->rq;

		stood = rq->clock - rq->clock_task;
	}

	/* A tick may come in between. */
	for (int i = 0; i < 3; i++) {
		start = *(volatile __u64 *)&task->se.exec_start;
		sum = *(volatile __u64 *)&task->se.sum_exec_runtime;
		if (start == *(volatile __u64 *)&task->se.exec_start)
			break;
	}
	return sum + time - start - stood;
}

static __always_inline __u64 task_count(struct task_struct *task, __u32 kind, __u64 time)
{
	switch (kind) {
	case COUNTER_PAGE_FAULTS:
		return task->min_flt + task->maj_flt;
	case COUNTER_MINOR_FAULTS:
		return task->min_flt;
	case COUNTER_MAJOR_FAULTS:
		return task->maj_flt;
	case COUNTER_CONTEXT_SWITCHES:
		return task->nvcsw + task->nivcsw;
	case COUNTER_VOLUNTARY_SWITCHES:
		return task->nvcsw;
	case COUNTER_INVOLUNTARY_SWITCHES:
		return task->nivcsw;
	case COUNTER_MIGRATIONS:
		return task->se.nr_migrations;
	case COUNTER_TASK_CLOCK:
		return task_clock(task, time);
	}
	return 0;
}

/* Packs a count into 32 bits, of which it takes 30; what is too large loses its low bits. */
static __always_inline __u32 packed(__u64 count, __u32 flags)
{
	if (count < 1 << 30)
		return count | flags;
	if (count >> COUNT_SHIFT < 1 << 30)
		return count >> COUNT_SHIFT | COUNT_SHIFTED | flags;
	return COUNT_UNKNOWN;
}

/* What an event counted between two of its readings. */
static __always_inline __u32 event_count(struct bpf_perf_event_value *from, struct bpf_perf_event_value *to)
{
	__u64 count = to->counter - from->counter;
	__u64 enabled = to->enabled - from->enabled;
	__u64 running = to->running - from->running;

	if (running == enabled)
		return packed(count, 0);
	/* Others had its place all the time, or the arithmetic would overflow. */
	if (!running || running > enabled || count >> 31 || enabled >> 32)
		return COUNT_UNKNOWN;
	return packed(count * enabled / running, COUNT_SCALED);
}

/* Reads the events of this CPU, and what they make together with those before; bits of
 * those that could be read. */
static __always_inline __u32 read_events(struct counter_state *state, __u32 cpu)
{
	__u32 based = state->based, read = 0;

	for (__u32 i = 0; i < COUNTERS; i++) {
		struct bpf_perf_event_value now;

		if (i >= counter_count || counter_kinds[i] != COUNTER_EVENT)
			continue;
		if (bpf_perf_event_read_value(&counter_events, i * counter_cpus + cpu, &now, sizeof(now)))
			continue;
		if (!(based & 1 << i)) {
			state->base[i] = now;
			state->based |= 1 << i;
			continue;
		}
		state->sum[i].counter += now.counter - state->base[i].counter;
		state->sum[i].enabled += now.enabled - state->base[i].enabled;
		state->sum[i].running += now.running - state->base[i].running;
		state->base[i] = now;
		read |= 1 << i;
	}
	return read;
}

/*
 * Counts of the current thread since it was last here, or, without `tell`, only remembers
 * where they stand. Comes before the event that it belongs to, of the same time.
 */
static __always_inline void count(struct shard *shard, __u64 time, __u64 id, __u32 cpu, __u8 process,
				  bool tell)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct counter_state *state;
	__u32 counts[COUNTERS];
	__u32 switches, begun, read;

	state = bpf_task_storage_get(&counter_states, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return;
	switches = *(volatile __u32 *)&state->switches;
	begun = state->begun;
	read = read_events(state, cpu);
	/* It was preempted meanwhile, and the sums were changed by two: begin anew. */
	if (*(volatile __u32 *)&state->switches != switches) {
		read = 0;
		state->based = 0;
	}
	state->begun = 0;
	for (__u32 i = 0; i < COUNTERS; i++) {
		counts[i] = COUNT_UNKNOWN;
		if (i >= counter_count)
			continue;
		if (counter_kinds[i] == COUNTER_EVENT) {
			if (!(read & 1 << i))
				continue;
			if (begun & 1 << i)
				counts[i] = event_count(&state->before[i], &state->sum[i]);
			state->before[i] = state->sum[i];
		} else {
			__u64 now = task_count(task, counter_kinds[i], time);

			/* The clock seems to go back by what an interrupt took. */
			if (begun & 1 << i)
				counts[i] = packed((__s64)(now - state->last[i]) < 0 ? 0 : now - state->last[i], 0);
			state->last[i] = now;
		}
		state->begun |= 1 << i;
	}
	if (!tell)
		return;
	PUT(event_counters, EVENT_COUNTERS, process,
		event->counts[0] = counts[0];
		event->counts[1] = counts[1];
		event->counts[2] = counts[2];
		event->counts[3] = counts[3];
	);
	if (counter_count > 4)
		PUT(event_more_counters, EVENT_MORE_COUNTERS, process,
			event->counts[0] = counts[4];
			event->counts[1] = counts[5];
			event->counts[2] = counts[6];
			event->counts[3] = counts[7];
		);
}

#define COUNT(tell) do {							\
	if (counter_count && counting)						\
		count(shard, time, id, cpu, cookie >> 8, tell);			\
} while (0)

/* Only loaded when a counter is an event of perf. */
SEC("tp_btf/sched_switch")
int BPF_PROG(counter_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counter_state *state;

	state = bpf_task_storage_get(&counter_states, prev, 0, 0);
	if (state) {
		read_events(state, cpu);
		state->based = 0;
	}
	state = bpf_task_storage_get(&counter_states, next, 0, 0);
	if (state) {
		state->based = 0;
		read_events(state, cpu);
		state->switches++;
	}
	return 0;
}

/* Keeps the record types in the object's BTF. */
struct counter_types {
	struct event_counters counters;
	struct event_more_counters more_counters;
} counter_types SEC(".bss.types");

#endif
