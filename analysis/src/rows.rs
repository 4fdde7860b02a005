//! A decoded block of op spans: columns as narrow as their values allow.

use crate::{Nanos, OpSpan};
use llmtrace_format::{BlockInfo, ColumnSet, OpSpans, Result, TraceFile};
use std::sync::OnceLock;

/// A column of unsigned integers.
#[derive(Debug)]
enum Ints {
    /// All rows have this value.
    All(u64),
    Narrow(Vec<u8>),
    Short(Vec<u16>),
    Medium(Vec<u32>),
    Wide(Vec<u64>),
}

impl Ints {
    fn new<T: Copy + PartialEq + Into<u64>>(values: &[T]) -> Self {
        let Some(&first) = values.first() else { return Self::All(0) };
        if values.iter().all(|&value| value == first) {
            return Self::All(first.into());
        }
        let all = values.iter().fold(0, |all, &value| all | value.into());
        // The values fit, as the match says.
        let values = values.iter().map(|&value| value.into());
        match all {
            0..=0xFF => Self::Narrow(values.map(|value| value as u8).collect()),
            0x100..=0xFFFF => Self::Short(values.map(|value| value as u16).collect()),
            0x1_0000..=0xFFFF_FFFF => Self::Medium(values.map(|value| value as u32).collect()),
            _ => Self::Wide(values.collect()),
        }
    }

    /// The value of a row; zero behind the end.
    #[inline]
    fn get(&self, row: usize) -> u64 {
        match self {
            Self::All(value) => *value,
            Self::Narrow(values) => values.get(row).copied().unwrap_or(0).into(),
            Self::Short(values) => values.get(row).copied().unwrap_or(0).into(),
            Self::Medium(values) => values.get(row).copied().unwrap_or(0).into(),
            Self::Wide(values) => values.get(row).copied().unwrap_or(0),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::All(_) => 0,
            Self::Narrow(values) => values.len(),
            Self::Short(values) => values.len() * 2,
            Self::Medium(values) => values.len() * 4,
            Self::Wide(values) => values.len() * 8,
        }
    }
}

/// The rows of one block, in order of time.
#[derive(Debug)]
pub(crate) struct Rows {
    len: usize,
    begin: Nanos,
    /// Begins, since `begin`.
    begins: Ints,
    computes: Ints,
    waits: Ints,
    nodes: Ints,
    fused: Ints,
    graph_spans: Ints,
    threads: Ints,
    cpus: Ints,
    touched_by_loss: Ints,
    index: OnceLock<FoldIndex>,
}

impl Rows {
    /// Decodes a block.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn read(file: &TraceFile, info: &BlockInfo) -> Result<Self> {
        let table: OpSpans = file.read(info, ColumnSet::ALL)?;
        let begin = info.range.begin;
        let mut end_before = begin;
        let begins: Vec<u64> = table
            .gap
            .iter()
            .zip(&table.compute)
            .zip(&table.wait)
            .map(|((&gap, &compute), &wait)| {
                let at = end_before.saturating_add(gap);
                end_before = at.saturating_add(compute).saturating_add(wait);
                at - begin
            })
            .collect();
        Ok(Self {
            len: begins.len(),
            begin,
            begins: Ints::new(&begins),
            computes: Ints::new(&table.compute),
            waits: Ints::new(&table.wait),
            nodes: Ints::new(&table.node),
            fused: Ints::new(&table.fused),
            graph_spans: Ints::new(&table.graph_span),
            threads: Ints::new(&table.thread),
            cpus: Ints::new(&table.cpu),
            touched_by_loss: Ints::new(&table.touched_by_loss),
            index: OnceLock::new(),
        })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A row; meaningless behind the end.
    #[inline]
    pub(crate) fn span(&self, row: usize) -> OpSpan {
        OpSpan {
            begin: self.begin(row),
            compute: self.computes.get(row),
            wait: self.waits.get(row),
            node: self.node(row),
            fused: self.fused.get(row) as u32,
            graph_span: self.graph_span(row),
            thread: self.threads.get(row) as u32,
            cpu: self.cpus.get(row) as u32,
            touched_by_loss: self.touched_by_loss.get(row) != 0,
        }
    }

    /// A row, if it exists.
    pub(crate) fn get(&self, row: usize) -> Option<OpSpan> {
        (row < self.len).then(|| self.span(row))
    }

    #[inline]
    pub(crate) fn begin(&self, row: usize) -> Nanos {
        self.begin.saturating_add(self.begins.get(row))
    }

    #[inline]
    pub(crate) fn end(&self, row: usize) -> Nanos {
        self.begin(row).saturating_add(self.computes.get(row)).saturating_add(self.waits.get(row))
    }

    #[inline]
    pub(crate) fn compute(&self, row: usize) -> u64 {
        self.computes.get(row)
    }

    #[inline]
    pub(crate) fn node(&self, row: usize) -> u32 {
        self.nodes.get(row) as u32
    }

    #[inline]
    pub(crate) fn graph_span(&self, row: usize) -> u32 {
        self.graph_spans.get(row) as u32
    }

