//! What was chosen over time: a grid of columns (time) and rows (layers), as a timeline
//! shows it.
//!
//! ```text
//!           column ►
//! layer 0   ▓▓▓▓░░░░▓▓▓▓  ░░░░     one token's experts by rank, as long as it is computed
//! layer 1   ░░░░▓▓▓▓░░░░  ▓▓▓▓     (tokens of one micro-batch share its time equally), or, of
//! layer 2   ▓▓▓▓▓▓▓▓        ?      several tokens in one column, those chosen most often
//! ```
//!
//! Only blocks that touch the range are decoded, and memory is bounded by the grid and the
//! selections in the range.

use super::{ExpertRows, Spans, overlaps, place_of};
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::tables::{SelectionStatus, Selections};
use llmtrace_format::{ColumnSet, constants};
use std::collections::HashMap;

/// Cells of a strip, at most; it has fewer columns where that many layers and ranks need it.
const MAX_CELLS: usize = 1 << 23;
/// In place of an expert.
const NOBODY: u16 = u16::MAX;
/// How often each cell is written at most, on average: contexts may compute at once.
const BUDGET: usize = 16;
/// Graph spans that may be open at once: how far one that reaches into a range is looked for.
const OPEN: usize = 64;

/// The grid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strip {
    /// From when on.
    pub begin: Nanos,
    /// Length of a column.
    pub column_nanos: u64,
    /// Layers that have experts, in order.
    pub layers: Vec<StripLayer>,
    columns: usize,
    ranks: usize,
    /// By layer, then column.
    states: Vec<State>,
    /// By layer, column and rank.
    experts: Vec<u16>,
}

/// A row of the grid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StripLayer {
    /// The layer's number; `None` when the names do not tell.
    pub layer: Option<u32>,
    /// Name of the weights that the selection is used for.
    pub weights: String,
    /// Experts to choose from.
    pub experts: u32,
}

/// A cell of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Nothing was chosen.
    Empty,
    /// These were, by rank (as far as the grid has ranks); of several tokens those chosen most
    /// often.
    Chosen(&'a [u16]),
    /// Something was chosen that is not in the file.
    Missing(SelectionStatus),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    Chosen,
    Missing(SelectionStatus),
}

impl Strip {
    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The column that a time lies in; it may be behind the last one.
    pub fn column_at(&self, time: Nanos) -> usize {
        let column = time.saturating_sub(self.begin) / self.column_nanos.max(1);
        usize::try_from(column).unwrap_or(usize::MAX)
    }

    /// When a column begins.
    pub fn begin_of(&self, column: usize) -> Nanos {
        self.begin.saturating_add(self.column_nanos.saturating_mul(column as u64))
    }

    /// The cell of a row and a column.
    pub fn cell(&self, layer: usize, column: usize) -> Cell<'_> {
        if column >= self.columns {
            return Cell::Empty;
        }
        let at = layer.saturating_mul(self.columns).saturating_add(column);
        match self.states.get(at).copied().unwrap_or_default() {
            State::Empty => Cell::Empty,
            State::Missing(status) => Cell::Missing(status),
            State::Chosen => {
                let all = self.experts.get(at * self.ranks..(at + 1) * self.ranks).unwrap_or_default();
                let ranks = all.iter().position(|&expert| expert == NOBODY).unwrap_or(all.len());
                Cell::Chosen(all.get(..ranks).unwrap_or_default())
            }
        }
    }
}

/// Rows of experts that a strip of this range decodes.
pub fn strip_rows(trace: &Trace, range: TimeRange) -> u64 {
    let range = reach(trace, range);
    let blocks = trace.file.blocks_of::<ExpertRows>().filter(|block| overlaps(block.range, range));
    blocks.map(|block| u64::from(block.rows)).sum()
}

