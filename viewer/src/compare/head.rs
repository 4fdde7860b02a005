//! Which traces, how they lie, what came of it, and what does not match.

use super::{ComparePage, Compared, Pair};
use crate::command::Command;
use crate::panel::{Cx, Explained as _};
use crate::text;
use egui::{Button, Color32, ComboBox, Frame, Margin, RichText, Ui};
use llmtrace_analysis::align::AlignBy;
use llmtrace_analysis::diff::{Difference, Outcome, phases_of};
use std::sync::Arc;

/// Lines of what does not match that are shown at first.
const FEW: usize = 3;
/// Size of the line that says what came of it.
const VERDICT: f32 = 15.0;

impl ComparePage {
    pub(super) fn head_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        pair: Pair<'_>,
        answer: Option<&Result<Arc<Compared>, String>>,
    ) {
        ui.horizontal_wrapped(|ui| {
            for (open, name, second) in [(pair.a, "A", false), (pair.b, "B", true)] {
                chip_ui(ui, name, cx.colors.side(second), cx.colors.text_on(cx.colors.side(second)));
                let label = RichText::new(open.file_name()).strong();
                ui.label(label).on_hover_text(open.path.display().to_string());
                ui.add_space(6.0);
            }
            for (command, name) in [
                (Command::SwapSides, "Swap"),
                (Command::CompareWith, "Other…"),
                (Command::CloseSecond, "Close B"),
            ] {
                if ui.button(name).clicked() {
                    cx.commands.push(command);
                }
            }
            ui.separator();
            self.align_ui(ui, cx, pair);
            ui.separator();
            ui.toggle_value(&mut self.all_lanes, "all lanes")
                .on_hover_text("Also requests, calls, caches, backends and counters, not only threads");
            if let Some(Ok(found)) = answer {
                self.phase_ui(ui, pair, found);
            }
        });
        match answer {
            Some(Ok(found)) => verdict_ui(ui, cx, found),
            Some(Err(_)) => {}
            None => {
                // As large as the verdict, so that nothing moves when it comes.
                let text = if self.stopped { "not compared" } else { "comparing…" };
                ui.label(RichText::new(text).size(VERDICT).color(cx.colors.weak));
            }
        }
        self.mismatch_ui(ui, cx, pair, answer);
    }

    fn align_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, pair: Pair<'_>) {
        let aligned = pair.comparison.aligned;
        ui.label("align by");
        for (by, name) in AlignBy::ALL {
            let hint = match by {
                AlignBy::Token => "The nth decoded token under the nth, prefills likewise",
                AlignBy::Phase => "Prefill under prefill, the first decoded token under the first",
                AlignBy::Time => "The begin of one recording under that of the other",
                AlignBy::Hand => "Drag the lane between the timelines, or press , and .",
            };
            if ui.selectable_label(aligned.by == by, name).on_hover_text(hint).clicked() {
                cx.commands.push(Command::Align(by));
            }
        }
        if aligned.by == AlignBy::Hand {
            ui.weak(moved(aligned.offset));
        }
    }

    fn phase_ui(&mut self, ui: &mut Ui, pair: Pair<'_>, found: &Compared) {
        let now = self.phase.unwrap_or(found.diff.phase);
        ComboBox::from_id_salt("compared phase").selected_text(now.name()).show_ui(ui, |ui| {
            for phase in phases_of(&pair.a.trace, &pair.b.trace) {
                if ui.selectable_label(now == phase, phase.name()).clicked() && now != phase {
                    self.phase = Some(phase);
                    self.chosen = None;
                }
            }
        });
    }

    /// What does not match, the gravest first.
    fn mismatch_ui(
        &mut self,
        ui: &mut Ui,
        cx: &Cx<'_>,
        pair: Pair<'_>,
        answer: Option<&Result<Arc<Compared>, String>>,
    ) {
        let comparison = pair.comparison;
        let warnings = match answer {
            Some(Ok(found)) => &found.diff.warnings,
            _ => &comparison.warnings,
        };
        let others: Vec<&Difference> =
            comparison.environment.iter().filter(|difference| !difference.matters).collect();
        if !warnings.is_empty() {
            let tint = cx.colors.background.lerp_to_gamma(cx.colors.warning, 0.16);
            Frame::new().fill(tint).corner_radius(3.0).inner_margin(Margin::symmetric(8, 3)).show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.spacing_mut().item_spacing.y = 2.0;
                // A line that says that there is one more could as well be that one.
                let all = warnings.len() <= FEW + 1;
                let shown = if self.all_warnings || all { warnings.len() } else { FEW };
                for warning in warnings.iter().take(shown) {
                    let line = RichText::new(format!("⚠ {}", text::arrows(warning))).color(cx.colors.text);
                    ui.add(egui::Label::new(line).truncate()).on_hover_text(text::arrows(warning));
                }
                if !all {
                    let more = warnings.len() - FEW;
                    let name =
                        if self.all_warnings { "fewer".to_owned() } else { format!("and {more} more") };
                    if ui.add(Button::new(name).frame(false)).clicked() {
                        self.all_warnings = !self.all_warnings;
                    }
                }
            });
        }
        if !others.is_empty() {
            let line = |difference: &&Difference| {
                format!("{}: {} ⏵ {}", difference.what, difference.a, difference.b)
            };
            let names: Vec<&str> = others.iter().map(|difference| difference.what).collect();
            let all: Vec<String> = others.iter().map(line).collect();
            let text = format!("also different: {}", names.join(", "));
            ui.add(egui::Label::new(RichText::new(text).color(cx.colors.weak)).truncate())
                .on_hover_text(all.join("\n"));
        }
    }
}

/// How B lies beside A, in words.
fn moved(offset: i64) -> String {
    let by = text::nanos(offset.unsigned_abs());
    match offset.signum() {
        0 => "B's times are A's".to_owned(),
        1 => format!("B's times are {by} later"),
        _ => format!("B's times are {by} earlier"),
    }
}

/// The letter of a side on its colour.
pub(super) fn chip_ui(ui: &mut Ui, name: &str, color: Color32, text: Color32) {
    Frame::new().fill(color).corner_radius(3.0).inner_margin(Margin::symmetric(5, 1)).show(ui, |ui| {
        ui.label(RichText::new(name).strong().color(text));
    });
}

fn verdict_ui(ui: &mut Ui, cx: &Cx<'_>, found: &Compared) {
    let diff = &found.diff;
    let color = match diff.outcome {
        // Of different models, slower is no bad news and faster no good.
        _ if diff.comparable == Some(false) => cx.colors.text,
        Outcome::Slower => cx.colors.slower(),
        Outcome::Faster => cx.colors.faster(),
        Outcome::Disturbed => cx.colors.warning,
        Outcome::NoDifference | Outcome::NotKnown => cx.colors.text,
    };
    let text = RichText::new(text::arrows(&diff.verdict())).size(VERDICT).strong().color(color);
    ui.add(egui::Label::new(text).wrap())
        .on_hover_text(&diff.method)
        .explained(&["change of the median", "± 95 %"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_never_negative_in_words() {
        assert_eq!(moved(2_500_000), format!("B's times are {} later", text::nanos(2_500_000)));
        assert_eq!(moved(-2_500_000), format!("B's times are {} earlier", text::nanos(2_500_000)));
        assert_eq!(moved(0), "B's times are A's");
    }
}
