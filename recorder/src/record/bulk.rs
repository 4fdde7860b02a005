//! The bulk channel: arrays that do not fit into a slot of a ring.
//!
//! One ring buffer of BPF for all CPUs, drained like the others and never
//! waking us. What comes is held until the events of its time have been passed
//! on, so that whoever gets it knows the graph it belongs to. What finds no room
//! is counted with the losses of the rings, by kind.

use anyhow::{Context as _, Result};
use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};
use llmtrace_bpf::{Bulk, parse_bulk};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of the ring: some 64 layers of a prefill of 512 tokens, 8 experts each.
const BYTES: u64 = 4 << 20;
/// The least that the kernel takes.
const MIN_BYTES: u64 = 4096;
/// Most of one pass, as of the other rings: 8 MB.
const MAX_HELD_BYTES: usize = 8 << 20;

/// Bytes of the ring; `asked` is for tests.
pub(super) fn ring_bytes(asked: Option<u64>) -> u32 {
    asked.unwrap_or(BYTES).clamp(MIN_BYTES, 1 << 30).next_power_of_two() as u32
}

/// The consumer's end.
pub(super) struct BulkRing {
    ring: RingBuffer<'static>,
    taken: Rc<RefCell<Taken>>,
}

#[derive(Default)]
struct Taken {
    records: Vec<Bulk>,
    bytes: usize,
}

impl BulkRing {
    /// # Errors
    /// When the map cannot be mapped.
    pub(super) fn new(map: &impl MapCore) -> Result<Self> {
        let taken = Rc::new(RefCell::new(Taken::default()));
        let to = taken.clone();
        let mut builder = RingBufferBuilder::new();
        let take = move |bytes: &[u8]| {
            let mut taken = to.borrow_mut();
            taken.bytes += bytes.len();
            taken.records.extend(parse_bulk(bytes));
            // Beyond a bound the rest waits in the kernel, which counts what it drops.
            if taken.bytes > MAX_HELD_BYTES { -1 } else { 0 }
        };
        builder.add(map, take).context("cannot map the bulk channel")?;
        Ok(Self { ring: builder.build().context("cannot map the bulk channel")?, taken })
    }

    /// Passes on what happened before `until`, by time.
    pub(super) fn drain(&mut self, until: u64, mut handle: impl FnMut(&Bulk)) {
        if self.taken.borrow().bytes <= MAX_HELD_BYTES {
            // It fails when we had enough.
            let _ = self.ring.consume_raw();
        }
        let mut taken = self.taken.borrow_mut();
        // Runs of each thread, so nearly sorted; stable, as the pieces of an array have one time.
        taken.records.sort_by_key(|record| record.head().time);
        let ready = taken.records.partition_point(|record| record.head().time < until);
        taken.records.drain(..ready).for_each(|record| handle(&record));
        taken.bytes = taken.records.iter().map(|record| record.head().length as usize).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_has_a_size_that_the_kernel_takes() {
        assert_eq!(ring_bytes(None), 4 << 20);
        assert_eq!(ring_bytes(Some(1)), 4096);
        assert_eq!(ring_bytes(Some(65_537)), 131_072);
    }
}
