//! Draws the lanes. Every lane is one mesh, plus text in bars that have room.

use super::arrange::Group;
use super::paint::Quads;
use super::rows::{Kind, Row};
use super::view::View;
use crate::state::Open;
use crate::text;
use crate::theme::{BAR_TEXT, Colors, MIN_BAR, MIN_TEXT_BAR, OpClass};
use egui::{Align2, Color32, FontId, Painter, Rect, Stroke, StrokeKind, pos2};
use llmtrace_analysis::fold::{Bar, What, first_not_before, fold};
use llmtrace_analysis::{Phase, TimeRange, Token};

/// Lanes at least this high have a second line of text in their bars.
const TWO_LINES: f32 = 44.0;

/// Lower ones have none.
const ONE_LINE: f32 = 13.0;

/// Fills `bars` with what a lane shows in `view`; wants what it lacks.
pub(crate) fn bars(open: &Open, lane: u32, view: &View, bars: &mut Vec<Bar>) {
    bars.clear();
    let Some(lane) = open.trace.lane(lane) else { return };
    let min_nanos = view.nanos_from_pixels(MIN_BAR);
    fold(&open.trace, lane, view.range(), min_nanos, bars, &mut open.wanted.borrow_mut());
}

/// What the lanes of a collapsed group do: threads as thin lanes, of others their names.
pub(super) fn collapsed(canvas: &Canvas<'_>, open: &Open, group: Group) {
    let names = || {
        let rows = super::rows::rows(open, 0.0).into_iter().filter(|row| Group::of(row.kind) == group);
        rows.map(|row| row.name(open)).collect::<Vec<_>>()
    };
    if group != Group::Threads {
        let text = text::shorten(&names().join(", "), 160);
        let at = canvas.rect.left_center() + egui::vec2(6.0, 0.0);
        let font = FontId::proportional(11.0);
        canvas.painter.text(at, Align2::LEFT_CENTER, text, font, canvas.colors.weak);
        return;
    }
    let lanes = open.trace.lanes();
    let each = canvas.rect.height() / lanes.len().max(1) as f32;
    let mut folded = Vec::new();
    for (at, lane) in lanes.iter().enumerate() {
        let top = canvas.rect.top() + each * at as f32;
        let gap = if each >= 4.0 { 1.0 } else { 0.0 };
        let rect = Rect::from_x_y_ranges(canvas.rect.x_range(), top..=top + each - gap);
        bars(open, lane.id, canvas.view, &mut folded);
        // Too low for names, however few lanes there are.
        let parts = Canvas { rect, ..*canvas };
        parts.thread(open, &folded, None, None, false);
    }
}

/// The class whose colour a bar has.
pub(crate) fn class(open: &Open, bar: &Bar) -> OpClass {
    match &bar.what {
        What::Buckets { op, .. } => open.class(*op),
        What::Span(_, span) | What::Folded(_, span) => open.class_of(span),
    }
}

/// Where and with what to draw.
pub(crate) struct Canvas<'a> {
    pub(crate) painter: &'a Painter,
    pub(crate) colors: &'static Colors,
    pub(crate) view: &'a View,
    /// The lane's rectangle, right of its name.
    pub(crate) rect: Rect,
}