    /// The first row from `from` on for which `before` does not hold, which
    /// holds for none behind it.
    pub(crate) fn partition(&self, from: usize, before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (from.min(self.len), self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bytes of memory, also those that folding will take.
    pub(crate) fn bytes(&self) -> usize {
        let columns = [
            &self.begins,
            &self.computes,
            &self.waits,
            &self.nodes,
            &self.fused,
            &self.graph_spans,
            &self.threads,
            &self.cpus,
            &self.touched_by_loss,
        ];
        columns.iter().map(|column| column.bytes()).sum::<usize>() + self.len + self.len / 2 + 512
    }

    /// Sums of compute and wait of the rows from `from` to `to`.
    pub(crate) fn sums(&self, from: usize, to: usize) -> (u64, u64) {
        let (mut compute, mut wait) = (0u64, 0u64);
        let mut add = |(more, longer): (u64, u64)| {
            compute = compute.saturating_add(more);
            wait = wait.saturating_add(longer);
        };
        let mut row = from;
        while row < to {
            if row.is_multiple_of(FAN) && row + FAN <= to {
                // Whole groups between here and the last one: a difference of running sums.
                let index = self.index();
                let (first, last) = (row / FAN, to / FAN);
                let at = |group: usize| index.sums.get(group).copied().unwrap_or_default();
                add((at(last).0.saturating_sub(at(first).0), at(last).1.saturating_sub(at(first).1)));
                row = last * FAN;
            } else {
                add((self.computes.get(row), self.waits.get(row)));
                row += 1;
            }
        }
        (compute, wait)
    }

    /// The row that computed longest of those from `from` to `to`, in time
    /// logarithmic in their number.
    pub(crate) fn longest(&self, mut from: usize, to: usize) -> usize {
        let longest = &self.index().longest;
        let mut best = from;
        while from < to {
            // The largest aligned group that begins here and ends in time.
            let mut level = 0;
            let mut size = 1;
            while level < longest.len() && from.is_multiple_of(size * FAN) && from + size * FAN <= to {
                size *= FAN;
                level += 1;
            }
            let known = level.checked_sub(1).and_then(|level| longest.get(level)?.get(from / size));
            let candidate = known.map_or(from, |&row| row as usize);
            if self.compute(candidate) > self.compute(best) {
                best = candidate;
            }
            from += size;
        }
        best
    }

    fn index(&self) -> &FoldIndex {
        self.index.get_or_init(|| FoldIndex::new(self))
    }
}

/// Rows in a group of [`FoldIndex`].
const FAN: usize = 16;

/// What folding needs besides the rows; made when a block is first folded.
#[derive(Debug)]
struct FoldIndex {
    /// Compute and wait of all rows before each group.
    sums: Vec<(u64, u64)>,
    /// `longest[level][i]`: the longest row among `FAN.pow(level + 1)` from
    /// `i * FAN.pow(level + 1)`.
    longest: Vec<Vec<u32>>,
}

impl FoldIndex {
    fn new(rows: &Rows) -> Self {
        let mut sums = Vec::with_capacity(rows.len / FAN + 1);
        let mut sum = (0u64, 0u64);
        for row in 0..rows.len {
            if row.is_multiple_of(FAN) {
                sums.push(sum);
            }
            sum = (sum.0.saturating_add(rows.computes.get(row)), sum.1.saturating_add(rows.waits.get(row)));
        }
        sums.push(sum);
        let longest_of = |rows_of: &mut dyn Iterator<Item = u32>| {
            // The first of several.
            rows_of.reduce(|a, b| if rows.compute(b as usize) > rows.compute(a as usize) { b } else { a })
        };
        let mut longest: Vec<Vec<u32>> = Vec::new();
        let mut below: Vec<u32> = (0..rows.len)
            .step_by(FAN)
            .filter_map(|first| longest_of(&mut (first as u32..(first + FAN).min(rows.len) as u32)))
            .collect();
        while below.len() > 1 {
            let above: Vec<u32> =
                below.chunks(FAN).filter_map(|chunk| longest_of(&mut chunk.iter().copied())).collect();
            longest.push(std::mem::replace(&mut below, above));
        }
        longest.push(below);
        Self { sums, longest }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use llmtrace_format::meta::Ending;
    use llmtrace_format::{Header, Source, Writer};

    /// A file with one lane of random spans.
    pub(crate) fn random_lane(seed: u64, count: usize) -> (Vec<OpSpan>, Vec<u8>) {
        let mut state = seed;
        let mut random = move |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % limit
        };
        let mut at = 0;
        let spans: Vec<OpSpan> = (0..count)
            .map(|_| {
                let long = random(20) == 0;
                let compute = random(if long { 50_000 } else { 900 }) + 1;
                let span = OpSpan { begin: at, compute, wait: random(300), ..OpSpan::default() };
                at = span.end() + random(200);
                span
            })
            .collect();
        let mut writer = Writer::new(Vec::new(), Header::new(1, 2)).unwrap();
        for span in &spans {
            writer.push_op_span(0, *span).unwrap();
        }
        (spans, writer.finish(&Ending::default()).unwrap())
    }

    #[test]
    fn rows_sums_and_longest_are_those_of_the_spans() {
        for (seed, count) in [(1, 1), (2, 15), (3, 16), (4, 17), (5, 5000)] {
            let (spans, bytes) = random_lane(seed, count);
            let file = TraceFile::open(Source::Bytes(bytes)).unwrap();
            let block = *file.blocks_of::<OpSpans>().next().unwrap();
            let rows = Rows::read(&file, &block).unwrap();
            assert_eq!((0..rows.len()).map(|row| rows.span(row)).collect::<Vec<_>>(), spans);
            for (from, to) in [(0, count), (1, 2), (15, 17), (16, 272), (3, 4097), (255, 4999)] {
                let (from, to) = (from.min(count - 1), to.min(count));
                let part = &spans[from..to];
                let sum = |of: fn(&OpSpan) -> u64| part.iter().map(of).sum::<u64>();
                assert_eq!(rows.sums(from, to), (sum(|span| span.compute), sum(|span| span.wait)));
                let longest = part.iter().map(|span| span.compute).max().unwrap();
                assert_eq!(rows.compute(rows.longest(from, to)), longest);
            }
        }
    }
}
