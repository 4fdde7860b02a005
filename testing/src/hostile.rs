//! Files that somebody made to do harm, each with what is to be said of it.

use crate::file::{Block, Column, End, File};
use llmtrace_format::constants::{NO_LANE, NONE, compression, encoding, kind};
use llmtrace_format::meta::{CeilingRate, Ceilings, Ending, Graph, Host, Recording, Target, Tensor};
use llmtrace_format::tables::{Decode, GraphSpan, Mark, Thread, Ubatch};
use llmtrace_format::{Header, OpSpan, Writer};

/// A hostile file.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What it is, in a word that can be a file name.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// A kind of problem that `check` finds; `None` for files that are only strange.
    pub problem: Option<&'static str>,
}

/// Control characters, escape sequences, marks that turn the direction of text, and a name that
/// looks like another.
pub const EVIL_TEXT: &str =
    "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gnp.exe\u{2066}\r\n\u{0}\u{85}\u{feff}\u{200f}";

/// All hostile files.
///
/// # Errors
/// When one cannot be written, which is a bug.
pub fn all() -> llmtrace_format::Result<Vec<Hostile>> {
    let of = |name, problem, file: File| Hostile { name, bytes: file.write(), problem };
    Ok(vec![
        of("strings-bomb", Some("too_large"), File::of((0..4).map(|_| strings_bomb()).collect())),
        of("column-bomb", Some("too_large"), File::of((0..200).map(|_| column_bomb()).collect())),
        of("constant-rows", Some("too_large"), File::of((0..500).map(constant_decodes).collect())),
        of("constant-spans", Some("too_large"), File::of((0..40).map(constant_spans).collect())),
        of("footer-bomb", Some("no_footer"), footer_bomb()),
        of("giant-counts", Some("damaged"), giant_counts()),
        of("lying-lengths", Some("damaged"), lying_lengths()),
        of("footer-count", Some("no_footer"), File { end: End::Raw(vec![0xff; 16]), ..File::of(vec![]) }),
        of(
            "overlapping-blocks",
            Some("overlap"),
            File::of((0..20).map(|_| spans_at(1000, 50, 10)).collect()),
        ),
        of("many-lanes", None, many_lanes(3000)),
        of("many-graphs", Some("duplicate_id"), many_graphs(5000)?),
        Hostile { name: "cyclic-graph", bytes: written(&cyclic_graph(), 0)?, problem: None },
        Hostile { name: "dangling-ids", bytes: dangling()?, problem: Some("no_graph") },
        Hostile { name: "extreme-times", bytes: extreme_times()?, problem: None },
        Hostile { name: "odd-ceilings", bytes: odd_ceilings()?, problem: Some("no_footer") },
        Hostile { name: "evil-text", bytes: evil_text()?, problem: None },
    ])
}

fn structured(kind: u16, raw: Vec<u8>) -> Block {
    Block::structured(kind, raw)
}

/// Two million empty strings, in a few KB.
fn strings_bomb() -> Block {
    let count = 2u64 << 20;
    let mut raw = vec![0; 8 + 8 * count as usize];
    raw[..8].copy_from_slice(&count.to_le_bytes());
    structured(kind::STRINGS, raw)
}

/// A table whose columns are 16 MiB of zeros each.
fn column_bomb() -> Block {
    let stored = zstd::bulk::compress(&vec![0; 16 << 20], 1).unwrap_or_default();
    let column = |id| Column {
        id,
        encoding: encoding::PLANES,
        compression: compression::ZSTD,
        stored: Some((stored.clone(), 16 << 20)),
        ..Column::default()
    };
    let columns = (0..16).map(column).collect();
    Block { kind: kind::GRAPH_SPANS, version: 1, lane: NO_LANE, rows: 1 << 20, columns, ..Block::default() }
}

fn constant_decodes(_: u32) -> Block {
    let columns = (0..9).map(|id| Column::constant(id, 0)).collect();
    Block { kind: kind::DECODES, version: 1, lane: NO_LANE, rows: 1 << 20, columns, ..Block::default() }
}

fn constant_spans(index: u32) -> Block {
    spans_at(u64::from(index) << 18, 1 << 18, 1)
}

/// A block of op spans, each of so many nanoseconds.
fn spans_at(begin: u64, rows: u32, nanos: u64) -> Block {
    let columns = (0..9).map(|id| Column::constant(id, if id == 1 { nanos } else { 0 })).collect();
    let end = begin + u64::from(rows) * nanos;
    Block { kind: kind::OP_SPANS, version: 1, lane: 0, rows, begin, end, columns }
}

