//! What is in sight, for those who do not see it: bars of threads and tokens as items of their lanes,
//! with a name and an action that selects them. Bounded in number, whatever is in sight, and made
//! only while something reads them.

use super::gaps::{self, Gap};
use super::lanes::{Canvas, token_names};
use super::view::View;
use crate::command::Command;
use crate::panel::Cx;
use crate::seek::Seek;
use crate::text;
use egui::accesskit::{Action, Role};
use egui::{Rect, Response, Sense, Ui, WidgetInfo};
use llmtrace_analysis::fold::{Bar, What};
use llmtrace_analysis::format::tables::Loss;
use llmtrace_analysis::{Found, Place, TimeRange};

/// Most items of one lane.
const MOST_LANE: usize = 48;
/// Most items of all lanes.
const MOST: usize = 240;
/// Narrower ones are none, in points.
const LEAST: f32 = 3.0;

/// Announces items until there are too many.
pub(super) struct Announcer {
    left: usize,
}

impl Announcer {
    /// `lanes` is the response of all lanes, which has been announced if anything is.
    pub(super) fn new(lanes: &Response) -> Self {
        let listens = lanes.ctx.has_accesskit_node(lanes.id);
        Self { left: if listens { MOST } else { 0 } }
    }

    /// One item; whether it was asked for.
    fn item(&mut self, ui: &Ui, id: (&str, u32, u64), rect: Rect, name: &str, selected: bool) -> bool {
        self.left = self.left.saturating_sub(1);
        let response = ui.interact(rect, ui.scope_id().with(id), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::ListBoxOption, true, name));
        ui.ctx().accesskit_node_builder(response.id, |node| {
            node.set_selected(selected);
            node.add_action(Action::Click);
        });
        ui.input(|input| input.has_accesskit_action_request(response.id, Action::Click))
    }

    /// The widest items of a lane, in their order.
    fn widest<T>(
        &self,
        canvas: &Canvas<'_>,
        items: &[T],
        range: impl Fn(&T) -> TimeRange,
    ) -> Vec<(usize, Rect)> {
        if self.left == 0 {
            return Vec::new();
        }
        let each =
            items.iter().enumerate().map(|(at, item)| (at, canvas.bar(range(item)).intersect(canvas.rect)));
        let mut found: Vec<(usize, Rect)> = each.filter(|(_, rect)| rect.width() >= LEAST).collect();
        let most = MOST_LANE.min(self.left);
        if found.len() > most {
            found.sort_by(|a, b| b.1.width().total_cmp(&a.1.width()));
            found.truncate(most);
            found.sort_by_key(|(at, _)| *at);
        }
        found
    }

    /// Tokens in sight.
    pub(super) fn tokens(&mut self, ui: &Ui, canvas: &Canvas<'_>, cx: &mut Cx<'_>) {
        let tokens = &cx.open.trace.tokens;
        let sight = canvas.view.range();
        let from = tokens.partition_point(|token| token.range.end <= sight.begin);
        let to = tokens.partition_point(|token| token.range.begin < sight.end);
        let in_sight = tokens.get(from..to.max(from)).unwrap_or_default();
        for (at, rect) in self.widest(canvas, in_sight, |token| token.range) {
            let Some(token) = in_sight.get(at) else { continue };
            let name = format!("token {}, {}", token_names(token)[0], text::nanos(token.range.nanos()));
            let selected = cx.open.range == Some(token.range);
            if self.item(ui, ("token", 0, token.range.begin), rect, &name, selected) {
                cx.commands.push(Command::SelectRange(token.range));
            }
        }
    }

    /// Losses in sight.
    pub(super) fn losses(&mut self, ui: &Ui, canvas: &Canvas<'_>, cx: &mut Cx<'_>) {
        let losses = &cx.open.trace.losses;
        let sight = canvas.view.range();
        let from = losses.partition_point(|loss| loss.begin < sight.begin).saturating_sub(1);
        let to = losses.partition_point(|loss| loss.begin < sight.end);
        let in_sight = losses.get(from..to.max(from)).unwrap_or_default();
        // A short one is a line all the same.
        let range = |loss: &Loss| TimeRange::new(loss.begin, loss.end.max(loss.begin));
        let pixel = canvas.view.nanos_from_pixels(LEAST + 2.0);
        let wide =
            |loss: &Loss| TimeRange::new(loss.begin, range(loss).end.max(loss.begin.saturating_add(pixel)));
        for (at, rect) in self.widest(canvas, in_sight, wide) {
            let Some(loss) = in_sight.get(at) else { continue };
            let name = format!("events lost here: {}", text::count(loss.count));
            if self.item(ui, ("loss", loss.cpu, loss.begin), rect, &name, false) {
                cx.commands.push(Command::SelectRange(range(loss)));
            }
        }
    }

    /// Bars of a thread, and what of it is not recorded.
    pub(super) fn bars(
        &mut self,
        ui: &Ui,
        canvas: &Canvas<'_>,
        (lane, bars, left_out): (u32, &[Bar], &[Gap]),
        cx: &mut Cx<'_>,
    ) {
        for (at, rect) in self.widest(canvas, bars, |bar| bar.range) {
            let Some(bar) = bars.get(at) else { continue };
            let place = |index: u64| Place { lane, index };
            let is_selected = |index: u64| cx.open.selected.is_some_and(|found| found.place == place(index));
            let (name, selected, command) = match &bar.what {
                What::Span(index, span) => {
                    let key = cx.open.key(span);
                    let times = format!(
                        "computing {}, waiting {}",
                        text::nanos(span.compute),
                        text::nanos(span.wait)
                    );
                    let found = Found { place: place(*index), span: *span };
                    (format!("{} {}: {times}", key.op, key.name), is_selected(*index), Command::Select(found))
                }
                What::Folded(index, span) => {
                    let found = Found { place: place(*index), span: *span };
                    (several(bar), is_selected(*index), Command::Select(found))
                }
                What::Buckets { .. } => {
                    (several(bar), false, Command::Seek(Seek::Longest { lane, range: bar.range }))
                }
            };
            if self.item(ui, ("bar", lane, bar.range.begin), rect, &name, selected) {
                cx.commands.push(command);
            }
        }
        for (at, rect) in self.widest(canvas, left_out, |gap| gap.range) {
            let Some(gap) = left_out.get(at) else { continue };
            let name = format!("operators not recorded: {}", gaps::reason(cx.open, gap));
            if self.item(ui, ("gap", lane, gap.range.begin), rect, &name, false) {
                cx.commands.push(Command::SelectRange(gap.range));
            }
        }
    }
}

/// What a thread does in what is in sight.
pub(super) fn in_sight(bars: &[Bar], view: &View) -> String {
    let sum = |of: fn(&Bar) -> u64| bars.iter().fold(0u64, |all, bar| all.saturating_add(of(bar)));
    let (count, compute, wait) = (sum(|bar| bar.count), sum(|bar| bar.compute), sum(|bar| bar.wait));
    let part = |part: u64| text::percent((part as f64 / view.range().nanos().max(1) as f64).min(1.0));
    format!("in sight {} nodes: computing {}, waiting {}", text::count(count), part(compute), part(wait))
}

fn several(bar: &Bar) -> String {
    let part = |part: u64| text::percent(part as f64 / bar.range.nanos().max(1) as f64);
    let (count, compute, wait) = (text::count(bar.count), part(bar.compute), part(bar.wait));
    format!("{count} nodes: computing {compute}, waiting {wait}")
}
