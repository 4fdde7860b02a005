//! What mouse and keys do in the lanes.
//!
//! | Gesture | Effect |
//! |---|---|
//! | wheel, Ctrl+wheel, pinch, `W` `S` or chosen keys | zoom at the pointer |
//! | Shift+wheel, sideways wheel, `A` `D` or chosen keys | pan |
//! | drag | select a range |
//! | Shift+drag, right or middle drag, drag on the ruler | pan |
//! | click | select |
//! | double click | fill the window |

use super::view::View;
use crate::command::Command;
use egui::{Context, Event, Key, PointerButton, Response};
use llmtrace_analysis::{Nanos, TimeRange};

/// Points of wheel that double the scale.
const WHEEL_DOUBLE: f64 = 160.0;
/// How often a held zoom key doubles the scale in a second.
const KEY_DOUBLES: f64 = 2.6;
/// Windows that a held pan key moves in a second.
const KEY_WINDOWS: f32 = 1.1;
/// Shorter drags are clicks.
const MIN_DRAG: f32 = 3.0;

/// How near to an edge of a token or a bar the end of a range snaps to it, in pixels.
const SNAP: f32 = 4.0;

/// A drag in the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drag {
    /// Selects from here.
    Range(Nanos),
    /// Moves the window.
    Pan,
}

/// Zooms and pans by wheel and pinch.
pub(crate) fn wheel(response: &Response, view: &mut View, left: f32, vertical_scroll: bool) -> bool {
    if !response.contains_pointer() {
        return false;
    }
    let (zoom, scroll, pointer) = response
        .ctx
        .input(|input| (input.zoom_delta(), input.smooth_scroll_delta(), input.pointer.hover_pos()));
    let x = pointer.map_or(view.width() / 2.0, |pointer| pointer.x - left);
    let before = *view;
    if zoom != 1.0 {
        view.zoom(f64::from(zoom), x);
    } else if !vertical_scroll && scroll.y != 0.0 && scroll.y.abs() >= scroll.x.abs() {
        view.zoom((f64::from(scroll.y) / WHEEL_DOUBLE).exp2(), x);
    }
    if scroll.x != 0.0 && scroll.x.abs() > scroll.y.abs() {
        view.pan(-scroll.x);
    }
    before != *view
}

/// Which of the keys that zoom and move are held, by their place on the keyboard: on one where other letters
/// are there, those.
#[derive(Debug, Default)]
pub(crate) struct Held([bool; 4]);

impl Held {
    fn update(&mut self, input: &egui::InputState, keys: &[Option<Key>; 4]) {
        for event in &input.events {
            match event {
                Event::Key { key, physical_key, pressed, modifiers, .. } => {
                    let place = Some(physical_key.unwrap_or(*key));
                    let place = keys.iter().position(|known| *known == place);
                    let plain = modifiers.is_none() || modifiers.shift_only();
                    if let Some(held) = place.and_then(|place| self.0.get_mut(place)) {
                        *held = *pressed && plain;
                    }
                }
                Event::WindowFocused(false) => self.0 = [false; 4],
                _ => {}
            }
        }
    }
}

/// Zooms and pans while one of `keys` is held: in, out, earlier, later.
pub(crate) fn held_keys(
    context: &Context,
    (held, keys): (&mut Held, &[Option<Key>; 4]),
    view: &mut View,
    pointer_x: Option<f32>,
) {
    let dt = context.input(|input| {
        held.update(input, keys);
        input.stable_dt.min(0.1)
    });
    if context.egui_wants_keyboard_input() {
        *held = Held::default();
        return;
    }
    let down = held.0;
    let [zoom_in, zoom_out, earlier, later] = down;
    if !down.contains(&true) {
        return;
    }
    let x = pointer_x.unwrap_or(view.width() / 2.0);
    let doubles = f64::from(i8::from(zoom_in) - i8::from(zoom_out)) * KEY_DOUBLES;
    view.zoom((doubles * f64::from(dt)).exp2(), x);
    view.pan(f32::from(i8::from(later) - i8::from(earlier)) * KEY_WINDOWS * dt * view.width());
    context.request_repaint();
}

/// Selects a range or pans by dragging. `left` is where time begins on screen.
pub(crate) fn drag(
    response: &Response,
    current: &mut Option<Drag>,
    view: &mut View,
    left: f32,
    snap: impl Fn(Nanos, u64) -> Nanos,
    commands: &mut Vec<Command>,
) {
    let (origin, modifiers, delta) =
        response.ctx.input(|input| (input.pointer.press_origin(), input.modifiers, input.pointer.delta()));
    let shift = modifiers.shift;
    // Ctrl is for exactly where the pointer is.
    let slack = if modifiers.command { 0 } else { view.nanos_from_pixels(SNAP) };
    if response.drag_started()
        && let Some(origin) = origin
    {
        let pan = shift || !response.drag_started_by(PointerButton::Primary) || origin.x < left;
        *current =
            Some(if pan { Drag::Pan } else { Drag::Range(snap(view.time_from_x(origin.x - left), slack)) });
    }
    match (*current, response.interact_pointer_pos()) {
        (Some(Drag::Pan), _) if response.dragged() => view.pan(-delta.x),
        (Some(Drag::Range(anchor)), Some(pointer)) => {
            let x = (pointer.x - left).clamp(0.0, view.width());
            let time = snap(view.time_from_x(x), slack);
            if (x - view.x_from_time(anchor)).abs() >= MIN_DRAG {
                let range = TimeRange::new(anchor.min(time), anchor.max(time).max(anchor.min(time) + 1));
                commands.push(Command::SelectRange(range));
            }
        }
        _ => {}
    }
    if response.drag_stopped() {
        *current = None;
    }
}
