//! The rings between kernel and recorder: one a CPU, in memory that both map.
//!
//! The kernel side claims slots by moving a ring's head and writes a record's
//! time last; we take records up to the first slot without a time, and move the
//! tail. Records of one thread may lie in several rings, when it moved from CPU
//! to CPU, so those of all rings are merged by time. What is younger than the
//! begin of a pass waits for the next one: a record of before may not have been
//! whole yet when its ring was looked at.
#![expect(unsafe_code, reason = "the kernel writes the memory, so that it is read as atomics")]

use anyhow::{Context as _, Result};
use libbpf_rs::MapCore;
use llmtrace_bpf::{Event, SLOT_WORDS, parse, shard_word};
use llmtrace_format::tables::EVENT_KINDS;
use memmap2::{MmapOptions, MmapRaw};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of all rings together, unless there are many CPUs.
const RING_BYTES: u64 = 16 << 20;
/// Slots of each ring: bounds, as powers of two. At a million events a second,
/// as many as a thread can make, the fewest last 16 milliseconds.
const MIN_SHIFT: u32 = 14;
const MAX_SHIFT: u32 = 17;
/// Records taken in one pass from all rings, and at least from each; bounds the
/// consumer's memory.
const PASS: u64 = 1 << 16;
const MIN_PASS: u64 = 1 << 10;

/// How many slots each CPU's ring has, as a power of two.
///
/// `bytes` of all rings together are asked for tests.
pub(super) fn slots_shift(cpus: usize, bytes: Option<u64>) -> u32 {
    let slots = |bytes: u64| bytes / (8 * SLOT_WORDS as u64) / cpus.max(1) as u64;
    match bytes {
        Some(bytes) => slots(bytes).max(1).ilog2(),
        None => slots(RING_BYTES).max(1).ilog2().clamp(MIN_SHIFT, MAX_SHIFT),
    }
}

/// Events lost so far, by CPU and kind.
pub(super) type Lost = Vec<[u64; EVENT_KINDS.len()]>;

/// The consumer's end.
pub(super) struct Rings {
    shards: Words,
    slots: Words,
    shift: u32,
    rings: Vec<Taken>,
    /// Taken, and not yet passed on.
    held: Vec<Event>,
    /// Losses that do not count.
    before: Lost,
    /// Up to which time events were passed on.
    passed: u64,
}

/// How far a ring has been read.
#[derive(Clone, Copy, Default)]
struct Taken {
    tail: u64,
    /// Time of the last record.
    last: u64,
}

impl Rings {
    /// Maps the rings of `cpus` CPUs.
    ///
    /// # Errors
    /// When the maps cannot be mapped.
    pub(super) fn new(shards: &impl MapCore, slots: &impl MapCore, cpus: usize, shift: u32) -> Result<Self> {
        Ok(Self {
            shards: Words::map(shards, cpus * shard_word::COUNT)?,
            slots: Words::map(slots, (cpus << shift) * SLOT_WORDS)?,
            shift,
            rings: vec![Taken::default(); cpus],
            held: Vec::new(),
            before: Lost::new(),
            passed: 0,
        })
    }

    /// Passes on the events that happened before `now` (`CLOCK_MONOTONIC`, taken
    /// just before), up to a bound: a target that produces faster than we take must
    /// not keep us from writing and from stopping. Returns whether more wait.
    pub(super) fn drain(&mut self, now: u64, handle: impl FnMut(&Event)) -> bool {
        let mut until = now;
        let mut more = false;
        for cpu in 0..self.rings.len() {
            let (all, last) = self.take(cpu);
            if let Some(last) = last {
                until = until.min(last);
                more |= all;
            }
        }
        self.pass_on(until, handle);
        more
    }

    /// Passes on everything; for when nothing is attached any more.
    pub(super) fn drain_all(&mut self, mut handle: impl FnMut(&Event)) {
        while self.drain(u64::MAX, &mut handle) {}
        self.pass_on(u64::MAX, handle);
    }

    /// Takes what is whole in one ring. When something is left, says whether it is
    /// left for the next pass, and the time of the last record taken.
    fn take(&mut self, cpu: usize) -> (bool, Option<u64>) {
        let shard = cpu * shard_word::COUNT;
        let per_ring = (PASS / self.rings.len().max(1) as u64).max(MIN_PASS);
        let (Some(head), Some(taken)) = (self.shards.get(shard + shard_word::HEAD), self.rings.get_mut(cpu))
        else {
            return (false, None);
        };
        let head = head.load(Ordering::Acquire);
        let end = head.min(taken.tail + per_ring);
        let mask = (1u64 << self.shift) - 1;
        let mut whole = true;
        while taken.tail < end {
            let slot = ((cpu as u64) << self.shift | taken.tail & mask) as usize * SLOT_WORDS;
            let word = |index: usize| self.slots.get(slot + index);
            let Some(time) = word(0) else { break };
            let mut words = [time.load(Ordering::Acquire), 0, 0, 0];
            if words[0] == 0 {
                whole = false;
                break;
            }
            for (index, value) in words.iter_mut().enumerate().skip(1) {
                *value = word(index).map_or(0, |word| word.load(Ordering::Relaxed));
            }
            time.store(0, Ordering::Relaxed);
            self.held.extend(parse(&words));
            taken.last = words[0];
            taken.tail += 1;
        }
        if let Some(tail) = self.shards.get(shard + shard_word::TAIL) {
            tail.store(taken.tail, Ordering::Release);
        }
        (whole, (taken.tail < head).then_some(taken.last))
    }

