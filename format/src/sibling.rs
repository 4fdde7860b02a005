//! One lane's times told by another's.
//!
//! All threads that compute a node leave its barrier when the last one arrives, so
//! that begin + compute + wait is the same in all their lanes. Where one lane is
//! known (the *reference*), another one's computing follows from its waiting, or
//! the other way round, and costs next to nothing.

use crate::block::BlockInfo;
use crate::column::{from_planes, planes, unzigzag, zigzag};
use crate::constants::encoding;
use crate::tables::OpSpans;
use crate::{Nanos, TimeRange};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bytes before the planes.
const HEADER_LEN: usize = 24;
/// Rows of references that are kept for the blocks to come, 16 bytes each.
const KEPT_ROWS: usize = 1 << 21;

/// Which column of op spans is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Compute,
    Wait,
}

impl Told {
    /// Its index in [`OpSpans`], which is also its id in the file.
    pub(crate) fn column(self) -> usize {
        match self {
            Self::Compute => 1,
            Self::Wait => 2,
        }
    }

    pub(crate) fn of_id(id: u16) -> Option<Self> {
        [Self::Compute, Self::Wait].into_iter().find(|told| told.column() == usize::from(id))
    }
}

/// Which block is the reference, as its header says: blocks may move in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    lane: u32,
    rows: u32,
    range: TimeRange,
}

impl Reference {
    pub(crate) fn to(info: &BlockInfo) -> Self {
        Self { lane: info.lane, rows: info.rows, range: info.range }
    }

    pub(crate) fn is(&self, info: &BlockInfo) -> bool {
        *self == Self::to(info)
    }

    /// Reads the header; the planes follow.
    pub(crate) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, planes) = bytes.split_at_checked(HEADER_LEN)?;
        let mut fields = crate::block::Fields::new(header);
        let (lane, rows) = (fields.u32(), fields.u32());
        Some((Self { lane, rows, range: TimeRange { begin: fields.u64(), end: fields.u64() } }, planes))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lane.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.range.begin.to_le_bytes());
        out.extend_from_slice(&self.range.end.to_le_bytes());
    }
}

/// What a row is matched by: graph span, then node.
fn key(graph_span: u32, node: u32) -> u64 {
    u64::from(graph_span) << 32 | u64::from(node)
}

/// When each row of a block ended, and what it is matched by.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    keys: Vec<u64>,
    ends: Vec<Nanos>,
}

impl Ends {
    /// Of rows whose columns gap, compute, wait, node and graph span are decoded.
    /// Sums wrap, so that every row has exactly one end.
    pub(crate) fn of(rows: &OpSpans, begin: Nanos) -> Self {
        let times = rows.gap.iter().zip(&rows.compute).zip(&rows.wait);
        let ends = times.scan(begin, |end, ((gap, compute), wait)| {
            *end = end.wrapping_add(*gap).wrapping_add(*compute).wrapping_add(*wait);
            Some(*end)
        });
        Self { keys: keys(rows).collect(), ends: ends.collect() }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many of the rows have a match.
    pub(crate) fn matches(&self, rows: &OpSpans) -> usize {
        let mut matcher = Matcher { reference: self, at: 0 };
        keys(rows).filter(|&key| matcher.end(key).is_some()).count()
    }
}

fn keys(rows: &OpSpans) -> impl Iterator<Item = u64> + '_ {
    rows.graph_span.iter().zip(&rows.node).map(|(&graph_span, &node)| key(graph_span, node))
}

/// Walks a reference beside the rows that refer to it.
struct Matcher<'a> {
    reference: &'a Ends,
    at: usize,
}

impl Matcher<'_> {
    /// The end of the first row that is not before the one asked for, if it is that.
    /// Never goes back: a lane's graph spans and nodes grow.
    fn end(&mut self, key: u64) -> Option<Nanos> {
        let rest = self.reference.keys.get(self.at..)?;
        self.at += rest.iter().take_while(|&&before| before < key).count();
        let found = self.reference.keys.get(self.at)? == &key;
        self.reference.ends.get(self.at).copied().filter(|_| found)
    }
}

