//! Kernel records as Rust values. The only place that reads record bytes as
//! structs; their types come from the compiled object.
#![expect(unsafe_code, reason = "`Plain` promises that any bytes are a valid value of the generated types")]

use crate::skeleton::types::{
    event_backends, event_barrier, event_copy_begin, event_copy_end, event_copy_ends, event_copy_name,
    event_decode_begin, event_decode_end, event_fused_begin, event_graph_begin, event_graph_end,
    event_graph_nodes, event_head, event_op_begin, event_process, event_scheduler_begin, event_scheduler_end,
    event_split_begin, event_split_end, event_split_nodes, event_ubatch_begin, event_ubatch_end,
    event_wait_begin, event_wait_end, shard,
};
use plain::Plain;
use std::mem::offset_of;

/// What every record begins with: time, thread, kind, process, CPU.
pub type Head = event_head;

/// Eight-byte words of a slot, which holds one record. The first is its time,
/// and 0 until the record is whole.
pub const SLOT_WORDS: usize = 4;

/// Where things lie in a `struct shard`, in eight-byte words.
pub mod shard_word {
    use super::{offset_of, shard};
    /// Records claimed so far.
    pub const HEAD: usize = offset_of!(shard, head) / 8;
    /// Records taken so far.
    pub const TAIL: usize = offset_of!(shard, tail) / 8;
    /// Events lost, one word a kind.
    pub const LOST: usize = offset_of!(shard, lost) / 8;
    /// All of it.
    pub const COUNT: usize = size_of::<shard>() / 8;
}

macro_rules! events {
    ($($kind:literal $name:ident $type:ident,)+) => {
        /// A record of the kernel side.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "events.h describes them")]
        pub enum Event { $( $name($type), )+ }

        impl Event {
            /// Time, thread, kind, process, CPU.
            pub fn head(&self) -> &Head {
                match self { $( Self::$name(event) => &event.head, )+ }
            }
        }

        $(
            // SAFETY: `repr(C)`, integers only, explicit padding (events.h).
            unsafe impl Plain for $type {}
            const _: () = assert!(size_of::<$type>() == SLOT_WORDS * 8);
        )+

        /// Decodes the record in a slot; `None` when its kind is unknown.
        pub fn parse(words: &[u64; SLOT_WORDS]) -> Option<Event> {
            // SAFETY: integers have no padding.
            let bytes = unsafe { plain::as_bytes(words) };
            let mut head = Head::default();
            plain::copy_from_bytes(&mut head, bytes).ok()?;
            match head.kind {
                $( $kind => {
                    let mut event = $type::default();
                    plain::copy_from_bytes(&mut event, bytes).ok()?;
                    Some(Event::$name(event))
                } )+
                _ => None,
            }
        }
    };
}

// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Plain for event_head {}

events! {
    1 DecodeBegin event_decode_begin,
    2 DecodeEnd event_decode_end,
    3 UbatchBegin event_ubatch_begin,
    4 UbatchEnd event_ubatch_end,
    5 GraphBegin event_graph_begin,
    6 GraphEnd event_graph_end,
    7 OpBegin event_op_begin,
    8 FusedBegin event_fused_begin,
    9 Barrier event_barrier,
    10 GraphNodes event_graph_nodes,
    11 Process event_process,
    12 SchedulerBegin event_scheduler_begin,
    13 SchedulerEnd event_scheduler_end,
    14 Backends event_backends,
    15 SplitBegin event_split_begin,
    16 SplitNodes event_split_nodes,
    17 SplitEnd event_split_end,
    18 CopyBegin event_copy_begin,
    19 CopyEnds event_copy_ends,
    20 CopyName event_copy_name,
    21 CopyEnd event_copy_end,
    22 WaitBegin event_wait_begin,
    23 WaitEnd event_wait_end,
}

impl event_split_nodes {
    /// Address of the list of nodes.
    pub fn nodes(&self) -> u64 {
        self.nodes_count & ((1 << 48) - 1)
    }

    /// How many nodes; `None` when there are too many to tell.
    pub fn count(&self) -> Option<u32> {
        let count = (self.nodes_count >> 48) as u32;
        (count < 0xffff).then_some(count)
    }
}

impl event_fused_begin {
    /// Address of the first node.
    pub fn tensor(&self) -> u64 {
        self.tensor_ith & ((1 << 48) - 1)
    }

    /// The thread's place in the pool.
    pub fn ith(&self) -> u32 {
        (self.tensor_ith >> 48) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_decode_and_unknown_ones_are_refused() {
        let mut words = [5, 0, 42, 3];
        assert!(parse(&words).is_none());
        words[1] = 7 << 32 | 9 << 40 | 11 << 48 | 13;
        let Some(Event::OpBegin(event)) = parse(&words) else { panic!("an op begin") };
        assert_eq!((event.head.time, event.head.tid, event.head.process, event.head.cpu), (5, 13, 9, 11));
        assert_eq!((event.tensor, event.ith), (42, 3));
        words[1] = 8 << 32;
        words[2] = 7 << 48 | 42;
        let Some(Event::FusedBegin(event)) = parse(&words) else { panic!("a fused begin") };
        assert_eq!((event.tensor(), event.ith(), event.last_tensor), (42, 7, 3));
    }

    #[test]
    fn a_shard_keeps_what_each_side_writes_on_its_own_cache_line() {
        assert_eq!((shard_word::HEAD, shard_word::TAIL, shard_word::LOST, shard_word::COUNT), (0, 8, 16, 80));
    }
}
