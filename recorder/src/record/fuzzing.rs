//! Records and files of others through the pure parts of the recorder.

use super::assemble::{Assembler, DescribeGraph};
use super::graphs::{GraphCall, KnownGraph};
use super::machine::{Machine, MachineEvents, model_tensors};
use llmtrace_bpf::{SLOT_WORDS, parse, parse_bulk};
use llmtrace_format::TimeRange;
use llmtrace_format::meta::Recording;
use std::io::Cursor;
use std::rc::Rc;

/// Addresses of nodes.
const NODES: [u64; 4] = [1000, 2000, 3000, 4000];
/// More than any process has.
const NO_PID: u32 = u32::MAX - 1;
/// Kinds of records that are not told from the last ones.
const KINDS: u64 = 48;

struct Fixed(Option<Rc<KnownGraph>>);

impl DescribeGraph for Fixed {
    fn describe(&mut self, call: &GraphCall) -> Option<Rc<KnownGraph>> {
        self.0.clone().filter(|_| call.count > 0)
    }

    fn memory_of(&mut self, context: u64) -> Option<u64> {
        context.is_multiple_of(2).then_some(context / 2)
    }
}

/// Puts records together. The first byte of each says how far it is brought near to what could
/// come: few threads, times that follow each other, nodes of the graph.
pub fn fuzz_kernel_records(bytes: &[u8]) {
    let mut graphs = Fixed(Some(Rc::new(KnownGraph::new(3, NODES.to_vec(), 77))));
    let mut assembler = Assembler::new(100, NO_PID, 0, Rc::default());
    let mut machine = MachineEvents::new(100, NO_PID, 0);
    machine.begin(0, Machine { sched: true, faults: true });
    let mut time = 100u64;
    for record in bytes.chunks(1 + 8 * SLOT_WORDS) {
        let Some((&how, record)) = record.split_first() else { continue };
        let mut words = [0u64; SLOT_WORDS];
        for (word, bytes) in words.iter_mut().zip(record.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        if how & 1 == 0 {
            time = time.saturating_add(words[0] & 0xff_ffff);
            words[0] = time;
        }
        if how & 2 == 0 {
            words[1] = words[1] & !0xffff_ffff | words[1] & 3;
        }
        let kind = (words[1] >> 32 & 0xff) % KINDS;
        words[1] = words[1] & !(0xff << 32) | kind << 32;
        if how & 4 == 0 {
            words[2] = NODES[words[2] as usize % NODES.len()];
        }
        match how >> 4 {
            0 => {
                let range = TimeRange::new(words[2], words[2].saturating_add(words[3]));
                assembler.lost(range, how & 8 != 0, how & 4 != 0);
                machine.lost(range, &[33, 38, 39]);
            }
            1 => assembler.ops_end(words[2]),
            2 => assembler.ops_begin(words[2]),
            3 => assembler.experts.settle(words[2]),
            4 => {
                if let Some(bulk) = parse_bulk(record) {
                    assembler.handle_bulk(&bulk);
                }
            }
            5 => assembler.count_barriers(),
            _ => {
                if let Some(event) = parse(&words)
                    && !machine.handle(&event)
                {
                    assembler.handle(&event, &mut graphs);
                }
            }
        }
    }
    assembler.finish();
    machine.settle(time);
    machine.finish(time);
    let mut recording = Recording::default();
    machine.take(&mut recording, |_| 0, |row| assert!(row.range().end >= row.range().begin, "{row:?}"));
    for graph in &assembler.rows.graphs {
        for (lane, spans) in &graph.lanes {
            let inside = |span: &llmtrace_format::OpSpan| {
                (span.node as usize) < NODES.len() && span.end() >= span.begin
            };
            assert!(spans.iter().all(inside), "lane {lane}: {spans:?}");
        }
    }
}

/// Reads the header of a model file.
pub fn fuzz_model_header(bytes: &[u8]) {
    if let Ok(tensors) = model_tensors(Cursor::new(bytes), bytes.len() as u64) {
        assert!(tensors.len() <= bytes.len(), "more tensors than bytes");
    }
}

/// Reads the mappings of a process.
pub fn fuzz_mappings(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = super::maps::parse(line, |_| true);
    }
}