impl Canvas<'_> {
    fn x(&self, time: u64) -> f32 {
        self.rect.left() + self.view.x_from_time(time)
    }

    /// The rectangle of a range, at least a pixel wide, and with a gap to its
    /// neighbour if there is room.
    pub(crate) fn bar(&self, range: TimeRange) -> Rect {
        let (left, right) = (self.x(range.begin), self.x(range.end));
        let right = if right - left > 4.0 { right - 1.0 } else { right.max(left + 1.0) };
        Rect::from_x_y_ranges(left..=right, self.rect.y_range())
    }

    /// The same without a gap: what follows touches it.
    pub(crate) fn exact_bar(&self, range: TimeRange) -> Rect {
        let (left, right) = (self.x(range.begin), self.x(range.end));
        Rect::from_x_y_ranges(left..=right.max(left + 1.0), self.rect.y_range())
    }

    /// Text in a bar, if there is room for one of `candidates` (the first that
    /// fits is shown).
    pub(crate) fn label(&self, bar: Rect, candidates: &[&str], y: f32, color: Color32) -> bool {
        let visible = bar.intersect(self.rect);
        let room = visible.width() - 8.0;
        if visible.width() < MIN_TEXT_BAR {
            return false;
        }
        for candidate in candidates {
            // Do not lay out what is far too long.
            if candidate.is_empty() || candidate.len() as f32 * 4.0 > room {
                continue;
            }
            let font = FontId::proportional(BAR_TEXT);
            let galley = self.painter.layout_no_wrap((*candidate).to_owned(), font, color);
            if galley.size().x <= room {
                let at = pos2(visible.left() + 4.0, y - galley.size().y / 2.0);
                self.painter.galley(at, galley, color);
                return true;
            }
        }
        false
    }

    /// An outline that is visible around the thinnest bar.
    pub(crate) fn outline(&self, range: TimeRange, stroke: Stroke) {
        let bar = self.bar(range);
        let bar = if bar.width() < 4.0 {
            Rect::from_center_size(bar.center(), egui::vec2(4.0, bar.height()))
        } else {
            bar
        };
        if bar.right() < self.rect.left() || bar.left() > self.rect.right() {
            return;
        }
        // Keep the corners in sight of the clip rectangle, or far outside it.
        let sides = self.rect.x_range().expand(50.0);
        let bar =
            Rect::from_x_y_ranges(bar.left().max(sides.min)..=bar.right().min(sides.max), bar.y_range());
        self.painter.rect_stroke(bar, 2.0, stroke, StrokeKind::Outside);
    }

    /// A thread's lane.
    ///
    /// `colors` are those of the bars, where a counter gives them; none for what is unknown.
    pub(crate) fn thread(
        &self,
        open: &Open,
        bars: &[Bar],
        colors: Option<&[Option<Color32>]>,
        hovered: Option<usize>,
        labelled: bool,
    ) {
        let mut quads = Quads::new(self.rect, bars.len() * 2 + 8);
        for (index, bar) in bars.iter().enumerate() {
            let next = bars.get(index + 1).map(|next| self.x(next.range.begin));
            let color = colors.map(|colors| colors.get(index).copied().flatten());
            self.thread_bar(&mut quads, open, (bar, next), color, hovered == Some(index));
        }
        self.painter.add(quads.into_shape());
        if !labelled || self.rect.height() < ONE_LINE {
            return;
        }
        let lines = self.rect.height() >= TWO_LINES;
        for (index, bar) in bars.iter().enumerate() {
            if let What::Span(_, span) = &bar.what
                && self.bar(bar.range).intersect(self.rect).width() >= MIN_TEXT_BAR
            {
                let computing = self.bar(TimeRange::new(span.begin, span.compute_end()));
                let background = match colors {
                    Some(colors) => colors.get(index).copied().flatten().unwrap_or(self.colors.lane),
                    None => self.colors.op(open.class_of(span)),
                };
                let (name, op) = (open.name(span), open.op(span));
                let color = self.colors.text_on(background);
                let y = self.rect.center().y;
                if lines {
                    let duration = text::nanos(span.compute);
                    let both = format!("{op}  {duration}");
                    if self.label(computing, &[name, op], y - 8.0, color) {
                        self.label(computing, &[&both, &duration], y + 8.0, color.gamma_multiply(0.8));
                    }
                } else {
                    self.label(computing, &[name, op], y, color);
                }
            }
        }
    }

    /// A bar; `next` is where the next one begins.
    fn thread_bar(
        &self,
        quads: &mut Quads,
        open: &Open,
        (bar, next): (&Bar, Option<f32>),
        color: Option<Option<Color32>>,
        hovered: bool,
    ) {
        let class = class(open, bar);
        let lighten = |color: Color32| {
            if hovered { color.lerp_to_gamma(self.colors.text, 0.25) } else { color }
        };
        // By a counter: what is unknown has no colour of its own.
        let by_counter = color.map(|color| color.unwrap_or(self.colors.lane));
        let computing = lighten(by_counter.unwrap_or(self.colors.op(class)));
        let waiting = by_counter.map_or(self.colors.waiting(class), |color| color.gamma_multiply(0.4));
        let waiting = lighten(waiting);
        let mut rect = self.bar(bar.range);
        // A gap thinner than a pixel would show now and then, as a slit.
        if let Some(next) =
            next.filter(|&next| rect.width() < 4.0 && next > rect.right() && next < rect.right() + 1.0)
        {
            rect.max.x = next;
        }
        if let What::Span(_, span) = &bar.what {
            let until = self.x(span.compute_end()).clamp(rect.left(), rect.right());
            if span.wait > 0 {
                let rect = Rect::from_x_y_ranges(until..=rect.right(), rect.y_range());
                quads.rect(rect, waiting);
                quads.stripes(rect, self.colors.stripes(class));
            }
            quads.rect(Rect::from_x_y_ranges(rect.left()..=until, rect.y_range()), computing);
            return;
        }
        // Several spans: the height says which part was computing.
        let nanos = bar.range.nanos().max(1) as f32;
        let share = |part: u64| (part as f32 / nanos).min(1.0) * rect.height();
        let busy = rect.bottom() - share(bar.compute);
        let until = (busy - share(bar.wait)).max(rect.top());
        quads.rect(Rect::from_x_y_ranges(rect.x_range(), until..=busy), waiting);
        quads.rect(Rect::from_x_y_ranges(rect.x_range(), busy..=rect.bottom()), computing);
    }

    /// Blocks of a lane that cannot be read: hatched, so that nobody takes them
    /// for idle time.
    pub(crate) fn damaged(&self, open: &Open, lane: u32) {
        let window = self.view.range();
        let mut quads = Quads::new(self.rect, 16);
        let damaged = open.trace.damaged();
        let mut bars = Vec::new();
        for block in damaged.iter().filter(|block| block.lane == lane && block.range.overlaps(window)) {
            let bar = self.bar(block.range);
            quads.rect(bar, self.colors.loss.gamma_multiply(0.18));
            quads.stripes(bar, self.colors.loss.gamma_multiply(0.4));
            bars.push(bar);
        }
        self.painter.add(quads.into_shape());
        for bar in bars {
            let candidates = ["this part of the file is damaged", "damaged"];
            self.label(bar, &candidates, self.rect.center().y, self.colors.text);
        }
    }

    /// The lane of tokens.
    pub(crate) fn tokens(&self, tokens: &[Token], hovered: Option<u64>, labelled: bool) {
        let mut quads = Quads::new(self.rect, 256);
        let mut labels = Vec::new();
        self.each_in_sight(
            tokens,
            |token| token.range,
            |bar, token| {
                let color = self.token_color(token);
                let is_hovered = hovered.is_some_and(|time| token.range.contains(time));
                let color = if is_hovered { color.lerp_to_gamma(self.colors.text, 0.25) } else { color };
                quads.rect(bar, color);
                labels.push((bar, token, color));
            },
        );
        self.painter.add(quads.into_shape());
        for (bar, token, color) in labels.into_iter().filter(|(bar, ..)| labelled && bar.width() >= 18.0) {
            let [long, short] = token_names(token);
            let color = self.colors.text_on(color);
            let room = if bar.width() < 40.0 { 3.0 } else { 0.0 };
            self.label(bar.expand2(egui::vec2(room, 0.0)), &[&long, &short], self.rect.center().y, color);
        }
    }

    pub(crate) fn token_color(&self, token: &Token) -> Color32 {
        match token.phase {
            Phase::Decode => self.colors.decode[token.number as usize % 2],
            _ => self.colors.prefill,
        }
    }

    /// The lane of graph computations.
    pub(crate) fn graphs(&self, open: &Open) {
        let mut quads = Quads::new(self.rect, 256);
        let mut labels = Vec::new();
        let range =
            |span: &llmtrace_analysis::format::tables::GraphSpan| TimeRange::new(span.begin, span.end);
        self.each_in_sight(&open.trace.graph_spans, range, |bar, span| {
            quads.rect(bar, self.colors.graph);
            if bar.width() >= 40.0 {
                labels.push((bar, span));
            }
        });
        self.painter.add(quads.into_shape());
        for (bar, span) in labels {
            let long = match open.trace.graph(span.graph) {
                Some(graph) => format!("graph {} · {} nodes", span.graph, graph.nodes),
                None => "graph not read".into(),
            };
            let short = format!("{}", span.graph);
            self.label(bar, &[&long, &short], self.rect.center().y, self.colors.weak);
        }
    }

    /// Calls `draw` for items in sight, at most about one a pixel; `items` are
    /// sorted by begin.
    pub(crate) fn each_in_sight<'a, T>(
        &self,
        items: &'a [T],
        range: impl Fn(&T) -> TimeRange,
        mut draw: impl FnMut(Rect, &'a T),
    ) {
        let window = self.view.range();
        let pixel = self.view.nanos_from_pixels(MIN_BAR);
        // The one before may reach into the window.
        let mut at = items.partition_point(|item| range(item).begin < window.begin).saturating_sub(1);
        let mut merged = 1;
        while let Some(item) = items.get(at) {
            let item_range = range(item);
            if item_range.begin >= window.end {
                break;
            }
            draw(self.bar(item_range), item);
            let next_pixel = item_range.begin.saturating_add(pixel);
            let before = |index: usize| items.get(index).is_some_and(|item| range(item).begin < next_pixel);
            let next = first_not_before(at + 1, items.len(), merged, before);
            (at, merged) = (next, next - at);
        }
    }

    /// A lane's name, left of it.
    pub(crate) fn name(&self, open: &Open, row: &Row, gutter: Rect) {
        let strong = matches!(row.kind, Kind::Thread(_));
        let color = if strong { self.colors.text } else { self.colors.weak };
        // Where the first line of a thread's text would be, in lanes that are far higher than it.
        let y = if row.kind == Kind::Experts { gutter.top() + 9.0 } else { gutter.center().y };
        let at = pos2(gutter.left() + 8.0, y);
        // Names of backends come from the recorded program.
        let mut job =
            egui::text::LayoutJob::simple_singleline(row.name(open), FontId::proportional(12.0), color);
        job.wrap = egui::text::TextWrapping::truncate_at_width(gutter.width() - 12.0);
        let galley = self.painter.layout_job(job);
        let at = Align2::LEFT_CENTER.anchor_size(at, galley.size()).min;
        self.painter.galley(at, galley, color);
    }
}

/// A token's name, long and short.
pub(crate) fn token_names(token: &Token) -> [String; 2] {
    match token.phase {
        Phase::Decode => {
            let number = token.number;
            [format!("d{number}"), number.to_string()]
        }
        phase => [format!("{} {} tokens", phase.name(), token.tokens), phase.name().to_owned()],
    }
}
