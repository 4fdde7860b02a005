//! The run on one page: figures, what limits it, time per token, recording, operators.

mod answers;
mod figures;
mod operators;
mod recording;
mod requests;

use crate::answers::Answers;
use crate::command::Command;
use crate::panel::Cx;
use crate::plot;
use crate::state::Page;
use crate::text;
use crate::theme::OpClass;
use egui::{Frame, RichText, ScrollArea, Stroke, Ui, vec2};
use egui_plot::{HLine, HoverPosition, Line, PlotPoints};
use llmtrace_analysis::explain::Explanation;
use llmtrace_analysis::{Phase, Token};
use operators::Operators;

/// Below this width the page has one column.
const TWO_COLUMNS: f32 = 900.0;
/// Wider windows get margins.
const MAX_WIDTH: f32 = 1560.0;
/// Least height of what stands beside the plot.
const CARD_HEIGHT: f32 = 240.0;
/// Space between cards.
const GAP: f32 = 10.0;
/// Height of the plot of time per token.
const PLOT_HEIGHT: f32 = 216.0;

/// The page's own state.
#[derive(Default)]
pub struct Overview {
    operators: Operators,
}

impl Overview {
    /// Draws the page.
    pub fn overview_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, answers: &mut Answers) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            // A frame's margin cannot be this wide.
            let side = ((ui.available_width() - MAX_WIDTH) / 2.0).max(16.0);
            let width = ui.available_width() - 2.0 * side;
            ui.add_space(12.0);
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                ui.add_space(side);
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.x = 8.0;
                    ui.set_width(width);
                    self.contents_ui(ui, cx, answers);
                });
            });
            ui.add_space(12.0);
        });
    }

    fn contents_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, answers: &mut Answers) {
        title_ui(ui, cx);
        ui.add_space(8.0);
        figures::figures_ui(ui, cx);
        ui.add_space(10.0);
        let found = answers::found_ui(ui, cx, answers);
        let found = found.as_deref();
        let requests = found.and_then(|found| found.requests.as_ref());
        let requests = requests.filter(|shares| !shares.requests.is_empty());
        let requests_ui = |ui: &mut Ui, cx: &mut Cx<'_>| {
            if let Some(shares) = requests {
                card_ui(ui, cx, "Requests", |ui, cx| requests::requests_ui(ui, cx, shares));
                ui.add_space(GAP);
            }
        };
        if ui.available_width() >= TWO_COLUMNS {
            ui.columns(2, |columns| {
                if let [left, right] = columns {
                    columns_ui(left, right, cx, found);
                }
            });
            ui.add_space(GAP);
            requests_ui(ui, cx);
        } else {
            if let Some(found) = found {
                card_ui(ui, cx, "What limits it", |ui, cx| answers::limits_ui(ui, cx, found));
                ui.add_space(GAP);
                card_ui(ui, cx, "Findings", |ui, cx| answers::findings_ui(ui, cx, &found.findings));
                ui.add_space(GAP);
            }
            requests_ui(ui, cx);
            card_ui(ui, cx, "Time per token", tokens_ui);
            ui.add_space(GAP);
            card_ui(ui, cx, "Recording", recording::recording_ui);
            ui.add_space(GAP);
        }
        card_ui(ui, cx, "Operators", |ui, cx| self.operators.operators_ui(ui, cx));
    }
}

/// Cards below each other in two columns; the last one is in the shorter of them.
fn columns_ui(left: &mut Ui, right: &mut Ui, cx: &mut Cx<'_>, found: Option<&Explanation>) {
    if let Some(found) = found {
        card_ui(left, cx, "What limits it", |ui, cx| answers::limits_ui(ui, cx, found));
        card_ui(right, cx, "Findings", |ui, cx| answers::findings_ui(ui, cx, &found.findings));
        left.add_space(GAP);
    }
    card_ui(left, cx, "Time per token", tokens_ui);
    let shorter = if left.min_rect().height() < right.min_rect().height() { left } else { right };
    if found.is_some() {
        shorter.add_space(GAP);
    }
    card_ui(shorter, cx, "Recording", |ui, cx| {
        ui.set_min_height(CARD_HEIGHT);
        recording::recording_ui(ui, cx);
    });
}

fn title_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    ui.horizontal_wrapped(|ui| {
        let recording = cx.open.trace.file.recording.as_ref();
        let name = cx.open.summary.models.first().cloned().unwrap_or_else(|| cx.open.file_name());
        ui.label(RichText::new(name).heading().strong());
        if let Some(recording) = recording {
            ui.weak(format!("{} on {}", recording.target.exe, recording.host.cpu_model));
        }
        ui.weak(format!("· {} recorded", text::nanos_f64(cx.open.summary.duration_s * 1e9)));
    });
}

fn card_ui(ui: &mut Ui, cx: &mut Cx<'_>, title: &str, contents: impl FnOnce(&mut Ui, &mut Cx<'_>)) {
    Frame::new()
        .fill(cx.colors.card)
        .stroke(Stroke::new(1.0, cx.colors.line))
        .corner_radius(6)
        .inner_margin(12)
        .show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            ui.label(RichText::new(title).strong().size(14.0));
            ui.add_space(4.0);
            contents(ui, cx);
        });
}

/// Milliseconds of each decoded token.
fn tokens_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    let tokens: Vec<Token> =
        cx.open.trace.tokens.iter().filter(|token| token.phase == Phase::Decode).copied().collect();
    if tokens.is_empty() {
        ui.weak("no token was decoded during the recording");
        return;
    }
    let colors = cx.colors;
    let color = colors.op(OpClass::Matmul);
    let points: Vec<[f64; 2]> =
        tokens.iter().map(|token| [f64::from(token.number), token.range.nanos() as f64 / 1e6]).collect();
    let median = cx.open.summary.decode.tpot_ms.map(|spread| spread.p50);
    let top = points.iter().map(|point| point[1]).fold(0.0, f64::max);
    let plot = plot::still("time per token")
        .height(PLOT_HEIGHT)
        .include_y(0.0)
        .include_y(top * 1.1)
        .y_axis_formatter(|mark, _| format!("{} ms", text::trim(mark.value)))
        .x_axis_formatter(
            |mark, _| if mark.value.fract() == 0.0 { format!("d{}", mark.value) } else { String::new() },
        )
        .grid_color(colors.line)
        .set_margin_fraction(vec2(0.01, 0.02))
        .label_formatter(|at| match at {
            HoverPosition::NearDataPoint { position, .. } => {
                Some(format!("d{}: {}", position.x.round(), text::millis(position.y)))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            if let Some(median) = median {
                plot.hline(HLine::new("median", median).color(colors.weak).width(1.0));
            }
            plot.line(Line::new("time per token", PlotPoints::from(points)).color(color).width(1.6));
            plot.pointer_coordinate().map(|at| at.x.round())
        });
    plot::announce(ui, &plot, "time per token", tokens.len(), |at| {
        let token = tokens.get(at)?;
        let nanos = token.range.nanos();
        let place = [f64::from(token.number), nanos as f64 / 1e6];
        Some((place, format!("d{}: {}", token.number, text::nanos(nanos))))
    });
    if plot.response.clicked()
        && let Some(number) = plot.inner
        && let Some(token) = tokens.iter().find(|token| f64::from(token.number) == number)
    {
        cx.commands.push(Command::Show(Page::Timeline));
        cx.commands.push(Command::ZoomTo(token.range));
    }
    ui.weak("Click a token to see it in the timeline. The level line is the median.");
}
