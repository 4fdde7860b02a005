//! The ruler of tokens: their numbers above the time. A click selects a token, a drag a run of
//! whole ones, as frames are selected elsewhere.

use super::lanes::token_names;
use super::view::View;
use crate::command::Command;
use crate::state::Open;
use crate::theme::Colors;
use egui::{FontId, Painter, Rect, Response, Stroke, pos2};
use llmtrace_analysis::{Nanos, Phase, TimeRange, Token};

/// Least distance of two labels, in points.
const APART: f32 = 46.0;

/// The token at a time; between two the later one.
fn token_near(open: &Open, time: Nanos) -> Option<usize> {
    let tokens = &open.trace.tokens;
    let after = tokens.partition_point(|token| token.range.end <= time);
    (!tokens.is_empty()).then(|| after.min(tokens.len() - 1))
}

/// Selects tokens by click and drag; `anchor` is where a drag began.
pub(crate) fn input(
    response: &Response,
    anchor: &mut Option<usize>,
    view: &View,
    left: f32,
    open: &Open,
    commands: &mut Vec<Command>,
) {
    let Some(pointer) = response.interact_pointer_pos() else {
        *anchor = None;
        return;
    };
    let at = |x: f32| token_near(open, view.time_from_x((x - left).clamp(0.0, view.width())));
    if response.drag_started() {
        let origin = response.ctx.input(|input| input.pointer.press_origin()).unwrap_or(pointer);
        *anchor = at(origin.x);
    }
    let of = |index: usize| open.trace.tokens.get(index).map(|token| token.range);
    let Some(now) = at(pointer.x) else { return };
    if response.double_clicked() {
        commands.extend(of(now).map(Command::ZoomTo));
    } else if response.clicked() {
        commands.extend(of(now).map(Command::SelectRange));
    } else if let Some(anchor) = anchor.filter(|_| response.dragged()) {
        let ends = of(anchor.min(now)).zip(of(anchor.max(now)));
        let range = ends.map(|(first, last)| TimeRange::new(first.begin, last.end.max(first.end)));
        commands.extend(range.map(Command::SelectRange));
    }
}

/// How many tokens from one label to the next: 1, 2 or 5 times a power of ten.
fn step(tokens: usize, width: f32) -> u32 {
    let most = (width / APART).max(1.0) as usize;
    let mut power = 1u32;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if tokens / step as usize <= most || step == u32::MAX {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// Draws it.
pub(crate) fn paint(painter: &Painter, rect: Rect, open: &Open, view: &View, colors: &Colors) {
    let painter = painter.with_clip_rect(rect);
    let tokens = &open.trace.tokens;
    let font = || FontId::proportional(11.0);
    if tokens.is_empty() {
        let text = "no tokens: no decode call was recorded";
        painter.text(rect.left_center(), egui::Align2::LEFT_CENTER, text, font(), colors.weak);
        return;
    }
    let sight = view.range();
    let from = tokens.partition_point(|token| token.range.end <= sight.begin);
    let to = tokens.partition_point(|token| token.range.begin < sight.end);
    let in_sight = tokens.get(from..to.max(from)).unwrap_or_default();
    let step = step(in_sight.len(), rect.width());
    let mut free = rect.left();
    // One token in sight is named wherever its begin is.
    let few = in_sight.len() <= 2;
    for token in in_sight.iter().filter(|token| few || labelled(token, step)) {
        let x = rect.left() + view.x_from_time(token.range.begin);
        let tick = painter.round_to_pixel_center(x);
        painter.vline(tick, rect.bottom() - 6.0..=rect.bottom(), Stroke::new(1.0, colors.line));
        let name = match token.phase {
            Phase::Decode => format!("d{}", token.number),
            _ => token_names(token)[1].clone(),
        };
        let galley = painter.layout_no_wrap(name, font(), colors.weak);
        let at = (x + 3.0).max(rect.left() + 3.0);
        if at < free || at + galley.size().x > rect.right() {
            continue;
        }
        free = at + galley.size().x + 8.0;
        painter.galley(pos2(at, rect.center().y - galley.size().y / 2.0), galley, colors.weak);
    }
}

fn labelled(token: &Token, step: u32) -> bool {
    token.phase != Phase::Decode || token.number.is_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance() {
        for tokens in [1usize, 7, 19, 73, 1000, 123_456, 40_000_000] {
            let step = step(tokens, 1000.0);
            let labels = tokens / step as usize;
            assert!(labels as f32 * APART <= 1000.0, "{tokens}: every {step}");
            assert!(step == 1 || labels >= 8, "{tokens}: every {step}");
        }
    }
}
