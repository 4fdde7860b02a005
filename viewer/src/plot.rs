//! Plots, for those who see them and those who do not.

use egui::accesskit::Role;
use egui::{AsIdSalt, Rect, Response, Sense, Ui, WidgetInfo, vec2};
use egui_plot::{GridInput, GridMark, Plot, PlotPoint, PlotResponse};

/// Height of a window beyond which plots grow.
const ROOMY: f32 = 900.0;
/// Most points of a plot that are announced; of more an even sample.
const MOST_POINTS: usize = 48;

/// The height of a plot that is `least` high in small windows: higher where there is more room.
pub(crate) fn height(ui: &Ui, least: f32) -> f32 {
    least * (ui.ctx().viewport_rect().height() / ROOMY).clamp(1.0, 1.8)
}

/// A plot that shows all it has, and does not move under the pointer.
pub(crate) fn still(id: impl AsIdSalt) -> Plot<'static> {
    Plot::new(id)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
}

/// Marks at round numbers, of which two to five are seen: a graph of small numbers has some, too.
pub(crate) fn few_marks(input: GridInput) -> Vec<GridMark> {
    marks(input, 3.0)
}

/// The same along a wide axis.
pub(crate) fn some_marks(input: GridInput) -> Vec<GridMark> {
    marks(input, 6.0)
}

fn marks(input: GridInput, parts: f64) -> Vec<GridMark> {
    let (from, to) = input.bounds;
    let step = round_up((to - from) / parts);
    if !step.is_finite() || step <= 0.0 {
        return Vec::new();
    }
    let first = (from / step).ceil();
    // Adding 0 makes -0 a 0.
    let values = (0..8).map(|index| (first + f64::from(index)) * step + 0.0);
    values.take_while(|value| *value <= to).map(|value| GridMark { value, step_size: step }).collect()
}

/// The next one of 1, 2 and 5, and their tenfolds.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    // Of powers, the last digits are not exact.
    found.into_iter().find(|found| *found >= value * (1.0 - 1e-9)).unwrap_or(value)
}

/// Says what a plot is and which points it has: `point` gives the place of each and its name.
pub(crate) fn announce<R>(
    ui: &Ui,
    plot: &PlotResponse<R>,
    name: &str,
    count: usize,
    point: impl Fn(usize) -> Option<([f64; 2], String)>,
) {
    plot.response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, name));
    if !ui.ctx().has_accesskit_node(plot.response.id) {
        return;
    }
    for at in (0..count).step_by(count.div_ceil(MOST_POINTS).max(1)) {
        let Some((place, label)) = point(at) else { continue };
        let center = plot.transform.position_from_point(&PlotPoint::from(place));
        let rect = Rect::from_center_size(center, vec2(5.0, 5.0)).intersect(plot.response.rect);
        if rect.is_positive() {
            let response = ui.interact(rect, plot.response.id.with(("point", at)), Sense::hover());
            response.widget_info(|| WidgetInfo::labeled(Role::GraphicsSymbol, true, label.as_str()));
        }
    }
}

/// Says what a row of a table has, and whether it is the chosen one.
pub(crate) fn announce_row(response: &Response, selected: bool, cells: &[impl AsRef<str>]) {
    response.widget_info(|| {
        let cells: Vec<&str> =
            cells.iter().map(AsRef::as_ref).filter(|cell: &&str| !cell.is_empty()).collect();
        WidgetInfo::labeled(Role::Row, true, cells.join(", "))
    });
    response.ctx.accesskit_node_builder(response.id, |node| node.set_selected(selected));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_several_marks_whatever_its_numbers() {
        for most in [0.001, 0.3, 0.9, 1.0, 1.7, 2.0, 3.0, 4.9, 7.0, 10.0, 99.0, 123_456.0, 9.9e9] {
            for below in [0.0, 0.05 * most] {
                let bounds = (-below, most * 1.05);
                let marks = few_marks(GridInput { bounds, base_step_size: most / 20.0 });
                assert!((2..=5).contains(&marks.len()), "{most} {below}: {marks:?}");
                assert_eq!(marks.iter().filter(|mark| mark.value == 0.0).count(), 1, "{marks:?}");
                assert!(marks.iter().all(|mark| !mark.value.is_sign_negative()), "{marks:?}");
            }
        }
        assert!(few_marks(GridInput { bounds: (1.0, 1.0), base_step_size: 1.0 }).is_empty());
    }
}
