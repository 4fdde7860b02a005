//! From A's median to B's, part by part.

use crate::panel::Cx;
use crate::plot;
use crate::text;
use egui::{Ui, vec2};
use egui_plot::{AxisHints, Bar, BarChart, HoverPosition, Line, PlotPoints};
use llmtrace_analysis::diff::{Contribution, Diff};

/// Least height of a bar.
const ROW: f32 = 19.0;
/// Letters of a name that have room.
const LETTERS: usize = 26;

/// One bar: from here to there, milliseconds.
#[derive(Clone, Debug, PartialEq)]
struct Step<'a> {
    name: String,
    from: f64,
    to: f64,
    /// What can be chosen.
    part: Option<&'a Contribution>,
    /// Whether it is a side's median, not a part of the change.
    whole: bool,
}

/// The bars, so many at most for single parts; the last one ends where B's begins.
fn steps<'a>(diff: &Diff, parts: &'a [Contribution], most: usize) -> Vec<Step<'a>> {
    let mut at = diff.a.median_ms;
    let whole =
        |name: &str, ms: f64| Step { name: name.to_owned(), from: 0.0, to: ms, part: None, whole: true };
    let mut steps = vec![whole("A", at)];
    let mut add = |name: String, ms: f64, part: Option<&'a Contribution>| {
        steps.push(Step { name, from: at, to: at + ms, part, whole: false });
        at += ms;
    };
    let (shown, others) = parts.split_at(most.min(parts.len()));
    for part in shown {
        add(part.key.clone(), part.ms, Some(part));
    }
    if !others.is_empty() {
        add(format!("{} others", others.len()), others.iter().map(|part| part.ms).sum(), None);
    }
    for (name, ms, _) in diff.outside_nodes(!parts.is_empty()) {
        add(if parts.is_empty() && name == "rest" { "change" } else { name }.into(), ms, None);
    }
    steps.push(whole("B", diff.b.median_ms));
    steps
}

/// Draws it; says which part was clicked.
pub(super) fn waterfall_ui<'a>(
    ui: &mut Ui,
    cx: &Cx<'_>,
    diff: &Diff,
    parts: &'a [Contribution],
) -> Option<&'a Contribution> {
    let height = ui.available_height();
    let room = ((height - 40.0) / ROW) as usize;
    let steps = steps(diff, parts, room.saturating_sub(7).clamp(3, 16));
    let ends = || steps.iter().flat_map(|step| if step.whole { [step.to; 2] } else { [step.from, step.to] });
    let (low, high) = (ends().fold(f64::INFINITY, f64::min), ends().fold(0.0, f64::max));
    // Whole medians would leave no room for what differs.
    // Of what does not differ, so much that the marks do.
    let margin = ((high - low) * 0.08).max(high * 0.02);
    let floor = (low - margin).max(0.0);
    let colors = cx.colors;
    let count = steps.len();
    let y = |at: usize| (count - 1 - at) as f64;
    let bars: Vec<Bar> = (0..)
        .zip(&steps)
        .map(|(at, step)| {
            let (from, to) = if step.whole { (floor, step.to) } else { (step.from, step.to) };
            let color = match (step.whole, step.to >= step.from) {
                (true, _) => colors.side(step.name == "B"),
                (false, true) => colors.slower(),
                (false, false) => colors.faster(),
            };
            // What may be chance is paler.
            let sure = step.whole || step.part.is_none_or(|part| part.significant);
            let color = if sure { color } else { colors.background.lerp_to_gamma(color, 0.45) };
            let stroke = egui::Stroke::new(1.0, color);
            Bar::new(y(at), to - from).base_offset(from).width(0.72).horizontal().fill(color).stroke(stroke)
        })
        .collect();
    let joints: Vec<Line<'_>> = (0..)
        .zip(&steps)
        .take(count.saturating_sub(1))
        .map(|(at, step)| {
            let line = vec![[step.to, y(at) + 0.36], [step.to, y(at) - 1.36]];
            Line::new("", PlotPoints::from(line)).color(colors.weak).width(1.0).allow_hover(false)
        })
        .collect();
    let names: Vec<String> = steps.iter().map(|step| text::shorten(&step.name, LETTERS)).collect();
    let hints: Vec<String> = steps.iter().map(hint).collect();
    let at_y = move |y: f64| count.checked_sub(1).map(|last| last as f64 - y.round()).filter(|at| *at >= 0.0);
    let response = plot::still("waterfall")
        .height(height.max(120.0))
        .width(ui.available_width())
        .show_grid([true, false])
        .grid_color(colors.line)
        .include_x(high + margin)
        .include_x(floor)
        .include_y(-0.6)
        .include_y(count as f64 - 0.4)
        .set_margin_fraction(vec2(0.0, 0.0))
        .y_grid_spacer(move |_| {
            let mark = |at: usize| egui_plot::GridMark { value: at as f64, step_size: 1.0 };
            (0..count).map(mark).collect()
        })
        .custom_y_axes(vec![
            AxisHints::new_y()
                .formatter(move |mark, _| {
                    at_y(mark.value).and_then(|at| names.get(at as usize).cloned()).unwrap_or_default()
                })
                .min_thickness(120.0)
                // Every bar has its name, at full strength.
                .label_spacing(1.0..=2.0),
        ])
        .x_grid_spacer(plot::some_marks)
        .x_axis_formatter(|mark, _| text::millis(mark.value))
        .label_formatter(move |at| match at {
            HoverPosition::NearDataPoint { position, .. } | HoverPosition::Elsewhere { position } => {
                at_y(position.y).and_then(|at| hints.get(at as usize).cloned())
            }
        })
        .show(ui, |plot| {
            plot.bar_chart(BarChart::new("waterfall", bars).allow_hover(false));
            for joint in joints {
                plot.line(joint);
            }
            plot.pointer_coordinate()
        });
    let clicked = response.response.clicked();
    let at = response.inner.filter(|_| clicked).and_then(|at| at_y(at.y))?;
    steps.get(at as usize)?.part
}