/// The strip of `range`, with columns of `column_nanos` and up to `ranks` experts a cell.
/// Damaged blocks are left out: what they had stays unknown. `going_on` returns `false` to
/// cancel, which gives nothing.
pub fn strip(
    trace: &Trace,
    range: TimeRange,
    column_nanos: u64,
    ranks: usize,
    going_on: &dyn Fn() -> bool,
) -> Option<Strip> {
    let mut filler = Filler::new(trace, range, column_nanos.max(1));
    let wide = reach(trace, range);
    for block in trace.file.blocks_of::<Selections>().filter(|block| overlaps(block.range, wide)) {
        if !going_on() {
            return None;
        }
        if let Ok(table) = trace.file.read::<Selections>(block, ColumnSet::ALL) {
            table.rows().for_each(|row| filler.selection(&row));
        }
    }
    filler.lay_out(ranks.max(1));
    let columns = ColumnSet::only::<ExpertRows>(&["selection", "token", "expert"]);
    let mut of = None;
    let mut token: Vec<u16> = Vec::new();
    for block in trace.file.blocks_of::<ExpertRows>().filter(|block| overlaps(block.range, wide)) {
        if !going_on() {
            return None;
        }
        let Ok(table) = trace.file.read::<ExpertRows>(block, columns) else { continue };
        for ((&selection, &index), &expert) in table.selection.iter().zip(&table.token).zip(&table.expert) {
            if of != Some((selection, index)) {
                if let Some((selection, index)) = of.replace((selection, index)) {
                    filler.token(selection, index, &token);
                }
                token.clear();
            }
            token.push(u16::try_from(expert).unwrap_or(NOBODY));
        }
    }
    if let Some((selection, index)) = of {
        filler.token(selection, index, &token);
    }
    Some(filler.finish())
}

/// The range with all of the graph spans that reach into it: selections are read in between.
fn reach(trace: &Trace, range: TimeRange) -> TimeRange {
    let spans = &trace.graph_spans;
    let first = spans.partition_point(|span| span.begin < range.begin);
    let before = spans.get(first.saturating_sub(OPEN)..first).unwrap_or_default();
    let begin = before.iter().find(|span| span.end > range.begin).map_or(range.begin, |span| span.begin);
    let after = spans.partition_point(|span| span.begin < range.end);
    let last = spans.get(after.saturating_sub(OPEN)..after).unwrap_or_default();
    let end = last.iter().map(|span| span.end).max().unwrap_or(range.end);
    TimeRange::new(begin, end.max(range.end).saturating_add(1))
}

/// A selection in the range.
struct Of {
    layer: u32,
    /// Of its graph span.
    time: TimeRange,
    tokens: u32,
    status: SelectionStatus,
}

/// Tokens of one layer in the column at hand.
#[derive(Default)]
struct Counted {
    column: usize,
    /// By expert; as long as the layer has experts once one was counted.
    counts: Vec<u32>,
    /// Experts that were counted, by first use.
    used: Vec<u16>,
}

struct Filler<'a> {
    trace: &'a Trace,
    spans: Spans<'a>,
    range: TimeRange,
    strip: Strip,
    selections: HashMap<u32, Of>,
    by_key: HashMap<(String, u32), u32>,
    of_node: HashMap<(u32, u32), Option<u32>>,
    counted: Vec<Counted>,
    /// Cells that may still be written: a file may claim that all its micro-batches last all
    /// the time.
    budget: usize,
}

impl<'a> Filler<'a> {
    fn new(trace: &'a Trace, range: TimeRange, column_nanos: u64) -> Self {
        let strip = Strip { begin: range.begin, column_nanos, ..Strip::default() };
        let (selections, by_key, of_node) = (HashMap::new(), HashMap::new(), HashMap::new());
        let spans = Spans::new(trace);
        Self { trace, spans, range, strip, selections, by_key, of_node, counted: Vec::new(), budget: 0 }
    }

