//! Arrows: from the executions whose results the selected one reads and to those that read its
//! own, and from threads that wake others to those.

use super::backends::arrow_head;
use super::lanes::Canvas;
use super::rows::{Kind, Row};
use crate::state::Open;
use egui::epaint::CubicBezierShape;
use egui::{Color32, Pos2, Stroke, pos2, vec2};
use llmtrace_analysis::flow::Flows;
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::machine::State;
use llmtrace_analysis::{Found, Nanos};
use std::collections::HashMap;

/// Rows of states in sight beyond which no wake-ups are drawn: they would be a hatching.
const MOST_STATES: usize = 3000;
/// Least distance of two wake-ups on one lane, in points.
const WAKES_APART: f32 = 4.0;
/// Shortest line on one lane, in points.
const SHORT: f32 = 12.0;
/// How far beyond the lanes a line may reach, in points.
const BEYOND: f32 = 400.0;

/// What is around the selected span, kept until another one is.
#[derive(Default)]
pub(crate) struct Around {
    known: Option<(Found, Flows)>,
    /// Lanes by process and kernel thread.
    lanes: Option<HashMap<(u32, u32), u32>>,
}

impl Around {
    /// What is around the selected span; wants what is not decoded.
    pub(crate) fn selected(&mut self, open: &Open) -> Option<&Flows> {
        let selected = open.selected?;
        if self.known.as_ref().is_none_or(|(of, _)| *of != selected) {
            let (flows, missing) = open.trace.flows(&selected);
            if !missing.is_empty() {
                open.wanted.borrow_mut().extend(missing);
                return None;
            }
            self.known = Some((selected, flows));
        }
        self.known.as_ref().map(|(_, flows)| flows)
    }

    /// Draws all arrows over the lanes, whose first one is at `top`.
    pub(super) fn paint(&mut self, canvas: &Canvas<'_>, open: &Open, rows: &[Row], top: f32) {
        if !open.session.arrows {
            return;
        }
        self.paint_wakes(canvas, open, rows, top);
        let Some(selected) = open.selected else { return };
        let Some(flows) = self.selected(open) else { return };
        let middle = |lane: u32| {
            let row = rows.iter().find(|row| row.kind == Kind::Thread(lane))?;
            Some(top + row.top + row.height / 2.0)
        };
        let Some(own) = middle(selected.place.lane) else { return };
        let x = |time: Nanos| canvas.rect.left() + canvas.view.x_from_time(time);
        for source in &flows.sources {
            if let Some(y) = middle(source.place.lane) {
                let ends = [pos2(x(source.span.compute_end()), y), pos2(x(selected.span.begin), own)];
                curve(canvas, ends, canvas.colors.accent);
            }
        }
        for reader in &flows.readers {
            if let Some(y) = middle(reader.place.lane) {
                let ends = [pos2(x(selected.span.compute_end()), own), pos2(x(reader.span.begin), y)];
                curve(canvas, ends, canvas.colors.text);
            }
        }
    }

    /// Straight down or up, from the thread that woke to the one that was woken.
    fn paint_wakes(&mut self, canvas: &Canvas<'_>, open: &Open, rows: &[Row], top: f32) {
        let machine = &open.trace.machine;
        if machine.is_empty() {
            return;
        }
        let lanes = self.lanes.get_or_insert_with(|| lanes_of_threads(open));
        let strip = |lane: u32| {
            let row = rows.iter().find(|row| row.kind == Kind::States(lane))?;
            Some((top + row.top, top + row.top + row.height))
        };
        let stroke = Stroke::new(1.25, canvas.colors.warning);
        for row in rows {
            let Kind::States(lane) = row.kind else { continue };
            let range = canvas.view.range();
            let states = open.trace.lane_states(lane, range);
            let Some((states, own)) = states.zip(strip(lane)) else { continue };
            let states = states.within(range);
            if states.len() > MOST_STATES {
                continue;
            }
            let mut last = f32::NEG_INFINITY;
            for state in states {
                if State::from_u8(state.state) != State::Woken || state.other_tid == NONE {
                    continue;
                }
                let waker = lanes.get(&(state.process, state.other_tid)).copied();
                let Some(other) = waker.filter(|waker| *waker != lane).and_then(strip) else { continue };
                let x = canvas.rect.left() + canvas.view.x_from_time(state.begin);
                if x - last < WAKES_APART || !canvas.rect.x_range().contains(x) {
                    continue;
                }
                last = x;
                let [from, to] =
                    if other.0 < own.0 { [other.1, own.0] } else { [other.0, own.1] }.map(|y| pos2(x, y));
                canvas.painter.line_segment([from, to], stroke);
                arrow_head(canvas, from, to, stroke.color);
            }
        }
    }
}

fn lanes_of_threads(open: &Open) -> HashMap<(u32, u32), u32> {
    let file = &open.trace.file;
    let processes = file.recording.as_ref().map_or(&[][..], |recording| &recording.processes);
    let ids = open.trace.lane_ids();
    let mut lanes = HashMap::new();
    for thread in file.threads.rows() {
        let process = processes.iter().position(|process| process.pid == thread.pid).unwrap_or(0) as u32;
        let lane = process << super::rows::PROCESS_SHIFT | thread.ith;
        if ids.contains(&lane) {
            lanes.insert((process, thread.tid), lane);
        }
    }
    lanes
}

/// From one place of the lanes to another one, above what lies between them.
fn curve(canvas: &Canvas<'_>, [from, to]: [Pos2; 2], color: Color32) {
    let rect = canvas.rect;
    if from.x.min(to.x) > rect.right() || from.x.max(to.x) < rect.left() {
        return;
    }
    let near = |at: Pos2| pos2(at.x.clamp(rect.left() - BEYOND, rect.right() + BEYOND), at.y);
    let (from, to) = (near(from), near(to));
    // A line between neighbours, shorter than its ends are wide, would be but a blot.
    if (from.y - to.y).abs() < 1.0 && (to.x - from.x).abs() < SHORT {
        return;
    }
    let along = ((to.x - from.x) * 0.5).clamp(3.0, 160.0);
    // Between bars of one lane a straight line would lie on those.
    let lift = if (from.y - to.y).abs() < 1.0 { -(to.x - from.x).abs().clamp(10.0, 26.0) } else { 0.0 };
    let points = [from, from + vec2(along, lift), to + vec2(-along, lift), to];
    // On bars of any colour: what is around the line stands out from both.
    for stroke in [Stroke::new(4.0, canvas.colors.background), Stroke::new(1.75, color)] {
        canvas.painter.add(CubicBezierShape::from_points_stroke(points, false, Color32::TRANSPARENT, stroke));
    }
    canvas.painter.circle(from, 3.0, color, Stroke::new(1.0, canvas.colors.background));
    let back = if lift == 0.0 { vec2(-8.0, 0.0) } else { vec2(-along.min(7.0), -8.0) };
    arrow_head(canvas, to + back, to, color);
}
