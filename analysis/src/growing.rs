//! Traces that are still being recorded: a file without footer grows by whole blocks, and what was
//! in it stays as it is. Such a file is opened anew now and then; what was decoded of it is taken along.

use crate::Trace;
use crate::cache::Part;
use llmtrace_format::Warning;

impl Trace {
    /// Whether the recorder has not closed the file: it may grow, or nobody ever closes it.
    pub fn is_open_ended(&self) -> bool {
        self.warnings.iter().any(|warning| matches!(warning, Warning::NoFooter { .. }))
    }

    /// Takes over what was decoded of the same file when it was shorter.
    pub fn adopt(&self, earlier: &Self) {
        for (part, value) in earlier.cache.known() {
            let (lane, index) = match part {
                Part::Segment(lane, index) | Part::Rows(lane, index) => (lane as usize, index as usize),
            };
            let Some(old) = earlier.lanes().get(lane) else { continue };
            let Some(at) = self.lanes().iter().position(|lane| lane.id == old.id) else { continue };
            let Some(new) = self.lanes().get(at) else { continue };
            let block = |index: usize| Some(old.blocks.get(index)?.info == new.blocks.get(index)?.info);
            let part = match part {
                Part::Rows(..) => block(index).map(|same| (same, Part::Rows(at as u32, index as u32))),
                // The last segment may have grown since.
                Part::Segment(..) => old.segments.get(index).zip(new.segments.get(index)).map(|(a, b)| {
                    let same = a.blocks == b.blocks && a.buckets == b.buckets && a.nodes == b.nodes;
                    let same = same && a.blocks.clone().all(|index| block(index) == Some(true));
                    (same, Part::Segment(at as u32, index as u32))
                }),
            };
            if let Some((true, part)) = part {
                self.cache.put(part, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::synth::{Options, bytes};
    use crate::{Part, Trace};
    use llmtrace_format::Source;

    fn open(bytes: &[u8]) -> Trace {
        Trace::open(Source::Bytes(bytes.to_vec()), &mut |_| true).unwrap()
    }

    #[test]
    fn what_was_decoded_is_taken_along_and_nothing_else() {
        let all = bytes(&Options::new(400_000, 2, 1)).unwrap();
        let whole = open(&all);
        assert!(!whole.is_open_ended());
        let blocks = &whole.file.blocks;
        let cut = |at: usize| open(&all[..blocks[at].offset as usize]);
        let (early, late) = (cut(blocks.len() / 2), cut(blocks.len() * 3 / 4));
        assert!(early.is_open_ended() && late.is_open_ended());
        assert!(late.op_span_count() > early.op_span_count() && late.tokens.len() > early.tokens.len());
        for lane in 0..early.lanes().len() {
            for block in 0..early.lanes()[lane].blocks.len() {
                early.decode(Part::Rows(lane as u32, block as u32));
            }
            for segment in 0..early.lanes()[lane].segments.len() {
                early.decode(Part::Segment(lane as u32, segment as u32));
            }
        }
        let last = early.lanes()[0].segments.len() - 1;
        assert!(late.cache_bytes() == 0 && early.cache_bytes() > 0);
        late.adopt(&early);
        assert!(late.cache_bytes() > 0 && late.cache_bytes() <= early.cache_bytes());
        let fresh = cut(blocks.len() * 3 / 4);
        for (lane, of) in early.lanes().iter().enumerate() {
            for block in 0..of.blocks.len().min(2) {
                let (taken, read) =
                    (late.rows_if_known(lane, block).ready().unwrap(), fresh.rows(lane, block).unwrap());
                assert_eq!(format!("{taken:?}"), format!("{read:?}"));
            }
        }
        let grown = early.lanes()[0].segments[last].blocks != late.lanes()[0].segments[last].blocks;
        assert_eq!(late.segment_if_known(0, last).ready().is_none(), grown);
    }
}
