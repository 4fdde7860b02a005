//! Plots.

use egui::AsIdSalt;
use egui_plot::Plot;

/// A plot that shows all it has, and does not move under the pointer.
pub(crate) fn still(id: impl AsIdSalt) -> Plot<'static> {
    Plot::new(id)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
}