    /// The time before which all events have been passed on.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    fn pass_on(&mut self, until: u64, handle: impl FnMut(&Event)) {
        self.passed = until;
        // Runs of each ring, so nearly sorted; stable, as records of one program
        // have one time.
        self.held.sort_by_key(|event| event.head().time);
        let ready = self.held.partition_point(|event| event.head().time < until);
        let (ready, _) = self.held.split_at(ready);
        ready.iter().for_each(handle);
        let ready = ready.len();
        self.held.drain(..ready);
    }

    /// Events lost since the programs were loaded, or the losses forgotten.
    pub(super) fn lost(&self) -> Lost {
        let mut lost = self.all_lost();
        for (counts, before) in lost.iter_mut().zip(&self.before) {
            counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
        }
        lost
    }

    /// Counts losses from now on.
    pub(super) fn forget_losses(&mut self) {
        self.before = self.all_lost();
    }

    fn all_lost(&self) -> Lost {
        let of = |cpu: usize| {
            std::array::from_fn(|kind| {
                let word = self.shards.get(cpu * shard_word::COUNT + shard_word::LOST + kind);
                word.map_or(0, |word| word.load(Ordering::Relaxed))
            })
        };
        (0..self.rings.len()).map(of).collect()
    }
}

/// Memory of a BPF array, word by word.
struct Words {
    memory: MmapRaw,
    len: usize,
}

impl Words {
    fn map(map: &impl MapCore, len: usize) -> Result<Self> {
        let memory = MmapOptions::new().len(len * 8).map_raw(&map.as_fd());
        Ok(Self { memory: memory.context("cannot map the ring of a CPU")?, len })
    }

    fn get(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.len {
            return None;
        }
        // SAFETY: the mapping is page-aligned, `len` words long, and lives as long
        // as we do; nothing but atomics accesses it here.
        Some(unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(index)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rings without a kernel: two CPUs, four slots each.
    fn rings() -> Rings {
        let memory = |len: usize| {
            let memory = MmapOptions::new().len(len * 8).map_anon().expect("maps");
            Words { memory: memory.into(), len }
        };
        Rings {
            shards: memory(2 * shard_word::COUNT),
            slots: memory(2 * 4 * SLOT_WORDS),
            shift: 2,
            rings: vec![Taken::default(); 2],
            held: Vec::new(),
            before: Lost::new(),
            passed: 0,
        }
    }

    fn claim(rings: &Rings, cpu: usize) -> usize {
        let head = rings.shards.get(cpu * shard_word::COUNT).expect("in range");
        let slot = head.fetch_add(1, Ordering::Relaxed) as usize & 3;
        (cpu * 4 + slot) * SLOT_WORDS
    }

    fn publish(rings: &Rings, slot: usize, time: u64) {
        let word = |index: usize| rings.slots.get(slot + index).expect("in range");
        word(1).store(9 << 32, Ordering::Relaxed);
        word(0).store(time, Ordering::Release);
    }

    fn drain(rings: &mut Rings, now: u64) -> Vec<u64> {
        let mut times = Vec::new();
        rings.drain(now, |event| times.push(event.head().time));
        times
    }

    #[test]
    fn records_of_all_rings_come_by_time_and_young_ones_wait() {
        let mut rings = rings();
        for (cpu, time) in [(0, 10), (1, 5), (1, 20), (0, 30)] {
            let slot = claim(&rings, cpu);
            publish(&rings, slot, time);
        }
        assert_eq!(drain(&mut rings, 25), [5, 10, 20]);
        assert_eq!(drain(&mut rings, 40), [30]);
        assert_eq!(drain(&mut rings, 50), [0u64; 0]);
    }

    #[test]
    fn a_record_that_is_not_whole_holds_back_what_came_after_it() {
        let mut rings = rings();
        let first = claim(&rings, 0);
        publish(&rings, first, 10);
        let unfinished = claim(&rings, 0);
        // The same thread, which moved to the other CPU after its record at 12.
        let (behind, moved) = (claim(&rings, 0), claim(&rings, 1));
        publish(&rings, behind, 12);
        publish(&rings, moved, 13);
        assert_eq!(drain(&mut rings, 100), [0u64; 0]);
        publish(&rings, unfinished, 11);
        assert_eq!(drain(&mut rings, 100), [10, 11, 12, 13]);
    }

    #[test]
    fn slots_are_used_again_once_taken() {
        let mut rings = rings();
        for round in 0..5 {
            for index in 0..4 {
                let slot = claim(&rings, 1);
                publish(&rings, slot, 1 + round * 4 + index);
            }
            assert_eq!(drain(&mut rings, 1000).len(), 4);
        }
    }

    #[test]
    fn losses_of_before_can_be_forgotten() {
        let mut rings = rings();
        let lose = |rings: &Rings, cpu: usize, count: u64| {
            let word = rings.shards.get(cpu * shard_word::COUNT + shard_word::LOST + 9).expect("in range");
            word.fetch_add(count, Ordering::Relaxed);
        };
        lose(&rings, 1, 5);
        assert_eq!(rings.lost()[1][9], 5);
        rings.forget_losses();
        lose(&rings, 1, 2);
        assert_eq!((rings.lost()[0][9], rings.lost()[1][9]), (0, 2));
    }

    #[test]
    fn rings_of_many_cpus_stay_long_enough() {
        assert_eq!(slots_shift(2, None), 17);
        assert_eq!(slots_shift(16, None), 15);
        assert_eq!(slots_shift(256, None), MIN_SHIFT);
        assert_eq!(slots_shift(2, Some(4096)), 6);
    }
}
