//! Which part of the trace is in sight.
//!
//! Times are integers; only the duration in sight and the part of a
//! nanosecond at its left edge are not, so that panning is smooth at the
//! deepest zoom, where a nanosecond is a hundred pixels wide.

use llmtrace_analysis::{Nanos, TimeRange};

/// Nanoseconds per pixel at the deepest zoom.
const MIN_NANOS_PER_PIXEL: f64 = 0.01;
/// How much of the window may lie outside the trace, on either side.
const OVERSHOOT: f64 = 0.1;
/// How much of the window lies outside when the whole trace is shown.
const MARGIN: f64 = 0.01;
/// Room around a trace that does not bind: a century.
const ANYWHERE: f64 = 3e18;

/// The visible window of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The whole trace.
    trace: TimeRange,
    /// Time at the left edge: whole nanoseconds and the rest.
    begin: i64,
    fraction: f64,
    /// Nanoseconds in sight.
    nanos: f64,
    /// Pixels in sight.
    width: f32,
    /// Nanoseconds before and after the trace that may be looked at: where the trace that it is
    /// compared with has something.
    room: [f64; 2],
}

impl View {
    /// All of a trace.
    pub fn whole(trace: TimeRange, width: f32) -> Self {
        let trace = TimeRange::new(trace.begin, trace.end.max(trace.begin + 1));
        let width = width.max(1.0);
        let mut view = Self { trace, begin: 0, fraction: 0.0, nanos: 1.0, width, room: [0.0; 2] };
        view.show(trace, MARGIN);
        view
    }

    /// The same window of a trace that is longer now. What was shown whole is; and what reached to the
    /// end does.
    pub fn following(self, now: TimeRange) -> Self {
        let (before, sight) = (self.trace, self.range());
        let now = TimeRange::new(now.begin, now.end.max(now.begin + 1));
        if sight.begin <= before.begin && sight.end >= before.end {
            return Self::whole(now, self.width);
        }
        let mut view = Self { trace: now, ..self };
        if sight.end >= before.end {
            view.shift(now.end.saturating_sub(before.end) as f64);
        }
        view.clamp();
        view
    }

    /// The same window of a trace with another end.
    pub fn with_trace(self, trace: TimeRange) -> Self {
        Self { trace: TimeRange::new(trace.begin, trace.end.max(trace.begin + 1)), ..self }
    }

    /// The whole trace's range.
    pub fn trace(&self) -> TimeRange {
        self.trace
    }

    /// The same range of time on `width` pixels.
    pub fn with_width(mut self, width: f32) -> Self {
        self.width = width.max(1.0);
        self.clamp();
        self
    }

    /// The same window, which may go so many nanoseconds beyond the begin and the end of the trace.
    pub fn with_room(mut self, room: [u64; 2]) -> Self {
        self.room = room.map(|nanos| nanos as f64);
        self.clamp();
        self
    }

    /// All of the trace, and of the room around it.
    pub fn whole_with_room(mut self) -> Self {
        self.nanos = self.max_nanos();
        self.begin = self.trace.begin as i64;
        self.fraction = 0.0;
        let [before, _] = self.room;
        self.shift(-before - self.nanos * MARGIN);
        self.clamp();
        self
    }

    /// The same window of another trace whose times are `offset` nanoseconds later. It goes wherever
    /// this one goes.
    pub fn shifted(&self, trace: TimeRange, offset: i64) -> Self {
        let trace = TimeRange::new(trace.begin, trace.end.max(trace.begin + 1));
        Self { trace, begin: self.begin.saturating_add(offset), room: [ANYWHERE; 2], ..*self }
    }

    /// Pixels in sight.
    pub fn width(&self) -> f32 {
        self.width
    }

    /// Nanoseconds for each pixel.
    pub fn nanos_per_pixel(&self) -> f64 {
        self.nanos / f64::from(self.width)
    }

    /// Nanoseconds in sight.
    pub fn nanos(&self) -> f64 {
        self.nanos
    }

    /// Time at the left edge, rounded down.
    pub fn begin(&self) -> i64 {
        self.begin
    }

    /// The times of the trace in sight.
    pub fn range(&self) -> TimeRange {
        let end = self.begin.saturating_add((self.fraction + self.nanos).ceil() as i64);
        TimeRange::new(self.begin.max(0) as u64, end.max(0) as u64)
    }

    /// Pixels from the left edge to a time.
    pub fn x_from_time(&self, time: Nanos) -> f32 {
        let whole = i64::try_from(time).unwrap_or(i64::MAX).saturating_sub(self.begin);
        ((whole as f64 - self.fraction) / self.nanos_per_pixel()) as f32
    }