    fn selection(&mut self, row: &llmtrace_format::tables::Selection) {
        let Some(span) = self.spans.of(row) else { return };
        let time = span.time;
        if time.end <= self.range.begin || time.begin >= self.range.end {
            return;
        }
        let key = (span.graph, row.node);
        let layer = match self.of_node.get(&key) {
            Some(&known) => known,
            None => {
                let layer = self.layer(span.graph, row.node);
                self.of_node.insert(key, layer);
                layer
            }
        };
        let Some(layer) = layer else { return };
        let status = SelectionStatus::from_u8(row.status);
        self.selections.insert(row.id, Of { layer, time, tokens: row.tokens, status });
    }

    fn layer(&mut self, graph: u32, node: u32) -> Option<u32> {
        let place = place_of(self.trace, graph, node)?;
        let key = (place.name.to_owned(), place.experts);
        if let Some(&layer) = self.by_key.get(&key) {
            return Some(layer);
        }
        let experts = self.strip.layers.iter().map(|layer| layer.experts).sum::<u32>();
        if experts.saturating_add(place.experts) > super::MAX_ALL_EXPERTS {
            return None;
        }
        let layer = self.strip.layers.len() as u32;
        let (number, weights) = (place.layer, place.name.to_owned());
        self.strip.layers.push(StripLayer { layer: number, weights, experts: place.experts });
        self.by_key.insert(key, layer);
        Some(layer)
    }

    /// Makes the grid, once the layers are known, and says of each selection that it is missing:
    /// what comes of it is put over that.
    fn lay_out(&mut self, ranks: usize) {
        let layers = self.strip.layers.len();
        let mut order: Vec<usize> = (0..layers).collect();
        order.sort_by_key(|&at| {
            let layer = self.strip.layers.get(at);
            layer.map(|layer| (layer.layer.unwrap_or(constants::NONE), layer.weights.clone()))
        });
        let mut to = vec![0u32; layers];
        for (new, &old) in order.iter().enumerate() {
            if let Some(to) = to.get_mut(old) {
                *to = new as u32;
            }
        }
        let sorted = order.iter().filter_map(|&at| self.strip.layers.get(at).cloned()).collect();
        self.strip.layers = sorted;
        for of in self.selections.values_mut() {
            of.layer = to.get(of.layer as usize).copied().unwrap_or(0);
        }
        let most = MAX_CELLS / (layers.max(1) * ranks);
        let wanted = self.range.nanos().div_ceil(self.strip.column_nanos);
        if wanted > most as u64 {
            self.strip.column_nanos = self.range.nanos().div_ceil(most.max(1) as u64).max(1);
        }
        let strip = &mut self.strip;
        strip.columns = self.range.nanos().div_ceil(strip.column_nanos) as usize;
        strip.ranks = ranks;
        strip.states = vec![State::Empty; layers * strip.columns];
        strip.experts = vec![NOBODY; layers * strip.columns * ranks];
        self.counted = (0..layers).map(|_| Counted::default()).collect();
        self.budget = strip.states.len().saturating_mul(BUDGET);
        // In the order of the file, so that the same file looks the same each time.
        let mut ids: Vec<u32> = self.selections.keys().copied().collect();
        ids.sort_unstable();
        for of in ids.iter().filter_map(|id| self.selections.get(id)) {
            let status = match of.status {
                // Its experts may be in a block that cannot be read.
                SelectionStatus::Whole => SelectionStatus::Unknown,
                status => status,
            };
            let layer = of.layer as usize;
            match self.strip.covered(of.time) {
                Ok(columns) => {
                    let columns = columns.take(self.budget);
                    self.budget -= columns.len();
                    for column in columns {
                        self.strip.miss(layer, column, status);
                    }
                }
                // One that covers the middle of the column stands for it.
                Err(column) if self.strip.state(layer, column).is_some_and(|it| *it == State::Empty) => {
                    self.strip.miss(layer, column, status);
                }
                Err(_) => {}
            }
        }
    }