/// A footer of a few KB with a million lanes.
fn footer_bomb() -> File {
    let lanes = 1u64 << 20;
    let mut summaries = vec![0; 8 + 52 * lanes as usize];
    summaries[..8].copy_from_slice(&lanes.to_le_bytes());
    File { end: End::Footer(summaries), ..File::of(vec![spans_at(0, 10, 5)]) }
}

/// Descriptions that say they have 2⁶⁴ − 1 of everything.
fn giant_counts() -> File {
    let kinds = [kind::RECORDING, kind::STRINGS, kind::GRAPH, kind::ENDING];
    File::of(kinds.map(|kind| structured(kind, vec![0xff; 4096])).to_vec())
}

/// Columns that say they decompress to other lengths than they do.
fn lying_lengths() -> File {
    let mut block = spans_at(0, 10, 5);
    for (column, claimed) in block.columns.iter_mut().zip([u32::MAX, 0, 1, 7, 9, 1 << 24, (1 << 24) + 1]) {
        let stored = zstd::bulk::compress(&column.raw, 1).unwrap_or_default();
        (column.compression, column.stored) = (compression::ZSTD, Some((stored, claimed)));
    }
    File::of(vec![block])
}

/// So many lanes with a row each.
fn many_lanes(lanes: u32) -> File {
    File::of((0..lanes).map(|lane| Block { lane, ..spans_at(u64::from(lane), 1, 3) }).collect())
}

/// So many graphs, all with the same id.
fn many_graphs(graphs: u32) -> llmtrace_format::Result<File> {
    let mut writer = Writer::new(Vec::new(), Header::new(1, 2))?;
    writer.write_graph(&Graph { id: 0, tensors: vec![Tensor::default()], nodes: 1 })?;
    let bytes = writer.finish(&Ending::default())?;
    let mut file = File::parse(&bytes).unwrap_or_else(|| File::of(Vec::new()));
    let graph = file.blocks.iter().find(|block| block.kind == kind::GRAPH).cloned();
    file.blocks.extend(graph.into_iter().cycle().take(graphs as usize));
    Ok(file)
}

/// A graph whose tensors are each other's sources and views.
fn cyclic_graph() -> Graph {
    let tensor = |index: u32| Tensor {
        sources: vec![(index + 1) % 64, index, (index + 63) % 64],
        view_of: Some((index + 1) % 64),
        ne: [i64::MAX, i64::MAX, -3, 1],
        nb: [u64::MAX; 4],
        ..Tensor::default()
    };
    Graph { id: 0, tensors: (0..64).map(tensor).collect(), nodes: 60 }
}

/// A trace of a graph, two lanes, whose times begin at `at`.
fn written(graph: &Graph, at: u64) -> llmtrace_format::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), Header::new(1, 2))?;
    writer.write_recording(&Recording::default())?;
    let op = writer.string("MUL_MAT");
    let mut graph = graph.clone();
    for (index, tensor) in graph.tensors.iter_mut().enumerate() {
        tensor.name = writer.string(&format!("blk.{}.ffn_up.weight-{index}", index / 8));
        tensor.op = op;
    }
    writer.write_graph(&graph)?;
    for lane in 0..2 {
        writer.push_thread(Thread { id: lane, ith: lane, tid: 7 + lane, pid: 7 });
    }
    writer.push_decode(Decode { id: 0, begin: at, end: at + 9000, tokens: 1, ..Decode::default() });
    writer.push_ubatch(Ubatch {
        id: 0,
        begin: at,
        end: at + 9000,
        tokens: 1,
        sequences: 1,
        ..Ubatch::default()
    });
    let span =
        GraphSpan { id: 0, begin: at, end: at + 9000, graph: graph.id, ubatch: 0, ..GraphSpan::default() };
    writer.push_graph_span(span);
    for node in 0..graph.nodes {
        for lane in 0..2 {
            let begin = at + u64::from(node) * 100;
            let span = OpSpan { begin, compute: 60, wait: 20, node, thread: lane, ..OpSpan::default() };
            writer.push_op_span(lane, span)?;
        }
    }
    writer.finish(&Ending { reason: "made up".into(), end_nanos: at + 9000, ..Ending::default() })
}

/// Every reference of every table to something that is not there.
fn dangling() -> llmtrace_format::Result<Vec<u8>> {
    let mut bytes = written(&cyclic_graph(), 0)?;
    if let Some(mut file) = File::parse(&bytes) {
        for block in &mut file.blocks {
            let references: &[u16] = match block.kind {
                kind::UBATCHES => &[3],
                kind::GRAPH_SPANS => &[3, 4, 10],
                kind::DECODES => &[7, 8],
                kind::OP_SPANS => &[3, 4, 5, 6, 7],
                _ => continue,
            };
            for id in references {
                block.columns.retain(|column| column.id != *id);
                block.columns.push(Column::constant(*id, u64::from(NONE) - 7 - u64::from(*id)));
            }
        }
        bytes = file.write();
    }
    Ok(bytes)
}

