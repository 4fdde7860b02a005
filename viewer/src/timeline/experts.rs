//! The lane of experts: what was chosen for each token (column) in each layer (row).
//!
//! ```text
//! │▾ experts│ ▓▒░▓ ▓▒▓▓ ░▒▓▓ ▒▓      each expert has a colour; in wide cells all of a
//! │       0 │ ░▒▓▓ ▓▓▒░ ▓░▒▓ ▓░      token's experts by rank, in narrow ones the first
//! │       7 │ ▒▒▓░ ░▓▓▒ ▓▓░▒ ▒▓
//! ```
//!
//! The grid comes from `analysis`, at the scale of the window; another one of the whole trace is
//! shown where that would decode too much. Painting walks the columns in sight.

use super::lanes::Canvas;
use super::paint::Quads;
use super::view::View;
use crate::memo::Memo;
use crate::panel::{Cx, swatch_ui};
use crate::state::Open;
use crate::text;
use crate::theme::{Colors, EXPERTS_FOLDED_HEIGHT, EXPERTS_HEIGHT};
use egui::accesskit::Role;
use egui::{Align2, FontId, Painter, Rect, Sense, Shape, Stroke, Ui, WidgetInfo, pos2};
use llmtrace_analysis::experts::{Cell, Chosen, Strip, chosen, has_experts, strip, strip_rows};
use llmtrace_analysis::format::tables::{GraphSpan, SelectionStatus};
use llmtrace_analysis::{Nanos, TimeRange};
use std::cell::RefCell;
use std::sync::Arc;

/// Columns are about so wide, in points.
const COLUMN: f32 = 2.0;
/// Grids begin and end at multiples of so many columns, so that panning a little needs no other.
const CHUNK: u64 = 512;
/// Experts of a cell that are kept.
const RANKS: usize = 16;
/// Rows of experts above which the grid of the whole trace is shown instead.
const MOST_ROWS: u64 = 4 << 20;
/// Columns of that grid.
const WHOLE_COLUMNS: u64 = 1 << 14;
/// A cell at least so wide shows all of its experts.
const WIDE: f32 = 4.0;
/// Least height of one of these.
const BAND: f32 = 1.4;
/// Tokens and layers of one graph that a tooltip looks at.
const MOST_CHOSEN: usize = 1 << 18;

/// What the lane keeps.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) folded: bool,
    whole: Memo<(), Arc<Strip>>,
    near: Memo<(Nanos, u64), Arc<Strip>>,
    shown: Option<Arc<Strip>>,
    /// What was chosen in the graph span that was last looked at.
    looked_at: RefCell<Option<(u32, Arc<Vec<Chosen>>)>>,
}

/// A token in a layer under the pointer.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    time: TimeRange,
    layer: Option<u32>,
    weights: String,
    experts: u32,
    /// Its place in the micro-batch; `None` when nothing is known of the selection.
    token: Option<u32>,
    chosen: Option<Chosen>,
    /// Why there is nothing.
    missing: Option<SelectionStatus>,
    /// Whether the colour is that of several tokens.
    folded: bool,
}

impl Pick {
    /// The time of the graph, or of the device's part of it.
    pub(crate) fn range(&self) -> TimeRange {
        self.time
    }
}

/// Whether there is such a lane.
pub(super) fn any(open: &Open) -> bool {
    has_experts(&open.trace)
}

impl Lane {
    pub(super) fn height(&self) -> f32 {
        if self.folded { EXPERTS_FOLDED_HEIGHT } else { EXPERTS_HEIGHT }
    }

    /// Gets the grid for what is in sight.
    pub(super) fn prepare(&mut self, ui: &Ui, view: &View, cx: &Cx<'_>) {
        let column = view.nanos_from_pixels(COLUMN);
        let column = if column.is_power_of_two() { column } else { column.next_power_of_two() >> 1 };
        let chunk = column.saturating_mul(CHUNK);
        let window = view.range();
        let begin = window.begin / chunk * chunk;
        // The window's width never changes the grid by itself.
        let chunks = (view.nanos() / chunk as f64).ceil() as u64 + 1;
        let range = TimeRange::new(begin, begin.saturating_add(chunks.saturating_mul(chunk)));
        let trace = Arc::clone(&cx.open.trace);
        let shown = if strip_rows(&trace, range) <= MOST_ROWS {
            let compute = move |going: &crate::memo::Going| {
                strip(&trace, range, column, RANKS, &|| going.on()).map(Arc::new)
            };
            self.near.get(&(begin, chunk.saturating_mul(chunks)), cx.jobs, ui.ctx(), compute)
        } else {
            let all = trace.range();
            let column = (all.nanos() / WHOLE_COLUMNS).max(1);
            let compute =
                move |going: &crate::memo::Going| strip(&trace, all, column, 1, &|| going.on()).map(Arc::new);
            self.whole.get(&(), cx.jobs, ui.ctx(), compute)
        };
        // Until it is there, the one before is still right where it reaches.
        self.shown = shown.map(|(strip, _)| Arc::clone(strip));
    }

