//! What each thread of the pool did for the chosen row.

use crate::panel::Cx;
use crate::text;
use crate::theme::OpClass;
use egui::accesskit::Role;
use egui::{Align2, FontId, Rect, Sense, Ui, WidgetInfo, pos2, vec2};
use llmtrace_analysis::lane_name;
use llmtrace_analysis::operators::Sums;

const NAME: f32 = 74.0;
const VALUE: f32 = 140.0;
const HEIGHT: f32 = 17.0;

/// One bar a thread: computing, then waiting.
pub(crate) fn threads_ui(ui: &mut Ui, cx: &Cx<'_>, sums: &Sums) {
    ui.strong("On each thread");
    if sums.lanes.is_empty() {
        ui.weak("nothing ran");
        return;
    }
    let longest = sums.lanes.values().map(|(compute, wait)| compute.saturating_add(*wait)).max();
    let scale = 1.0 / longest.unwrap_or(1).max(1) as f32;
    let colors = cx.colors;
    for (lane, (compute, wait)) in &sums.lanes {
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::hover());
        let times = format!("{} + {}", text::nanos(*compute), text::nanos(*wait));
        let name = lane_name(*lane);
        let said = format!("{name}: computing {}, waiting {}", text::nanos(*compute), text::nanos(*wait));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, said.as_str()));
        let bars =
            Rect::from_min_max(rect.min + vec2(NAME, 2.0), pos2(rect.right() - VALUE, rect.bottom() - 2.0));
        let x = |nanos: u64| bars.left() + nanos as f32 * scale * bars.width();
        let (until, end) = (x(*compute), x(compute.saturating_add(*wait)));
        let painter = ui.painter();
        let font = FontId::proportional(12.0);
        painter.text(rect.left_center(), Align2::LEFT_CENTER, name, font.clone(), colors.weak);
        painter.rect_filled(bars, 2.0, colors.lane);
        let part = |from: f32, to: f32| Rect::from_x_y_ranges(from..=to, bars.y_range());
        painter.rect_filled(part(bars.left(), until), 1.0, colors.op(OpClass::Matmul));
        painter.rect_filled(part(until, end), 1.0, colors.waiting(OpClass::Matmul));
        painter.text(rect.right_center(), Align2::RIGHT_CENTER, times, font, colors.text);
        response.on_hover_text(said);
    }
    ui.weak("computing, then waiting at the barriers after the nodes");
}