/// Times at the end of the range of numbers, and calls as long as all of it.
fn extreme_times() -> llmtrace_format::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), Header::new(u64::MAX, u64::MAX))?;
    writer.push_decode(Decode { id: 0, begin: 0, end: u64::MAX, tokens: u32::MAX, ..Decode::default() });
    writer.push_decode(Decode { id: 1, begin: u64::MAX - 1, end: u64::MAX, tokens: 1, ..Decode::default() });
    let ubatch =
        Ubatch { id: 0, begin: 0, end: u64::MAX, tokens: u32::MAX, sequences: u32::MAX, ..Ubatch::default() };
    writer.push_ubatch(ubatch);
    writer.push_graph_span(GraphSpan { id: 0, begin: 0, end: u64::MAX, graph: NONE, ..GraphSpan::default() });
    writer.push_thread(Thread { id: 0, ith: 0, tid: u32::MAX, pid: u32::MAX });
    for (begin, compute, wait) in [(0, 1 << 62, 1 << 62), (1 << 63, 1 << 62, 1 << 61), (u64::MAX - 3, 2, 1)] {
        writer.push_op_span(0, OpSpan { begin, compute, wait, ..OpSpan::default() })?;
    }
    writer.finish(&Ending { end_nanos: u64::MAX, ..Ending::default() })
}

/// Ceilings that no host has.
fn odd_ceilings() -> llmtrace_format::Result<Vec<u8>> {
    let rate = |threads, median| CeilingRate { threads, median, ..CeilingRate::default() };
    let rates = vec![rate(0, 0), rate(u32::MAX, u64::MAX), rate(1, 0), rate(1, u64::MAX), rate(2, 1)];
    let ceilings = Ceilings { rates, buffer_bytes: u64::MAX, ..Ceilings::default() };
    let mut writer = Writer::new(Vec::new(), Header::new(1, 2))?;
    writer.write_recording(&Recording { ceilings: Some(ceilings), ..Recording::default() })?;
    let first = File::parse(&writer.finish(&Ending::default())?);
    let mut graph = cyclic_graph();
    graph.tensors.iter_mut().for_each(|tensor| (tensor.ne, tensor.view_of) = ([8, 8, 1, 1], None));
    let rest = File::parse(&written(&graph, 0)?);
    let mut blocks: Vec<Block> = first.into_iter().flat_map(|first| first.blocks).collect();
    blocks.retain(|block| block.kind == kind::RECORDING);
    blocks.extend(rest.into_iter().flat_map(|rest| rest.blocks).filter(|it| it.kind != kind::RECORDING));
    Ok(File { end: End::Open, ..File::of(blocks) }.write())
}

/// [`EVIL_TEXT`] wherever a file has text.
fn evil_text() -> llmtrace_format::Result<Vec<u8>> {
    let evil = || EVIL_TEXT.to_owned();
    let mut writer = Writer::new(Vec::new(), Header::new(1, 2))?;
    writer.write_recording(&Recording {
        recorder_version: evil(),
        level_reason: evil(),
        host: Host { name: evil(), kernel: evil(), cpu_model: evil(), ..Host::default() },
        target: Target {
            pid: 7,
            exe: evil(),
            models: vec![evil(), evil()],
            ggml_version: evil(),
            ..Target::default()
        },
        ..Recording::default()
    })?;
    let name = writer.string(EVIL_TEXT);
    let tensor = Tensor { name, op: name, variant: name, ne: [4; 4], ..Tensor::default() };
    writer.write_graph(&Graph { id: 0, tensors: vec![tensor], nodes: 1 })?;
    writer.push_thread(Thread { id: 0, ith: 0, tid: 7, pid: 7 });
    writer.push_decode(Decode { id: 0, begin: 0, end: 900, tokens: 1, ..Decode::default() });
    writer.push_ubatch(Ubatch { id: 0, begin: 0, end: 900, tokens: 1, sequences: 1, ..Ubatch::default() });
    writer.push_graph_span(GraphSpan { id: 0, begin: 0, end: 900, ..GraphSpan::default() });
    writer.push_mark(Mark { time: 5, label: name.0 });
    for begin in [10, 300, 600] {
        writer.push_op_span(0, OpSpan { begin, compute: 200, ..OpSpan::default() })?;
    }
    writer.finish(&Ending { reason: evil(), end_nanos: 900, ..Ending::default() })
}