    /// Takes the experts of one token.
    fn token(&mut self, selection: u32, index: u32, experts: &[u16]) {
        let Some(of) = self.selections.get(&selection) else { return };
        let layer = of.layer as usize;
        let known = self.strip.layers.get(layer).map_or(0, |layer| layer.experts);
        // Nothing of a hostile file may be shown as another expert.
        if index >= of.tokens || experts.iter().any(|&expert| u32::from(expert) >= known) {
            return;
        }
        // Tokens of a micro-batch are computed together; each gets a part of its time.
        let part = |index: u32| {
            let all = u128::from(of.time.nanos()) * u128::from(index) / u128::from(of.tokens.max(1));
            of.time.begin.saturating_add(all as u64)
        };
        match self.strip.covered(TimeRange::new(part(index), part(index.saturating_add(1)))) {
            Ok(columns) => {
                let columns = columns.take(self.budget);
                self.budget -= columns.len();
                columns.for_each(|column| self.strip.choose(layer, column, experts));
            }
            Err(column) => {
                if self.counted.get(layer).is_some_and(|counted| counted.column != column) {
                    self.flush(layer);
                }
                let Some(counted) = self.counted.get_mut(layer) else { return };
                counted.column = column;
                counted.counts.resize(known as usize, 0);
                for &expert in experts {
                    let Some(count) = counted.counts.get_mut(usize::from(expert)) else { continue };
                    if *count == 0 {
                        counted.used.push(expert);
                    }
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// Writes what was counted in a layer.
    fn flush(&mut self, layer: usize) {
        let Some(counted) = self.counted.get_mut(layer) else { return };
        if counted.used.is_empty() {
            return;
        }
        let count = |expert: u16| counted.counts.get(usize::from(expert)).copied().unwrap_or(0);
        let mut experts = std::mem::take(&mut counted.used);
        // Stable: of one token, by rank.
        experts.sort_by_key(|&expert| std::cmp::Reverse(count(expert)));
        for &expert in &experts {
            if let Some(count) = counted.counts.get_mut(usize::from(expert)) {
                *count = 0;
            }
        }
        let column = counted.column;
        // One that covers the middle of the column stands for it.
        if self.strip.state(layer, column).is_some_and(|state| *state != State::Chosen) {
            self.strip.choose(layer, column, &experts);
        }
    }

    fn finish(mut self) -> Strip {
        (0..self.counted.len()).for_each(|layer| self.flush(layer));
        self.strip
    }
}

impl Strip {
    fn state(&mut self, layer: usize, column: usize) -> Option<&mut State> {
        (column < self.columns).then(|| self.states.get_mut(layer * self.columns + column)).flatten()
    }

    fn miss(&mut self, layer: usize, column: usize, status: SelectionStatus) {
        if let Some(state) = self.state(layer, column) {
            *state = State::Missing(status);
        }
    }

    fn choose(&mut self, layer: usize, column: usize, experts: &[u16]) {
        if column >= self.columns {
            return;
        }
        let at = layer * self.columns + column;
        if let Some(state) = self.states.get_mut(at)
            && let Some(cell) = self.experts.get_mut(at * self.ranks..(at + 1) * self.ranks)
        {
            *state = State::Chosen;
            cell.fill(NOBODY);
            cell.iter_mut().zip(experts).for_each(|(to, &expert)| *to = expert);
        }
    }

    /// The columns whose middle a time covers, or else the one that it begins in; one that there
    /// is not for what is outside.
    fn covered(&self, time: TimeRange) -> Result<std::ops::Range<usize>, usize> {
        if time.end <= self.begin {
            return Err(usize::MAX);
        }
        let half = self.column_nanos / 2;
        // The first column whose middle is not before a time.
        let first = |time: Nanos| {
            let since = time.saturating_sub(self.begin).saturating_sub(half);
            usize::try_from(since.div_ceil(self.column_nanos)).unwrap_or(usize::MAX)
        };
        let columns = first(time.begin)..first(time.end).min(self.columns);
        if columns.is_empty() { Err(self.column_at(time.begin)) } else { Ok(columns) }
    }
}
