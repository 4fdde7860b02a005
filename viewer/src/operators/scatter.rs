//! Each execution as a point: how long it took against what may explain it.

use super::Brush;
use crate::command::Command;
use crate::panel::Cx;
use crate::plot;
use crate::seek::Seek;
use crate::text;
use crate::theme::OpClass;
use egui::{Ui, vec2};
use egui_plot::{HoverPosition, PlotPoint, PlotPoints, Points};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::operators::{Occurrence, Occurrences};

const HEIGHT: f32 = 190.0;
/// Most points that are drawn; more would be one smear.
const MOST: usize = 4000;

/// What points are placed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Against {
    /// When it began.
    #[default]
    Time,
    /// The token's number in its phase.
    Token,
    /// Tokens in the context.
    Context,
    /// Elements of the result.
    Elements,
    /// Bytes to read and write.
    Bytes,
}

impl Against {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Time, "time"),
        (Self::Token, "token"),
        (Self::Context, "context"),
        (Self::Elements, "elements"),
        (Self::Bytes, "bytes"),
    ];

    fn of(self, cx: &Cx<'_>, found: &Occurrences, one: &Occurrence) -> Option<f64> {
        match self {
            Self::Time => Some(one.begin as f64),
            Self::Token => {
                let token = cx.open.trace.tokens.get(one.token as usize).filter(|_| one.token != NONE)?;
                Some(f64::from(token.number))
            }
            Self::Context => found.context_of(one).map(f64::from),
            Self::Elements => found.kind_of(one)?.elements.map(|elements| elements as f64),
            Self::Bytes => found.kind_of(one)?.work?.bytes().map(|bytes| bytes as f64),
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Time => text::nanos_f64(value),
            Self::Token | Self::Context | Self::Elements => text::trim(value),
            Self::Bytes => text::bytes(value.max(0.0) as u64),
        }
    }

    fn unknown(self) -> &'static str {
        match self {
            Self::Time | Self::Token => "outside of tokens",
            Self::Context => "the recording does not tell positions of sequences",
            Self::Elements | Self::Bytes => "graphs or types of tensors were not read",
        }
    }
}

/// The scatter's own state.
#[derive(Default)]
pub(crate) struct Scatter {
    against: Against,
}

impl Scatter {
    /// Draws it; points that are not brushed are pale.
    pub(crate) fn scatter_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, found: &Occurrences, brush: Brush) {
        ui.horizontal_wrapped(|ui| {
            ui.strong("Wall time against");
            for (against, name) in Against::ALL {
                ui.selectable_value(&mut self.against, against, name);
            }
        });
        let every = found.all.len().div_ceil(MOST).max(1);
        let against = self.against;
        let mut points: Vec<(usize, [f64; 2])> = Vec::with_capacity(MOST);
        let mut unknown = 0u64;
        for (at, one) in found.all.iter().enumerate().step_by(every) {
            match against.of(cx, found, one) {
                Some(x) => points.push((at, [x, one.wall.max(1) as f64])),
                None => unknown += 1,
            }
        }
        if points.is_empty() {
            let why = if found.all.is_empty() { "no executions" } else { against.unknown() };
            ui.weak(format!("nothing to draw: {why}"));
            return;
        }
        let color = cx.colors.op(OpClass::Norm);
        let inside = |wall: f64| brush.as_ref().is_none_or(|brush| brush.contains(&(wall as u64)));
        let (bright, pale): (Vec<_>, Vec<_>) = points.iter().partition(|(_, [_, wall])| inside(*wall));
        let place =
            |of: &[(usize, [f64; 2])]| PlotPoints::from(of.iter().map(|(_, at)| *at).collect::<Vec<_>>());
        let response = plot::still("scatter")
            .width(ui.available_width())
            .height(plot::height(ui, HEIGHT))
            .include_y(0.0)
            .y_grid_spacer(plot::some_marks)
            .grid_color(cx.colors.line)
            .set_margin_fraction(vec2(0.02, 0.06))
            .x_axis_formatter(move |mark, _| against.text(mark.value))
            .y_axis_formatter(|mark, _| text::nanos_f64(mark.value))
            .label_formatter(move |at| match at {
                HoverPosition::NearDataPoint { position, .. } => {
                    Some(format!("{}\nat {}", text::nanos_f64(position.y), against.text(position.x)))
                }
                HoverPosition::Elsewhere { .. } => None,
            })
            .show(ui, |plot| {
                let radius = if points.len() > 800 { 1.4 } else { 2.2 };
                plot.points(
                    Points::new("others", place(&pale)).radius(radius).color(color.gamma_multiply(0.25)),
                );
                plot.points(Points::new("executions", place(&bright)).radius(radius).color(color));
                (plot.pointer_coordinate(), plot.plot_bounds())
            });
        plot::announce(ui, &response, "wall times of executions", points.len(), |at| {
            let (place, point) = points.get(at)?;
            let one = found.all.get(*place)?;
            Some((*point, format!("{} at {}", text::nanos(one.wall), against.text(point[0]))))
        });
        let (at, bounds) = response.inner;
        let size = [bounds.width().max(1e-9), bounds.height().max(1e-9)];
        if let Some(at) = at.filter(|_| response.response.clicked())
            && let Some(one) = nearest(&points, at, size).and_then(|at| found.all.get(at))
        {
            go_to(cx, found, one);
        }
        let mut line =
            format!("Click a point to see it on the timeline. {} points", text::count(points.len() as u64));
        if every > 1 {
            line.push_str(&format!(", one execution in {every}"));
        }
        if unknown > 0 {
            line.push_str(&format!("; {} not drawn: {}", text::count(unknown), against.unknown()));
        }
        ui.weak(line);
    }
}

/// The point nearest to a place, within a thirtieth of the plot.
fn nearest(points: &[(usize, [f64; 2])], at: PlotPoint, [width, height]: [f64; 2]) -> Option<usize> {
    let distance = |place: &[f64; 2]| ((place[0] - at.x) / width).hypot((place[1] - at.y) / height);
    let (found, place) = points.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)))?;
    (distance(place) < 1.0 / 30.0).then_some(*found)
}

/// Selects an execution on the timeline.
pub(crate) fn go_to(cx: &mut Cx<'_>, found: &Occurrences, one: &Occurrence) {
    if let Some(kind) = found.kind_of(one) {
        let (key, lane, time) = (kind.key.clone(), one.lane, one.begin);
        cx.commands.push(Command::Seek(Seek::First { key, lane, time }));
    }
}