    /// Draws the fold, and handles it.
    pub(super) fn gutter_ui(&mut self, ui: &mut Ui, gutter: Rect, colors: &Colors) {
        let response = ui.interact(gutter, ui.scope_id().with("fold experts"), Sense::click());
        let name = if self.folded { "unfold experts" } else { "fold experts" };
        response.widget_info(|| WidgetInfo::labeled(Role::DisclosureTriangle, true, name));
        if response.clicked() {
            self.folded = !self.folded;
            ui.ctx().request_repaint();
        }
        let color = if response.hovered() { colors.text } else { colors.weak };
        let at = gutter.right_top() + egui::vec2(-14.0, 9.0);
        let tip = if self.folded {
            [at + egui::vec2(-2.0, -4.0), at + egui::vec2(3.0, 0.0), at + egui::vec2(-2.0, 4.0)]
        } else {
            [at + egui::vec2(-4.0, -2.0), at + egui::vec2(4.0, -2.0), at + egui::vec2(0.0, 3.0)]
        };
        ui.painter().add(Shape::convex_polygon(tip.to_vec(), color, Stroke::NONE));
        if let Some(strip) = self.shown.as_ref().filter(|strip| !self.folded && strip.layers.len() > 1) {
            numbers(ui.painter(), strip, gutter, colors);
        }
    }

    /// What is at a time; `share` of the lane's height is above the pointer.
    pub(super) fn at(&self, open: &Open, time: Nanos, share: f32) -> Option<Pick> {
        let strip = self.shown.as_ref()?;
        let row = ((share * strip.layers.len() as f32) as usize).min(strip.layers.len().checked_sub(1)?);
        let layer = strip.layers.get(row)?;
        let missing = match strip.cell(row, strip.column_at(time)) {
            Cell::Empty => None,
            Cell::Chosen(_) => None,
            Cell::Missing(status) => Some(status),
        };
        let spans = &open.trace.graph_spans;
        let after = spans.partition_point(|span| span.begin <= time);
        let span = spans.get(..after)?.iter().rev().take(8).find(|span| time < span.end);
        let range = match span {
            Some(span) => TimeRange::new(span.begin, span.end),
            // What a device computes is no graph span.
            None => missing.map(|_| TimeRange::new(time, time.saturating_add(strip.column_nanos)))?,
        };
        let all = span.map(|span| self.chosen_in(open, span)).unwrap_or_default();
        let of_layer = || all.iter().filter(|row| row.layer == layer.layer && row.experts == layer.experts);
        let tokens = of_layer().next().map(|row| row.tokens);
        if tokens.is_none() && missing.is_none() {
            return None;
        }
        let nanos = range.nanos().max(1);
        let token = tokens.map(|tokens| {
            (u128::from(time.saturating_sub(range.begin)) * u128::from(tokens) / u128::from(nanos)) as u32
        });
        Some(Pick {
            time: range,
            layer: layer.layer,
            weights: layer.weights.clone(),
            experts: layer.experts,
            token,
            chosen: of_layer().find(|row| Some(row.token) == token).cloned(),
            missing,
            folded: tokens.is_some_and(|tokens| nanos / u64::from(tokens.max(1)) < strip.column_nanos),
        })
    }

    fn chosen_in(&self, open: &Open, span: &GraphSpan) -> Arc<Vec<Chosen>> {
        let mut looked_at = self.looked_at.borrow_mut();
        if let Some((_, all)) = looked_at.as_ref().filter(|(id, _)| *id == span.id) {
            return Arc::clone(all);
        }
        let range = TimeRange::new(span.begin, span.end.saturating_add(1));
        let mut all = chosen(&open.trace, range, MOST_CHOSEN);
        all.retain(|row| row.graph_span == span.id);
        let all = Arc::new(all);
        *looked_at = Some((span.id, Arc::clone(&all)));
        all
    }

    /// Draws the lane.
    pub(super) fn paint(&self, canvas: &Canvas<'_>) {
        let Some(strip) = self.shown.as_ref().filter(|strip| !strip.layers.is_empty()) else { return };
        let rect = canvas.rect;
        // Rows below a point would not be seen.
        let rows = strip.layers.len().min(rect.height() as usize).max(1);
        let height = rect.height() / rows as f32;
        let mut quads = Quads::new(rect, 4096);
        for row in 0..rows {
            let layer = row * strip.layers.len() / rows;
            let top = rect.top() + height * row as f32;
            let gap = [(10.0, 2.0), (5.0, 1.0)].into_iter().find(|(least, _)| height >= *least);
            let gap = gap.map_or(0.0, |(_, gap)| gap);
            let line = Rect::from_x_y_ranges(rect.x_range(), top..=top + height - gap);
            paint_layer(canvas, &mut quads, strip, layer, line);
        }
        canvas.painter.add(quads.into_shape());
    }
}

