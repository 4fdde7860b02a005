//! How long the chosen row took in each call, in both traces.

use super::Compared;
use crate::panel::{Cx, Explained as _};
use crate::plot;
use crate::text;
use egui::{Color32, Grid, RichText, Ui, vec2};
use egui_plot::{Bar, BarChart, HoverPosition, VLine};
use llmtrace_analysis::diff::NodeId;
use llmtrace_analysis::stats::percentile;

const BINS: usize = 48;

/// What was drawn last, to be drawn again.
#[derive(Default)]
pub(super) struct Shown {
    of: Option<Vec<NodeId>>,
    /// Of which comparison.
    compared: usize,
    sides: [Vec<u64>; 2],
}

/// Counts of durations between equal steps; what is longer than the last edge is in no bin.
struct Bins {
    from: f64,
    step: f64,
    counts: [Vec<u64>; 2],
    longer: [u64; 2],
}

impl Bins {
    /// Of two sorted lists: from the shortest of both to nearly the longest, so that a single long
    /// one does not push all others together.
    fn of(sides: &[Vec<u64>; 2]) -> Self {
        let ends = |at: fn(&Vec<u64>) -> Option<u64>| sides.iter().filter_map(at);
        let from = ends(|side| side.first().copied()).min().unwrap_or(0) as f64;
        let to = ends(|side| percentile(side, 98)).max().unwrap_or(1) as f64;
        let step = ((to + 1.0 - from) / BINS as f64).max(1.0);
        let below = |side: &[u64], edge: f64| side.partition_point(|value| (*value as f64) < edge) as u64;
        let count = |side: &Vec<u64>| {
            let edge = |at: usize| from + step * at as f64;
            (0..BINS).map(|at| below(side, edge(at + 1)) - below(side, edge(at))).collect::<Vec<u64>>()
        };
        let counts = sides.each_ref().map(count);
        let longer = [0, 1].map(|at| {
            let all = sides.get(at).map_or(0, Vec::len) as u64;
            all - counts.get(at).map_or(0, |counts: &Vec<u64>| counts.iter().sum::<u64>())
        });
        Self { from, step, counts, longer }
    }
}

impl Shown {
    pub(super) fn durations_ui(
        &mut self,
        ui: &mut Ui,
        cx: &Cx<'_>,
        found: &Compared,
        chosen: Option<(&str, &[NodeId])>,
    ) {
        let members = chosen.map(|(_, members)| members.to_vec());
        let compared = std::ptr::from_ref(found).addr();
        if self.of != members || self.compared != compared || self.sides.iter().all(Vec::is_empty) {
            self.sides = match &members {
                Some(members) => found.samples.nodes(members),
                None => found.samples.calls(),
            };
            (self.of, self.compared) = (members, compared);
        }
        let unit = found.diff.unit.name();
        let title = match chosen {
            Some((name, _)) => format!("{name}, time a {unit} in the sampled calls"),
            None => format!("whole calls, time a {unit}; click a row for its own"),
        };
        ui.add(egui::Label::new(RichText::new(title).strong()).truncate());
        if self.sides.iter().all(Vec::is_empty) {
            ui.weak("nothing was read of it");
            return;
        }
        figures_ui(ui, cx, &self.sides);
        self.plot_ui(ui, cx);
    }

