//! What limits the run, where a token's time goes, and what to try.

use super::GAP;
use crate::answers::Answers;
use crate::command::Command;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::state::Page;
use crate::text;
use crate::theme::OpClass;
use egui::{Color32, Grid, Label, Rect, RichText, Sense, Ui, vec2};
use llmtrace_analysis::Phase;
use llmtrace_analysis::explain::{Explanation, PhaseAnswer};
use llmtrace_analysis::findings::Finding;
use llmtrace_analysis::verdict::Verdict;
use std::sync::Arc;

/// Height of the bar of parts.
const BAR_HEIGHT: f32 = 16.0;

/// What is known; says why nothing is, or how far it has come.
pub(super) fn found_ui(ui: &mut Ui, cx: &mut Cx<'_>, answers: &mut Answers) -> Option<Arc<Explanation>> {
    if let Some(why) = crate::timeline::no_threads(cx.open) {
        ui.weak(format!("{why}. What limits the run is not known."));
        ui.add_space(GAP);
        return None;
    }
    let found = answers.get_ui(ui, cx);
    if found.is_none() {
        ui.add_space(GAP);
    }
    found
}

pub(super) fn limits_ui(ui: &mut Ui, cx: &mut Cx<'_>, found: &Explanation) {
    for answer in &found.phases {
        verdict_ui(ui, answer.phase.name(), &answer.verdict);
    }
    if let Some(missing) = found.run.missing.first() {
        ui.add(Label::new(RichText::new(format!("Not known: {missing}")).color(cx.colors.weak)).wrap());
    }
    if ui.link("Roofline").on_hover_text("How far each operator is from what the machine could do").clicked()
    {
        cx.commands.push(Command::Show(Page::Roofline));
    }
    let decode = found.phases.iter().find(|answer| answer.phase == Phase::Decode);
    if let Some(answer) = decode.or_else(|| found.phases.first()) {
        ui.add_space(6.0);
        parts_ui(ui, cx, answer);
    }
}

fn verdict_ui(ui: &mut Ui, of: &str, verdict: &Verdict) {
    ui.horizontal_wrapped(|ui| {
        ui.label(format!("{of}:"));
        ui.strong(verdict.bound.name()).explained(&[verdict.bound.name(), "verdict"]);
        // A number stays on the line of what it is of and of its unit.
        let evidence = verdict.evidence.join(" · ").replace(" %", "\u{a0}%");
        let evidence = evidence.replace("bound ", "bound\u{a0}");
        ui.weak(format!("confidence {} · {evidence}", verdict.confidence.name())).explained(&["confidence"]);
    });
}

/// Where the time of an average call goes.
fn parts_ui(ui: &mut Ui, cx: &Cx<'_>, answer: &PhaseAnswer) {
    let parts = answer.parts.named();
    let wall = answer.parts.wall().max(1) as f64;
    let each = |nanos: u64| text::millis(nanos as f64 / answer.calls.max(1) as f64 / 1e6);
    ui.label(format!(
        "{} per {} call, waits and gaps included",
        each(answer.parts.wall()),
        answer.phase.name()
    ));
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), BAR_HEIGHT), Sense::hover());
    let mut left = rect.left();
    for (place, (_, nanos)) in parts.iter().enumerate() {
        let width = rect.width() * (nanos.unwrap_or(0) as f64 / wall) as f32;
        let part = Rect::from_min_size(egui::pos2(left, rect.top()), vec2(width, rect.height()));
        ui.painter().rect_filled(part, 0.0, part_color(cx, place));
        left += width;
    }
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "parts of a call"));
    ui.add_space(4.0);
    Grid::new("parts").num_columns(3).spacing([14.0, 3.0]).show(ui, |ui| {
        for (place, (name, nanos)) in parts.iter().enumerate() {
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                swatch_ui(ui, part_color(cx, place));
                ui.label(*name).explained(&[*name]);
            });
            match nanos {
                Some(nanos) => {
                    ui.label(each(*nanos));
                    ui.label(text::percent(*nanos as f64 / wall));
                }
                None => {
                    ui.weak("not recorded");
                    ui.weak("–");
                }
            }
            ui.end_row();
        }
    });
}

fn part_color(cx: &Cx<'_>, place: usize) -> Color32 {
    const CLASSES: [OpClass; 8] = [
        OpClass::Matmul,
        OpClass::Attention,
        OpClass::Elementwise,
        OpClass::Copy,
        OpClass::Position,
        OpClass::Routing,
        OpClass::Norm,
        OpClass::Recurrent,
    ];
    CLASSES.get(place).map_or(cx.colors.loss, |class| cx.colors.op(*class))
}

pub(super) fn findings_ui(ui: &mut Ui, cx: &mut Cx<'_>, findings: &[Finding]) {
    if findings.is_empty() {
        ui.weak("nothing costs more than a hundredth of a token");
        return;
    }
    for finding in findings {
        ui.horizontal_wrapped(|ui| {
            match finding.ms_per_token.zip(finding.share) {
                Some((ms, share)) => {
                    ui.strong(text::millis(ms)).explained(&["finding"]);
                    ui.weak(format!("a token, {}", text::percent(share)));
                }
                None => {
                    ui.weak("no cost by itself:").explained(&["finding"]);
                }
            }
            let place = finding.place.is_some() || finding.nodes.is_some();
            if place {
                if ui.link(&finding.title).on_hover_text("Show it in the timeline").clicked() {
                    show(cx, finding);
                }
            } else {
                ui.label(&finding.title);
            }
        });
        ui.indent(&finding.title, |ui| {
            for evidence in &finding.evidence {
                ui.add(Label::new(RichText::new(evidence).color(cx.colors.weak)).wrap());
            }
            ui.add(Label::new(format!("Try: {}", finding.advice)).wrap());
        });
        ui.add_space(4.0);
    }
}

fn show(cx: &mut Cx<'_>, finding: &Finding) {
    cx.commands.push(Command::Show(Page::Timeline));
    cx.commands.extend(finding.nodes.clone().map(Command::FindFor));
    cx.commands.extend(finding.place.map(Command::ZoomTo));
}
