//! Kernel records as Rust values. The only place that reads record bytes as
//! structs; their types come from the compiled object.
#![expect(unsafe_code, reason = "`Plain` promises that any bytes are a valid value of the generated types")]

use crate::skeleton::types::{
    bulk_experts, bulk_head, event_backends, event_barrier, event_block_read, event_call_begin,
    event_call_end, event_copy_begin, event_copy_end, event_copy_ends, event_copy_name, event_counters,
    event_decode_begin, event_decode_end, event_draft_accepted, event_fault, event_fused_begin,
    event_graph_begin, event_graph_end, event_graph_nodes, event_head, event_kv_operation,
    event_more_counters, event_off_cpu, event_on_cpu, event_op_begin, event_process, event_scheduler_begin,
    event_scheduler_end, event_sequence_run, event_split_begin, event_split_end, event_split_nodes,
    event_thread_ended, event_thread_name, event_tokens, event_ubatch_begin, event_ubatch_end,
    event_wait_begin, event_wait_end, event_woken, shard,
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
        #[inline]
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
    12 SequenceRun event_sequence_run,
    13 KvOperation event_kv_operation,
    14 CallBegin event_call_begin,
    15 CallEnd event_call_end,
    16 DraftAccepted event_draft_accepted,
    17 Tokens event_tokens,
    19 SchedulerBegin event_scheduler_begin,
    20 SchedulerEnd event_scheduler_end,
    21 Backends event_backends,
    22 SplitBegin event_split_begin,
    23 SplitNodes event_split_nodes,
    24 SplitEnd event_split_end,
    25 CopyBegin event_copy_begin,
    26 CopyEnds event_copy_ends,
    27 CopyName event_copy_name,
    28 CopyEnd event_copy_end,
    29 WaitBegin event_wait_begin,
    30 WaitEnd event_wait_end,
    31 Counters event_counters,
    32 MoreCounters event_more_counters,
    33 OffCpu event_off_cpu,
    34 OnCpu event_on_cpu,
    35 Woken event_woken,
    36 ThreadEnded event_thread_ended,
    37 ThreadName event_thread_name,
    38 Fault event_fault,
    39 BlockRead event_block_read,
}

// SAFETY: `repr(C)`, integers only, explicit padding.
unsafe impl Plain for bulk_head {}

// SAFETY: as above.
unsafe impl Plain for bulk_experts {}

/// A record of the bulk channel.
#[derive(Clone, Debug)]
pub enum Bulk {
    /// Experts that tokens were sent to.
    Experts(bulk_experts, Vec<u32>),
}

impl Bulk {
    /// Time, thread, kind, process, CPU, length.
    pub fn head(&self) -> &bulk_head {
        match self {
            Self::Experts(record, _) => &record.head,
        }
    }
}

/// Decodes a record of the bulk channel; `None` when its kind is unknown or it
/// is shorter than it says.
pub fn parse_bulk(bytes: &[u8]) -> Option<Bulk> {
    let mut head = bulk_head::default();
    plain::copy_from_bytes(&mut head, bytes).ok()?;
    let bytes = bytes.get(..head.length as usize)?;
    match head.kind {
        18 => {
            let mut record = bulk_experts::default();
            plain::copy_from_bytes(&mut record, bytes).ok()?;
            let values = (record.count as usize).checked_mul(record.ranks as usize)?;
            let bytes = bytes.get(size_of::<bulk_experts>()..)?;
            let values = bytes.get(..values.checked_mul(4)?)?.chunks_exact(4);
            let values = values.map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
            Some(Bulk::Experts(record, values.collect()))
        }
        _ => None,
    }
}

impl event_thread_name {
    /// The name; threads name themselves, so that it may be anything.
    pub fn text(&self) -> String {
        let name = self.name.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect()
    }
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

impl event_sequence_run {
    /// Tokens that have an output; `None` when the build does not tell.
    pub fn outputs(&self) -> Option<u32> {
        Some(self.outputs_further & 0xff_ffff).filter(|&outputs| outputs != 0xff_ffff)
    }

    /// How many further sequences the tokens belong to; 255 for that many or more.
    pub fn further(&self) -> u8 {
        (self.outputs_further >> 24) as u8
    }
}

impl event_kv_operation {
    /// What tells one KV cache from another: low bits of its address.
    pub fn memory(&self) -> u32 {
        self.memory_kind & !15
    }

    /// `enum kv_kind`.
    pub fn kind(&self) -> u8 {
        (self.memory_kind & 15) as u8
    }

    /// The sequence; below 0 for all of them, `None` when it is out of range.
    pub fn sequence(&self) -> Option<i32> {
        Some(self.sequence_value as i32 >> 22).filter(|&sequence| sequence != -512)
    }

    /// What is added, divided by, or the sequence copied to; `None` when it is out of range.
    pub fn value(&self) -> Option<i32> {
        Some((self.sequence_value << 10) as i32 >> 10).filter(|&value| value != -(1 << 21))
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
    fn bulk_records_are_as_long_as_they_say() {
        let record = bulk_experts {
            head: bulk_head { time: 5, kind: 18, length: 88, ..bulk_head::default() },
            count: 3,
            ranks: 2,
            ..bulk_experts::default()
        };
        // SAFETY: integers without padding.
        let mut bytes = unsafe { plain::as_bytes(&record) }.to_vec();
        assert_eq!(bytes.len(), 64);
        bytes.extend([1u32, 2, 3, 4, 5, 6].iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend([9; 16]);
        let Some(Bulk::Experts(_, values)) = parse_bulk(&bytes) else { panic!("experts") };
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
        // More values than the record has room for.
        bytes[52] = 4;
        assert!(parse_bulk(&bytes).is_none());
        assert!(parse_bulk(&bytes[..80]).is_none() && parse_bulk(&[]).is_none());
    }

    #[test]
    fn packed_numbers_come_apart() {
        let operation = |sequence: i32, value: i32| {
            let sequence_value = (sequence as u32) << 22 | value as u32 & 0x3f_ffff;
            event_kv_operation { memory_kind: 0x1234_5670 | 4, sequence_value, ..Default::default() }
        };
        let shift = operation(3, -512);
        assert_eq!((shift.memory(), shift.kind()), (0x1234_5670, 4));
        assert_eq!((shift.sequence(), shift.value()), (Some(3), Some(-512)));
        let unknown = operation(-512, -(1 << 21));
        assert_eq!((unknown.sequence(), unknown.value()), (None, None));
        assert_eq!(operation(-1, 0).sequence(), Some(-1));
        let run = |outputs_further| event_sequence_run { outputs_further, ..Default::default() };
        assert_eq!((run(2 << 24 | 7).outputs(), run(2 << 24 | 7).further()), (Some(7), 2));
        assert_eq!((run(0xff_ffff).outputs(), run(0xff_ffff).further()), (None, 0));
    }

    #[test]
    fn a_shard_keeps_what_each_side_writes_on_its_own_cache_line() {
        assert_eq!((shard_word::HEAD, shard_word::TAIL, shard_word::LOST, shard_word::COUNT), (0, 8, 16, 80));
    }
}