    /// Like [`View::x_from_time`], for times before the trace.
    pub fn x_from_signed(&self, time: i64) -> f32 {
        ((time.saturating_sub(self.begin) as f64 - self.fraction) / self.nanos_per_pixel()) as f32
    }

    /// The time at a number of pixels from the left edge.
    pub fn time_from_x(&self, x: f32) -> Nanos {
        let offset = (self.fraction + f64::from(x) * self.nanos_per_pixel()).floor();
        self.begin.saturating_add(offset as i64).max(0) as u64
    }

    /// The length of `pixels`, at least one nanosecond.
    pub fn nanos_from_pixels(&self, pixels: f32) -> u64 {
        (f64::from(pixels) * self.nanos_per_pixel()).round().max(1.0) as u64
    }

    /// Moves by a number of pixels; positive shows later times.
    pub fn pan(&mut self, pixels: f32) {
        self.shift(f64::from(pixels) * self.nanos_per_pixel());
        self.clamp();
    }

    /// Shows `factor` times less around the pixel `x`, which stays in place.
    pub fn zoom(&mut self, factor: f64, x: f32) {
        if !factor.is_finite() || factor <= 0.0 {
            return;
        }
        let before = self.nanos;
        self.nanos = (self.nanos / factor).clamp(self.min_nanos(), self.max_nanos());
        self.shift((before - self.nanos) * f64::from(x) / f64::from(self.width));
        self.clamp();
    }

    /// Shows a range and, on either side, `margin` times its length.
    pub fn show(&mut self, range: TimeRange, margin: f64) {
        let length = range.nanos().max(1) as f64;
        self.nanos = (length * (1.0 + 2.0 * margin)).clamp(self.min_nanos(), self.max_nanos());
        self.begin = range.begin as i64;
        self.fraction = 0.0;
        self.shift(-(self.nanos - length) / 2.0);
        self.clamp();
    }

    /// Brings a range into sight without changing the scale unless it does
    /// not fit or would be too small to see.
    pub fn reveal(&mut self, range: TimeRange) {
        let pixels = range.nanos() as f64 / self.nanos_per_pixel();
        if pixels > f64::from(self.width) * 0.8 || pixels < 4.0 {
            self.show(range, 4.0);
            return;
        }
        let (left, right) = (self.x_from_time(range.begin), self.x_from_time(range.end));
        let margin = self.width * 0.05;
        if left < margin || right > self.width - margin {
            self.pan((left + right) / 2.0 - self.width / 2.0);
        }
    }

    /// Moves so that `time` is in the middle.
    pub fn center(&mut self, time: Nanos) {
        self.begin = i64::try_from(time).unwrap_or(i64::MAX);
        self.fraction = 0.0;
        self.shift(-self.nanos / 2.0);
        self.clamp();
    }

    fn min_nanos(&self) -> f64 {
        f64::from(self.width) * MIN_NANOS_PER_PIXEL
    }

    fn max_nanos(&self) -> f64 {
        (self.reach() * (1.0 + 2.0 * MARGIN)).max(self.min_nanos())
    }

    /// Nanoseconds of the trace and the room around it.
    fn reach(&self) -> f64 {
        self.trace.nanos() as f64 + self.room.iter().sum::<f64>()
    }

    fn shift(&mut self, nanos: f64) {
        let offset = self.fraction + nanos;
        let whole = offset.floor();
        self.begin = self.begin.saturating_add(whole as i64);
        self.fraction = offset - whole;
    }