fn hint(step: &Step<'_>) -> String {
    if step.whole {
        return format!("median of {}: {}", step.name, text::millis(step.to));
    }
    let ms = step.to - step.from;
    let sure = match step.part {
        Some(part) if !part.significant => "\nmay be chance",
        _ => "",
    };
    format!("{}\n{ms:+.4} ms{sure}", step.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::Trace;
    use llmtrace_analysis::diff::{Grain, Options, diff};
    use llmtrace_analysis::format::Source;
    use llmtrace_analysis::synth::{self, bytes};

    #[test]
    fn bars_lead_from_one_median_to_the_other() {
        let trace = |seed: u64, slow: &[&str]| {
            let slow = slow.iter().map(|slow| slow.parse().unwrap()).collect();
            let options = synth::Options { slow, ..synth::Options::new(20_000, 2, seed) };
            Trace::open(Source::Bytes(bytes(&options).unwrap()), &mut |_| true).unwrap()
        };
        let recorded = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces");
            let file = std::fs::File::open(format!("{folder}/gemma3-270m-{name}-2t.llmtrace")).unwrap();
            Trace::open(Source::from_file(file), &mut |_| true).unwrap()
        };
        lead(&trace(1, &[]), &trace(2, &["ffn_up-7=+20%"]));
        // With the time that other programs took.
        lead(&recorded("undisturbed"), &recorded("preempted"));
    }

    fn lead(a: &Trace, b: &Trace) {
        for grain in Grain::ALL {
            let found = diff(&[a], &[b], &Options { phase: None, grain }, &|_| true).unwrap();
            for most in [0, 3, 1000] {
                let steps = steps(&found, &found.contributions, most);
                let [first, between @ .., last] = &steps[..] else { panic!() };
                assert_eq!((first.to, last.to), (found.a.median_ms, found.b.median_ms));
                assert_eq!(between.first().map(|step| step.from), Some(first.to));
                assert!(between.windows(2).all(|pair| pair[0].to == pair[1].from));
                assert!((between.last().unwrap().to - last.to).abs() < 2e-6, "{grain:?} {steps:?}");
            }
        }
    }
}
