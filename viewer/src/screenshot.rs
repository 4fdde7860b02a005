//! Pictures of the window without a display: the same interface, drawn by
//! [`crate::raster`].

use crate::app::ViewerApp;
use crate::command::Command;
use crate::memo::Jobs;
use crate::raster::{Canvas, Textures};
use crate::recent::Store;
use crate::state::{Document, Page};
use crate::theme::{Colors, ThemeChoice};
use anyhow::{Context as _, Result, anyhow, bail};
use egui::{Pos2, RawInput, Rect, vec2};
use image::RgbaImage;
use llmtrace_analysis::search::{NodeMatch, first_from, matches};
use llmtrace_analysis::{Found, Phase, TimeRange, Trace};
use std::path::Path;

/// Frames until the layout has settled and animations have ended.
const FRAMES: u32 = 8;

/// What to draw.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Which page.
    pub page: Page,
    /// Points wide and high.
    pub size: [u32; 2],
    /// Pixels per point.
    pub scale: f32,
    /// Which theme; the system's counts as light.
    pub theme: ThemeChoice,
    /// What part of the timeline: see [`parse_range`].
    pub range: Option<String>,
    /// Which node to select, by a piece of its name.
    pub select: Option<String>,
}

/// Draws a picture of an open trace.
///
/// # Errors
/// When the trace cannot be opened, or has no such range or node.
pub fn render(path: &Path, shot: &Shot) -> Result<RgbaImage> {
    render_pair(path, None, shot)
}

/// Draws a picture of an open trace and, where one is given, a second one that it is compared with.
///
/// # Errors
/// As [`render`].
pub fn render_pair(path: &Path, second: Option<&Path>, shot: &Shot) -> Result<RgbaImage> {
    let context = egui::Context::default();
    let mut app = ViewerApp::new(&context, Store::default(), Jobs::Inline);
    app.state.settings.theme = shot.theme;
    context.set_theme(match shot.theme {
        ThemeChoice::Dark => egui::Theme::Dark,
        ThemeChoice::Light | ThemeChoice::System => egui::Theme::Light,
    });
    app.open(&context, path.to_owned());
    app.receive(&context);
    while matches!(app.state.document, Document::Loading { .. })
        || app.state.open().is_some_and(|o| o.loading.is_some())
    {
        app.receive(&context);
    }
    if let Some(second) = second {
        app.apply(&context, Command::CompareWithPath(second.to_owned()));
        app.receive(&context);
        while matches!(app.state.second, Document::Loading { .. }) {
            app.receive(&context);
        }
    }
    for document in [&app.state.document, &app.state.second] {
        if let Document::Failed { path, why, advice } = document {
            bail!("{why}\n{advice}\n{}", path.display());
        }
    }
    app.apply(&context, Command::Show(shot.page));
    let mut commands = Vec::new();
    let trace = &app.state.open().context("nothing is open")?.trace;
    let compares = shot.page == Page::Compare && second.is_some();
    if let Some(name) = shot.select.as_ref().filter(|_| !compares) {
        let found = matches(trace, name);
        let first = found.first().with_context(|| format!("no node is called {name}"))?;
        commands.push(Command::Select(occurrence_in(trace, first, shot.range.as_deref())?));
    }
    if let Some(range) = &shot.range {
        commands.push(Command::ZoomTo(parse_range(range, trace)?));
    } else if shot.select.is_some() && !compares {
        commands.push(Command::FrameSelection);
        commands.extend(std::iter::repeat_n(Command::ZoomOut, 5));
    }
    for command in commands {
        app.apply(&context, command);
    }
    if let Some(name) = shot.select.as_ref().filter(|_| compares) {
        app.choose_compared(name);
    }
    Ok(draw(&context, &mut app, shot))
}