    /// Keeps the trace in sight.
    fn clamp(&mut self) {
        self.nanos = self.nanos.clamp(self.min_nanos(), self.max_nanos());
        let overshoot = if self.nanos > self.reach() { 0.0 } else { self.nanos * OVERSHOOT };
        let begin = self.trace.begin as i64;
        let [before, after] = self.room;
        let earliest = -before - overshoot;
        let latest = self.trace.nanos() as f64 + after - self.nanos + overshoot;
        let offset = self.begin.saturating_sub(begin) as f64 + self.fraction;
        let wanted = if earliest > latest {
            (earliest + latest) / 2.0
        } else if offset < earliest {
            earliest
        } else if offset > latest {
            latest
        } else {
            return;
        };
        self.begin = begin;
        self.fraction = 0.0;
        self.shift(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn view() -> View {
        View::whole(TimeRange::new(0, 10 * SECOND), 1000.0)
    }

    #[test]
    fn a_growing_trace_keeps_what_is_in_sight_or_its_end() {
        let (before, now) = (TimeRange::new(0, 1_000_000), TimeRange::new(0, 3_000_000));
        let whole = View::whole(before, 1000.0);
        assert_eq!(whole.following(now), View::whole(now, 1000.0));
        let mut middle = whole;
        middle.show(TimeRange::new(400_000, 500_000), 0.0);
        assert_eq!(middle.following(now).range(), middle.range());
        let mut end = whole;
        end.show(TimeRange::new(900_000, 1_000_000), 0.0);
        let followed = end.following(now);
        assert_eq!((followed.range().begin, followed.range().end), (2_900_000, 3_000_000));
        assert!((followed.nanos() - end.nanos()).abs() < 1.0);
    }

    #[test]
    fn whole_trace_fits_with_a_margin() {
        let view = view();
        assert!(view.x_from_time(0) > 0.0);
        assert!(view.x_from_time(10 * SECOND) < 1000.0);
    }

    #[test]
    fn time_under_the_pointer_stays_while_zooming() {
        let mut view = view();
        for step in 0..240 {
            let x = 300.0 + (step % 7) as f32;
            let before = view.time_from_x(x);
            view.zoom(1.1, x);
            let after = view.time_from_x(x);
            assert!(before.abs_diff(after) <= 1 + (before as f64 * 1e-12) as u64, "step {step}");
        }
        assert!((view.nanos_per_pixel() - MIN_NANOS_PER_PIXEL).abs() < 1e-6);
    }

    #[test]
    fn pixels_and_times_agree() {
        let mut view = view();
        view.show(TimeRange::new(5 * SECOND, 5 * SECOND + 1000), 0.0);
        for x in [0.0, 17.0, 500.0, 999.0] {
            assert!((view.x_from_time(view.time_from_x(x)) - x).abs() <= 1.0);
        }
    }

    #[test]
    fn nobody_gets_lost() {
        let mut view = view();
        view.zoom(50.0, 10.0);
        view.pan(-1e9);
        assert!(view.x_from_time(0) <= 1000.0 * OVERSHOOT as f32 + 1.0);
        view.pan(1e9);
        assert!(view.x_from_time(10 * SECOND) >= 1000.0 * (1.0 - OVERSHOOT as f32) - 1.0);
        view.zoom(1e-9, 500.0);
        assert_eq!(view, super::View::whole(TimeRange::new(0, 10 * SECOND), 1000.0));
    }

    #[test]
    fn panning_is_smooth_at_the_deepest_zoom() {
        let mut view = view();
        view.show(TimeRange::new(SECOND, SECOND + 10), 0.0);
        let before = view.x_from_time(SECOND);
        view.pan(3.0);
        assert!((before - view.x_from_time(SECOND) - 3.0).abs() < 0.01);
    }

    #[test]
    fn revealing_keeps_the_scale_when_it_can() {
        let mut view = view();
        view.show(TimeRange::new(SECOND, 2 * SECOND), 0.0);
        let scale = view.nanos_per_pixel();
        view.reveal(TimeRange::new(4 * SECOND, 4 * SECOND + SECOND / 10));
        assert_eq!(view.nanos_per_pixel(), scale);
        assert!(view.range().contains(4 * SECOND));
        view.reveal(TimeRange::new(6 * SECOND, 6 * SECOND + 100));
        assert!(view.nanos_per_pixel() < 2.0);
    }

    #[test]
    fn room_shows_what_another_trace_has_and_the_other_window_follows_exactly() {
        let view = view().with_room([2 * SECOND, 30 * SECOND]).whole_with_room();
        assert!(view.x_from_signed(-2 * SECOND as i64) > 0.0 && view.x_from_time(40 * SECOND) < 1000.0);
        let mut lead = view;
        lead.zoom(400.0, 900.0);
        let other = TimeRange::new(70 * SECOND, 71 * SECOND);
        let follower = lead.shifted(other, 69 * SECOND as i64).with_width(1000.0);
        assert_eq!(follower.nanos(), lead.nanos());
        assert_eq!(follower.begin(), lead.begin() + 69 * SECOND as i64);
        // Without the room it comes back.
        assert!(lead.with_room([0; 2]).range().begin <= 11 * SECOND);
    }

    #[test]
    fn empty_trace_has_a_view() {
        let view = View::whole(TimeRange::default(), 0.0);
        assert!(view.nanos_per_pixel() > 0.0);
        assert!(view.x_from_time(0).is_finite());
    }
}
