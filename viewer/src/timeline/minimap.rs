//! The whole trace in a strip: tokens on top, how busy the threads are below,
//! and the visible window, which can be moved and resized.

use super::lanes::Canvas;
use super::paint::Quads;
use super::view::View;
use crate::session::Metric;
use crate::state::Open;
use crate::theme::Colors;
use egui::{CursorIcon, Painter, Rect, Response, Stroke, StrokeKind, pos2};
use llmtrace_analysis::fold::{Bar, fold};
use llmtrace_analysis::{Nanos, TimeRange};

/// How near an edge the pointer grabs it.
const EDGE: f32 = 6.0;
/// Height of the strip of tokens.
const TOKENS: f32 = 9.0;

/// The minimap's own state.
#[derive(Default)]
pub(crate) struct Minimap {
    grab: Option<Grab>,
    /// Busy share of each pixel, and what it was computed for: pixels, metric, length of the file.
    busy: Vec<f32>,
    busy_of: Option<(usize, Metric, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Grab {
    /// The window, this many nanoseconds right of its left edge.
    Window(i64),
    /// Its left edge; the right one stays.
    Left(Nanos),
    /// Its right edge; the left one stays.
    Right(Nanos),
    /// A new window from here.
    New(Nanos),
}

impl Minimap {
    /// Moves the window as the pointer drags it.
    pub(crate) fn input(&mut self, response: &Response, view: &mut View) {
        let rect = response.rect;
        let whole = View::whole(view.trace(), rect.width());
        let window = view.range();
        let left = rect.left() + whole.x_from_time(window.begin);
        let right = rect.left() + whole.x_from_time(window.end);
        if let Some(pointer) = response.hover_pos() {
            let near = |x: f32| (pointer.x - x).abs() < EDGE;
            let cursor = match pointer.x {
                _ if near(left) || near(right) => CursorIcon::ResizeHorizontal,
                x if left < x && x < right => CursorIcon::Grab,
                _ => CursorIcon::Crosshair,
            };
            response.ctx.set_cursor_icon(cursor);
        }
        let Some(pointer) = response.interact_pointer_pos() else {
            self.grab = None;
            return;
        };
        let time = whole.time_from_x(pointer.x - rect.left());
        if response.drag_started() {
            let origin = response.ctx.input(|input| input.pointer.press_origin()).unwrap_or(pointer);
            let at = whole.time_from_x(origin.x - rect.left());
            self.grab = Some(match origin.x {
                x if (x - left).abs() < EDGE => Grab::Left(window.end),
                x if (x - right).abs() < EDGE => Grab::Right(window.begin),
                x if left < x && x < right => Grab::Window(at as i64 - view.begin()),
                _ => Grab::New(at),
            });
        }
        if response.clicked() {
            view.center(time);
        }
        match self.grab.filter(|_| response.dragged()) {
            Some(Grab::Window(offset)) => {
                let middle = time as f64 - offset as f64 + view.nanos() / 2.0;
                view.center(middle.max(0.0) as u64);
            }
            Some(Grab::Left(fixed) | Grab::Right(fixed) | Grab::New(fixed)) if time != fixed => {
                view.show(TimeRange::new(time.min(fixed), time.max(fixed)), 0.0);
            }
            _ => {}
        }
    }

    /// Draws it.
    pub(crate) fn paint(
        &mut self,
        painter: &Painter,
        rect: Rect,
        open: &Open,
        view: &View,
        colors: &'static Colors,
    ) {
        let whole = View::whole(view.trace(), rect.width());
        self.update(open, &whole);
        let painter = painter.with_clip_rect(rect);
        painter.rect_filled(rect, 3.0, colors.lane);
        let strip = Rect::from_min_max(rect.min, pos2(rect.right(), rect.top() + TOKENS));
        let below = Rect::from_min_max(pos2(rect.left(), strip.bottom() + 2.0), rect.max);
        Canvas { painter: &painter, colors, view: &whole, rect: strip }.tokens(
            &open.trace.tokens,
            None,
            false,
        );
        let mut quads = Quads::new(rect, self.busy.len() + 2);
        let color = colors.op(crate::theme::OpClass::Matmul).gamma_multiply(0.75);
        for (index, busy) in self.busy.iter().enumerate() {
            let left = below.left() + index as f32;
            let top = below.bottom() - busy * below.height();
            quads.rect(Rect::from_min_max(pos2(left, top), pos2(left + 1.0, below.bottom())), color);
        }
        // What is out of sight is dimmed.
        let window = view.range();
        let left = rect.left() + whole.x_from_time(window.begin);
        let right = (rect.left() + whole.x_from_time(window.end)).max(left + 2.0);
        let veil = colors.background.gamma_multiply(0.62);
        quads.rect(Rect::from_x_y_ranges(rect.left()..=left, rect.y_range()), veil);
        quads.rect(Rect::from_x_y_ranges(right..=rect.right(), rect.y_range()), veil);
        painter.add(quads.into_shape());
        super::overlay::paint_loss_ticks(
            &Canvas { painter: &painter, colors, view: &whole, rect: below },
            open,
        );
        let frame = Rect::from_x_y_ranges(left..=right, rect.y_range());
        painter.rect_stroke(frame, 2.0, Stroke::new(1.5, colors.accent), StrokeKind::Inside);
    }

    fn update(&mut self, open: &Open, whole: &View) {
        let pixels = whole.width() as usize;
        let metric = open.session.metric;
        // A file that is being recorded grows.
        let bytes = open.trace.file.len();
        if self.busy_of == Some((pixels, metric, bytes)) {
            return;
        }
        self.busy.clear();
        self.busy.resize(pixels, 0.0);
        if metric == Metric::Tokens {
            let longest = open.trace.tokens.iter().map(|token| token.range.nanos()).max().unwrap_or(1);
            for token in &open.trace.tokens {
                let share = token.range.nanos() as f32 / longest.max(1) as f32;
                let (left, right) =
                    (whole.x_from_time(token.range.begin), whole.x_from_time(token.range.end));
                let pixels = left.max(0.0) as usize..(right.ceil().max(0.0) as usize).min(pixels);
                self.busy.get_mut(pixels).into_iter().flatten().for_each(|busy| *busy = busy.max(share));
            }
            self.busy_of = Some((pixels, metric, bytes));
            return;
        }
        let min_nanos = whole.nanos_from_pixels(1.0);
        let mut bars: Vec<Bar> = Vec::new();
        let mut missing = Vec::new();
        for lane in open.trace.lanes() {
            bars.clear();
            fold(&open.trace, lane, whole.range(), min_nanos, &mut bars, &mut missing);
            for bar in &bars {
                let part = if metric == Metric::Waiting { bar.wait } else { bar.compute };
                spread(&mut self.busy, whole, (bar, part), open.trace.lanes().len() as f32);
            }
        }
        // A file without footer has no summary of the whole: drawn as it arrives.
        self.busy_of = missing.is_empty().then_some((pixels, metric, bytes));
        open.wanted.borrow_mut().extend(missing);
    }
}

/// Adds a bar's busy share to the pixels that it covers.
fn spread(busy: &mut [f32], whole: &View, (bar, part): (&Bar, u64), lanes: f32) {
    let share = part as f32 / bar.range.nanos().max(1) as f32 / lanes;
    let (left, right) = (whole.x_from_time(bar.range.begin).max(0.0), whole.x_from_time(bar.range.end));
    let mut pixel = left as usize;
    while let Some(value) = busy.get_mut(pixel)
        && (pixel as f32) < right
    {
        let part = right.min(pixel as f32 + 1.0) - left.max(pixel as f32);
        *value = (*value + share * part.max(0.0)).min(1.0);
        pixel += 1;
    }
}
