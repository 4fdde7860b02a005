//! What each thread of the pool did for the chosen row.

use crate::panel::Cx;
use crate::text;
use crate::theme::OpClass;
use crate::timeline::rows::thread_name;
use egui::accesskit::Role;
use egui::{Align2, FontId, Rect, Sense, Ui, WidgetInfo, pos2, vec2};
use llmtrace_analysis::operators::Sums;

/// Least and greatest width of names.
const NAME: std::ops::RangeInclusive<f32> = 74.0..=190.0;
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
    let font = FontId::proportional(12.0);
    let each = |lane: &u32| {
        ui.painter().layout_no_wrap(thread_name(cx.open, *lane), font.clone(), colors.weak).size().x
    };
    let name_width = sums.lanes.keys().map(each).fold(0.0, f32::max) + 10.0;
    let name_width = name_width.clamp(*NAME.start(), *NAME.end());
    for (lane, (compute, wait)) in &sums.lanes {
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::hover());
        let times = format!("{} + {}", text::nanos(*compute), text::nanos(*wait));
        let name = thread_name(cx.open, *lane);
        let said = format!("{name}: computing {}, waiting {}", text::nanos(*compute), text::nanos(*wait));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, said.as_str()));
        let bars = Rect::from_min_max(
            rect.min + vec2(name_width, 2.0),
            pos2(rect.right() - VALUE, rect.bottom() - 2.0),
        );
        let x = |nanos: u64| bars.left() + nanos as f32 * scale * bars.width();
        let (until, end) = (x(*compute), x(compute.saturating_add(*wait)));
        let painter = ui.painter();
        painter.text(rect.left_center(), Align2::LEFT_CENTER, name, font.clone(), colors.weak);
        painter.rect_filled(bars, 2.0, colors.lane);
        let part = |from: f32, to: f32| Rect::from_x_y_ranges(from..=to, bars.y_range());
        painter.rect_filled(part(bars.left(), until), 1.0, colors.op(OpClass::Matmul));
        painter.rect_filled(part(until, end), 1.0, colors.waiting(OpClass::Matmul));
        painter.text(rect.right_center(), Align2::RIGHT_CENTER, times, font.clone(), colors.text);
        response.on_hover_text(said);
    }
    ui.weak("computing, then waiting at the barriers after the nodes");
}
