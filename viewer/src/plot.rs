//! Plots, for those who see them and those who do not.

use egui::accesskit::Role;
use egui::{AsIdSalt, Rect, Response, Sense, Ui, WidgetInfo, vec2};
use egui_plot::{Plot, PlotPoint, PlotResponse};

/// Most points of a plot that are announced; of more an even sample.
const MOST_POINTS: usize = 48;

/// A plot that shows all it has, and does not move under the pointer.
pub(crate) fn still(id: impl AsIdSalt) -> Plot<'static> {
    Plot::new(id)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
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