/// One layer: runs of equal cells.
fn paint_layer(canvas: &Canvas<'_>, quads: &mut Quads, strip: &Strip, layer: usize, line: Rect) {
    let window = canvas.view.range();
    let (first, end) = (strip.column_at(window.begin), strip.column_at(window.end).saturating_add(1));
    let end = end.min(strip.columns());
    // Of columns narrower than a point, one a point.
    let step = (canvas.view.nanos_from_pixels(1.0) / strip.column_nanos.max(1)).max(1) as usize;
    let mut at = first / step * step;
    while at < end {
        let cell = strip.cell(layer, at);
        let mut next = at + step;
        while next < end && strip.cell(layer, next) == cell {
            next += step;
        }
        let x = |column: usize| line.left() + canvas.view.x_from_time(strip.begin_of(column));
        let bar = Rect::from_x_y_ranges(x(at)..=x(next), line.y_range());
        match cell {
            Cell::Empty => {}
            Cell::Chosen(experts) => paint_chosen(quads, canvas.colors, bar, experts),
            Cell::Missing(status) => {
                let color = match status {
                    SelectionStatus::Lost | SelectionStatus::Partial => canvas.colors.loss,
                    _ => canvas.colors.weak,
                };
                quads.rect(bar, color.gamma_multiply(0.18));
                quads.stripes(bar, color.gamma_multiply(0.5));
            }
        }
        at = next;
    }
}

fn paint_chosen(quads: &mut Quads, colors: &Colors, bar: Rect, experts: &[u16]) {
    let room = (bar.height() / BAND) as usize;
    let shown = if bar.width() >= WIDE { experts.len().min(room).max(1) } else { 1 };
    let each = bar.height() / shown as f32;
    for (rank, &expert) in experts.iter().take(shown).enumerate() {
        let top = bar.top() + each * rank as f32;
        quads.rect(Rect::from_x_y_ranges(bar.x_range(), top..=top + each), colors.expert(expert));
    }
}

/// The first and the last layer's number.
fn numbers(painter: &Painter, strip: &Strip, gutter: Rect, colors: &Colors) {
    let each = gutter.height() / strip.layers.len() as f32;
    let ends = [(strip.layers.first(), each / 2.0), (strip.layers.last(), gutter.height() - each / 2.0)];
    // The first one's place is the fold's.
    for (layer, y) in ends.into_iter().skip(usize::from(each < 24.0)) {
        if let Some(number) = layer.and_then(|layer| layer.layer) {
            let at = pos2(gutter.right() - 8.0, gutter.top() + y);
            let label = format!("layer {number}");
            painter.text(at, Align2::RIGHT_CENTER, label, FontId::proportional(10.5), colors.weak);
        }
    }
}

/// Says what was chosen.
pub(crate) fn found_ui(ui: &mut Ui, pick: &Pick, colors: &Colors) {
    let layer = pick.layer.map_or_else(|| pick.weights.clone(), |layer| format!("layer {layer}"));
    match (&pick.chosen, pick.token) {
        (Some(row), _) if row.tokens > 1 => {
            ui.strong(format!("{layer}, token {} of {}", row.token + 1, row.tokens));
        }
        (None, Some(token)) => {
            ui.strong(format!("{layer}, token {}", token + 1));
        }
        _ => {
            ui.strong(layer);
        }
    }
    match &pick.chosen {
        Some(row) => {
            ui.label(format!("{} of {} experts:", row.chosen.len(), pick.experts));
            for (rank, &expert) in row.chosen.iter().enumerate() {
                ui.horizontal(|ui| {
                    swatch_ui(ui, colors.expert(u16::try_from(expert).unwrap_or(u16::MAX)));
                    ui.label(format!("expert {expert}"));
                    if let Some(weight) = row.weights.get(rank) {
                        ui.weak(format!("weight {weight:.3}"));
                    }
                });
            }
        }
        None => {
            ui.label(match pick.missing {
                Some(SelectionStatus::Lost) => "lost: there was no room between kernel and recorder",
                Some(SelectionStatus::Partial) => "not recorded: other tokens of this micro-batch were",
                _ => "unknown: not in memory of the host, or computed where no probe is",
            });
        }
    }
    if pick.folded {
        ui.weak("the colour is that of the experts chosen most often here: zoom in to see each token");
    }
    ui.weak(text::nanos(pick.time.nanos()) + " of computing; click to select it");
}