    fn plot_ui(&self, ui: &mut Ui, cx: &Cx<'_>) {
        let bins = Bins::of(&self.sides);
        let height = (ui.available_height() - 22.0).max(80.0);
        plot::still("compared durations")
            .height(height)
            .width(ui.available_width())
            .show_grid([false, true])
            .grid_color(cx.colors.line)
            .include_y(0.0)
            .set_margin_fraction(vec2(0.01, 0.05))
            .x_axis_formatter(|mark, _| text::nanos_f64(mark.value))
            .y_axis_formatter(|mark, _| format!("{} %", text::trim(mark.value)))
            .label_formatter(|at| match at {
                HoverPosition::NearDataPoint { position, .. } | HoverPosition::Elsewhere { position } => {
                    Some(text::nanos_f64(position.x))
                }
            })
            .show(ui, |plot| {
                for (side, second) in self.sides.iter().zip([false, true]) {
                    let color = cx.colors.side(second);
                    let counts = bins.counts.get(usize::from(second)).map_or(&[][..], Vec::as_slice);
                    let chart = chart(&bins, counts, side.len(), color.gamma_multiply(0.55));
                    plot.bar_chart(BarChart::new(if second { "B" } else { "A" }, chart).allow_hover(false));
                    if let Some(median) = percentile(side, 50) {
                        let name = if second { "median of B" } else { "median of A" };
                        plot.vline(
                            VLine::new(name, median as f64).color(color).width(2.0).allow_hover(false),
                        );
                    }
                }
            });
        let [a, b] = bins.longer;
        if a + b > 0 {
            ui.weak(format!("right of the picture: {} of A, {} of B", text::count(a), text::count(b)));
        }
    }
}

/// Percent of a side's durations in each bin.
fn chart(bins: &Bins, counts: &[u64], all: usize, color: Color32) -> Vec<Bar> {
    let bar = |(at, count): (usize, &u64)| {
        let middle = bins.from + bins.step * (at as f64 + 0.5);
        let percent = *count as f64 * 100.0 / all.max(1) as f64;
        Bar::new(middle, percent).width(bins.step).fill(color).stroke(egui::Stroke::NONE)
    };
    counts.iter().enumerate().map(bar).collect()
}

/// Exact numbers, and how they differ.
fn figures_ui(ui: &mut Ui, cx: &Cx<'_>, sides: &[Vec<u64>; 2]) {
    Grid::new("compared figures").spacing([14.0, 2.0]).show(ui, |ui| {
        ui.label("");
        for name in ["count", "min", "p50", "p90", "p99", "max"] {
            let terms: &[&str] = match name {
                "count" => &["count"],
                "p50" => &["median", "percentile"],
                _ => &["percentile"],
            };
            ui.weak(name).explained(terms);
        }
        ui.end_row();
        for (side, second) in sides.iter().zip([false, true]) {
            ui.colored_label(cx.colors.side(second), if second { "B" } else { "A" });
            ui.label(text::count(side.len() as u64));
            for value in figures(side) {
                ui.label(value.map_or_else(|| "–".to_owned(), text::nanos));
            }
            ui.end_row();
        }
        let [a, b] = sides.each_ref().map(|side| figures(side));
        ui.weak("change").explained(&["% of A"]);
        ui.label("");
        for (a, b) in a.into_iter().zip(b) {
            let share = a.zip(b).filter(|(a, _)| *a > 0).map(|(a, b)| (b as f64 / a as f64 - 1.0) * 100.0);
            ui.label(share.map_or_else(|| "–".to_owned(), |share| format!("{share:+.1} %")));
        }
        ui.end_row();
    });
}

fn figures(side: &[u64]) -> [Option<u64>; 5] {
    let at = |percent| percentile(side, percent);
    [side.first().copied(), at(50), at(90), at(99), side.last().copied()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_one_bin_or_said_to_be_longer() {
        let mut a: Vec<u64> = (0..1000).map(|at| 500 + at * 37 % 900).collect();
        a.push(90_000);
        a.sort_unstable();
        let mut b: Vec<u64> = (0..300).map(|at| 700 + at * 41 % 1100).collect();
        b.sort_unstable();
        for sides in [[a.clone(), b], [a.clone(), Vec::new()], [vec![7], vec![7]]] {
            let bins = Bins::of(&sides);
            for (at, side) in sides.iter().enumerate() {
                assert_eq!(bins.counts[at].iter().sum::<u64>() + bins.longer[at], side.len() as u64);
            }
            assert_eq!(bins.longer[0] > 0, sides[0].len() > 1000);
        }
    }
}