/// Encodes a column of `rows`, which begin at `begin`; returns the encoding's number.
pub(crate) fn encode(
    rows: &OpSpans,
    begin: Nanos,
    told: Told,
    info: &BlockInfo,
    reference: &Ends,
    out: &mut Vec<u8>,
) -> u8 {
    let (values, others) = match told {
        Told::Compute => (&rows.compute, &rows.wait),
        Told::Wait => (&rows.wait, &rows.compute),
    };
    let mut matcher = Matcher { reference, at: 0 };
    let mut end = begin;
    let times = rows.gap.iter().zip(others).zip(values).zip(keys(rows));
    let differences: Vec<u64> = times
        .map(|(((gap, other), value), key)| {
            let known = end.wrapping_add(*gap).wrapping_add(*other);
            end = known.wrapping_add(*value);
            let told = matcher.end(key).map_or(0, |end| end.wrapping_sub(known));
            zigzag(value.wrapping_sub(told) as i64)
        })
        .collect();
    out.clear();
    Reference::to(info).write(out);
    planes(differences.into_iter(), out);
    encoding::SIBLING
}

/// Decodes the planes behind the header. `rows` has the columns gap, node, graph
/// span and the other of compute and wait. `None` when the bytes are not exactly that.
pub(crate) fn decode(
    bytes: &[u8],
    rows: &OpSpans,
    begin: Nanos,
    told: Told,
    reference: &Ends,
) -> Option<Vec<u64>> {
    let (mut values, rest) = from_planes(bytes, rows.gap.len())?;
    let others = match told {
        Told::Compute => &rows.wait,
        Told::Wait => &rows.compute,
    };
    let mut matcher = Matcher { reference, at: 0 };
    let mut end = begin;
    for (((value, gap), other), key) in values.iter_mut().zip(&rows.gap).zip(others).zip(keys(rows)) {
        let known = end.wrapping_add(*gap).wrapping_add(*other);
        let told = matcher.end(key).map_or(0, |end| end.wrapping_sub(known));
        *value = told.wrapping_add(unzigzag(*value) as u64);
        end = known.wrapping_add(*value);
    }
    rest.is_empty().then_some(values)
}

/// Finds reference blocks, and keeps the ends of some for the next lanes.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// Where each block of op spans is in the list of blocks, by lane and begin.
    places: OnceLock<HashMap<(u32, Nanos), usize>>,
    /// By the offset of their blocks; the last was used last.
    known: Mutex<Vec<(u64, Arc<Ends>)>>,
}

impl References {
    /// The block of op spans that is meant.
    pub(crate) fn find(&self, reference: &Reference, blocks: &[BlockInfo]) -> Option<BlockInfo> {
        let places = self.places.get_or_init(|| {
            let of_spans =
                blocks.iter().enumerate().filter(|(_, info)| info.kind == crate::constants::kind::OP_SPANS);
            of_spans.map(|(index, info)| ((info.lane, info.range.begin), index)).collect()
        });
        let index = *places.get(&(reference.lane, reference.range.begin))?;
        blocks.get(index).copied().filter(|info| reference.is(info))
    }

    pub(crate) fn get(&self, offset: u64) -> Option<Arc<Ends>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let index = known.iter().position(|(at, _)| *at == offset)?;
        let found = known.remove(index);
        let ends = Arc::clone(&found.1);
        known.push(found);
        Some(ends)
    }

    pub(crate) fn put(&self, offset: u64, ends: &Arc<Ends>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(at, _)| *at != offset);
        known.push((offset, Arc::clone(ends)));
        let mut rows = known.iter().map(|(_, ends)| ends.len()).sum::<usize>();
        while rows > KEPT_ROWS && known.len() > 1 {
            rows -= known.remove(0).1.len();
        }
    }
}

#[cfg(test)]
#[path = "sibling_tests.rs"]
mod tests;