fn draw(context: &egui::Context, app: &mut ViewerApp, shot: &Shot) -> RgbaImage {
    let size = vec2(shot.size[0] as f32, shot.size[1] as f32);
    let mut textures = Textures::default();
    let mut shapes = Vec::new();
    for frame in 0..FRAMES {
        let mut input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, size)),
            time: Some(f64::from(frame)),
            max_texture_side: Some(8192),
            ..RawInput::default()
        };
        input.viewports.entry(input.viewport_id).or_default().native_pixels_per_point = Some(shot.scale);
        let output = context.run_ui(input, |ui| app.draw(ui));
        textures.apply(output.textures_delta);
        shapes = output.shapes;
    }
    let primitives = context.tessellate(shapes, shot.scale);
    let background = Colors::of(&context.global_style().visuals).background;
    let [width, height] = shot.size.map(|points| (points as f32 * shot.scale).round() as usize);
    let mut canvas = Canvas::new(width, height, shot.scale, background);
    canvas.draw(&primitives, &textures);
    canvas.into_image()
}

/// The first occurrence in a range, on the first thread that has it.
fn occurrence_in(trace: &Trace, node: &NodeMatch, range: Option<&str>) -> Result<Found> {
    let begin = range.map_or(Ok(0), |range| parse_range(range, trace).map(|range| range.begin))?;
    let lanes = trace.lanes().iter().map(|lane| lane.id).chain([node.lane]);
    let mut found = lanes.filter_map(|lane| first_from(trace, &node.key, (lane, begin), &|| true));
    found.next().with_context(|| format!("{} does not run in the range", node.key.name))
}

/// A range of a trace: `all`, `token:5`, `prefill`, or `A..B` with times such
/// as `1.5s`, `20ms` or `300us`; a missing side is the trace's own.
///
/// # Errors
/// When it is none of these, is empty, or the trace has no such token.
pub fn parse_range(text: &str, trace: &Trace) -> Result<TimeRange> {
    let whole = trace.range();
    if text == "all" {
        return Ok(whole);
    }
    let token = |phase: Phase, number: u32| {
        let found = trace.tokens.iter().find(|token| token.phase == phase && token.number == number);
        found.map(|token| token.range).with_context(|| format!("no {} {number}", phase.name()))
    };
    if text == "prefill" {
        return token(Phase::Prefill, 0);
    }
    if let Some(number) = text.strip_prefix("token:") {
        return token(
            Phase::Decode,
            number.parse().with_context(|| format!("not a token's number: {number}"))?,
        );
    }
    let (begin, end) =
        text.split_once("..").ok_or_else(|| anyhow!("not a range such as 1s..1.5s: {text}"))?;
    let begin = if begin.is_empty() { whole.begin } else { parse_time(begin)? };
    let end = if end.is_empty() { whole.end } else { parse_time(end)? };
    if begin >= end {
        bail!("the range is empty: {text}");
    }
    Ok(TimeRange::new(begin, end))
}

fn parse_time(text: &str) -> Result<u64> {
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let found = units.iter().find_map(|(unit, nanos)| Some((text.strip_suffix(unit)?, nanos)));
    let (number, nanos) = found.with_context(|| format!("a time needs a unit (s, ms, us or ns): {text}"))?;
    let number: f64 = number.trim().parse().with_context(|| format!("not a time: {text}"))?;
    if !number.is_finite() || number < 0.0 {
        bail!("not a time: {text}");
    }
    Ok((number * nanos).round() as u64)
}

/// Reads `1280x720`.
///
/// # Errors
/// When it is no size, or too small or large for a window.
pub fn parse_size(text: &str) -> Result<[u32; 2]> {
    let sides = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    let sides: [u32; 2] = sides.with_context(|| format!("not a size such as 1280x720: {text}"))?;
    if sides.iter().any(|side| !(200..=8192).contains(side)) {
        bail!("a picture is 200 to 8192 points wide and high: {text}");
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("1.5s").ok(), Some(1_500_000_000));
        assert_eq!(parse_time("20ms").ok(), Some(20_000_000));
        assert_eq!(parse_time("300us").ok(), Some(300_000));
        assert!(parse_time("300").is_err());
        assert!(parse_time("-3ms").is_err());
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(parse_size("1280x720").ok(), Some([1280, 720]));
        for wrong in ["1280", "axb", "1x1", "99999x10"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
