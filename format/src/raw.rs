//! Blocks outside of a file: encoded once, written into any number of files.

use crate::block::{self, BlockHead, BlockInfo, EncodedColumn, write_block};
use crate::constants::{BLOCK_HEADER_LEN, DIRECTORY_ENTRY_LEN, NO_LANE, encoding, kind};
use crate::meta::{Graph, StrId};
use crate::tables::{self, ColumnSet, OpSpan, OpSpans, Table as _};
use crate::writer::ZSTD_LEVEL;
use crate::{Error, Result, TimeRange, column, structured};

/// An encoded block, for [`crate::Writer::write_raw`]. Its references hold in
/// every file that has the same strings, threads, graphs and graph spans.
#[derive(Clone, Debug)]
pub struct RawBlock {
    /// Its header; the offset means nothing.
    pub(crate) info: BlockInfo,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Content,
}

/// What a writer has to know of it.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A graph, and the operator of each of its nodes.
    Graph(u32, Vec<StrId>),
    OpSpans,
}

impl RawBlock {
    /// A block with one graph.
    ///
    /// # Errors
    /// When it is larger than a block may be.
    pub fn graph(graph: &Graph) -> Result<Self> {
        let bytes = structured::to_bytes(graph).ok_or(malformed("larger than a block can hold"))?;
        let head = BlockHead { kind: kind::GRAPH, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        let column = EncodedColumn { id: 0, encoding: encoding::STRUCTURED, bytes };
        Self::encode(&head, &[column], Content::Graph(graph.id, node_ops(graph)))
    }

    /// A block with op spans of one lane, in order; a span that begins before the
    /// one before it has ended is moved.
    ///
    /// # Errors
    /// When they are more than a block can hold.
    pub fn op_spans(lane: u32, spans: &[OpSpan]) -> Result<Self> {
        let mut table = OpSpans::default();
        let begin = spans.first().map_or(0, |span| span.begin);
        let mut end = begin;
        for span in spans {
            let span = OpSpan { begin: span.begin.max(end), ..*span };
            table.push_span(&span, end);
            end = span.end();
        }
        let range = TimeRange::new(begin, end);
        let head = BlockHead { kind: kind::OP_SPANS, lane, rows: table.len() as u32, range };
        Self::encode(&head, &tables::encode(&table), Content::OpSpans)
    }

    fn encode(head: &BlockHead, columns: &[EncodedColumn], content: Content) -> Result<Self> {
        let mut bytes = Vec::new();
        let info = write_block(head, columns, ZSTD_LEVEL, 0, &mut bytes)?;
        bytes.shrink_to_fit();
        Ok(Self { info, bytes, content })
    }

    /// Bytes that it takes in memory, and in a file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.info.rows == 0
    }

    /// Its rows, when they are op spans.
    pub(crate) fn decode(&self) -> Result<OpSpans> {
        let fixed = self.bytes.first_chunk::<BLOCK_HEADER_LEN>().ok_or(malformed("cut off"))?;
        let (info, crc) = block::read_fixed(fixed, 0)?;
        let payload = self.bytes.get(BLOCK_HEADER_LEN..).unwrap_or_default();
        let directory = payload.get(..usize::from(info.columns) * DIRECTORY_ENTRY_LEN);
        let directory = block::read_directory(fixed, &info, crc, directory.ok_or(malformed("cut off"))?)?;
        let mut table = OpSpans::default();
        for (index, spec) in tables::selected::<OpSpans>(ColumnSet::ALL) {
            let entry = directory.iter().find(|entry| entry.id == spec.id);
            let entry = entry.ok_or(Error::MissingColumn { offset: 0, column: spec.name })?;
            let (at, len) = block::stored_range(entry);
            let stored = payload.get(at as usize..at as usize + len as usize).ok_or(malformed("cut off"))?;
            let bytes = block::unpack(entry, stored, &info)?;
            let values = column::decode(&bytes, entry.encoding, info.rows);
            if !values.is_some_and(|values| table.set_column(index, values)) {
                return Err(malformed("a column does not decode"));
            }
        }
        Ok(table)
    }
}

/// The operator of each node.
pub(crate) fn node_ops(graph: &Graph) -> Vec<StrId> {
    graph.tensors.iter().take(graph.nodes as usize).map(|tensor| tensor.op).collect()
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { what: "block in memory", offset: 0, why }
}
