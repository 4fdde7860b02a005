//! Kernel records as Rust values. The only place that reads record bytes as
//! structs; their types come from the compiled object.
#![expect(unsafe_code, reason = "`Plain` promises that any bytes are a valid value of the generated types")]

use crate::skeleton::types::{
    event_barrier, event_decode_begin, event_decode_end, event_fused_begin, event_graph_begin,
    event_graph_end, event_head, event_op_begin, event_ubatch_begin, event_ubatch_end,
};
use plain::Plain;

/// What every record begins with: time, thread, kind, CPU.
pub type Head = event_head;

macro_rules! events {
    ($($kind:literal $name:ident $type:ident $size:literal,)+) => {
        /// A record of the kernel side.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "events.h describes them")]
        pub enum Event { $( $name($type), )+ }

        impl Event {
            /// Time, thread, kind, CPU.
            pub fn head(&self) -> &Head {
                match self { $( Self::$name(event) => &event.head, )+ }
            }
        }

        $(
            // SAFETY: `repr(C)`, integers only, explicit padding (events.h).
            unsafe impl Plain for $type {}
            const _: () = assert!(size_of::<$type>() == $size);
        )+

        /// Decodes one record; `None` when its kind is unknown or it is too short.
        pub fn parse(bytes: &[u8]) -> Option<Event> {
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
    1 DecodeBegin event_decode_begin 24,
    2 DecodeEnd event_decode_end 24,
    3 UbatchBegin event_ubatch_begin 24,
    4 UbatchEnd event_ubatch_end 16,
    5 GraphBegin event_graph_begin 48,
    6 GraphEnd event_graph_end 16,
    7 OpBegin event_op_begin 32,
    8 FusedBegin event_fused_begin 40,
    9 Barrier event_barrier 16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_unknown_records_are_refused() {
        let mut bytes = vec![0u8; 32];
        assert!(parse(&bytes).is_none());
        bytes[12] = 7;
        bytes[16] = 42;
        assert!(matches!(parse(&bytes), Some(Event::OpBegin(event)) if event.tensor == 42));
        assert!(parse(&bytes[..20]).is_none());
        assert!(parse(&[]).is_none());
    }
}
