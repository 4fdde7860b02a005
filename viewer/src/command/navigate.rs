//! Commands about the open trace: moving about, selecting, marking.

use super::{Command, Effect};
use crate::seek::Seek;
use crate::session::Change;
use crate::state::Open;
use crate::timeline::Group;
use crate::timeline::view::View;
use llmtrace_analysis::search::Direction;
use llmtrace_analysis::{Found, Place, TimeRange};

/// How much one press of a zoom key shows less.
const ZOOM_STEP: f64 = 1.5;
/// What part of the window one press of a pan key moves.
const PAN_STEP: f32 = 0.15;

/// Commands that need an open trace.
pub(super) fn navigate(open: &mut Open, command: Command) -> Option<Effect> {
    let middle = open.view.width() / 2.0;
    match command {
        Command::ZoomIn => open.view.zoom(ZOOM_STEP, middle),
        Command::ZoomOut => open.view.zoom(1.0 / ZOOM_STEP, middle),
        Command::PanLeft => open.view.pan(-open.view.width() * PAN_STEP),
        Command::PanRight => open.view.pan(open.view.width() * PAN_STEP),
        Command::WholeTrace => open.view = View::whole(open.trace.range(), open.view.width()),
        Command::Look(view) => open.view = view,
        Command::ZoomTo(range) => open.view.show(range, 0.05),
        Command::Select(found) => {
            open.selected = Some(found);
            open.range = None;
        }
        Command::SelectRange(range) => {
            open.range = Some(range);
            open.selected = None;
        }
        Command::FrameSelection => {
            let selected = open.selected.map(|found| TimeRange::new(found.span.begin, found.span.end()));
            if let Some(range) = open.range.or(selected) {
                open.view.show(range, 0.1);
            }
        }
        Command::Session(change) => {
            // A counter that gives the colours gives way to what is chosen last.
            if matches!(change, Change::Color(_)) {
                open.counters.color = None;
            }
            open.session.apply(change);
            return Some(Effect::SaveSession);
        }
        Command::MarkHere => {
            let selected = open.selected.map(|found| found.span.begin);
            let time = selected.or(open.range.map(|range| range.begin));
            let time = time.unwrap_or_else(|| open.view.time_from_x(middle));
            open.session.apply(Change::Mark(time));
            return Some(Effect::SaveSession);
        }
        Command::Highlight(highlight) => open.highlight = highlight,
        Command::ShowCounters(counters) => open.counters = counters,
        Command::NextHighlight => step_highlight(open, Direction::Forward),
        Command::PreviousHighlight => step_highlight(open, Direction::Backward),
        Command::Reveal(range) => open.view.reveal(range),
        Command::NextOccurrence => return occurrence(open, Direction::Forward),
        Command::PreviousOccurrence => return occurrence(open, Direction::Backward),
        Command::CollapseLanes(collapse) => {
            let names = Group::FOLDABLE.iter().filter(|_| collapse).map(|group| group.name().to_owned());
            open.session.apply(Change::CollapseOnly(names.collect()));
            return Some(Effect::SaveSession);
        }
        Command::NextToken => step_token(open, Direction::Forward),
        Command::PreviousToken => step_token(open, Direction::Backward),
        Command::LaneDown => return lane_beside(open, 1),
        Command::LaneUp => return lane_beside(open, -1),
        Command::NextSpan | Command::PreviousSpan if open.selected.is_none() => {
            return lane_beside(open, 0);
        }
        Command::NextSpan => {
            let place = open.selected?.place;
            return Some(Effect::Seek(Seek::Span(Place { index: place.index.saturating_add(1), ..place })));
        }
        Command::PreviousSpan => {
            let place = open.selected?.place;
            return Some(Effect::Seek(Seek::Span(Place { index: place.index.checked_sub(1)?, ..place })));
        }
        _ => {}
    }
    None
}

/// Selects the token after or before what is selected; the one in the middle of the window when
/// nothing is.
fn step_token(open: &mut Open, direction: Direction) {
    let tokens = &open.trace.tokens;
    let span = open.selected.map(|found| TimeRange::new(found.span.begin, found.span.end()));
    let next = match open.range.or(span) {
        None => {
            let middle = open.view.time_from_x(open.view.width() / 2.0);
            tokens.get(tokens.partition_point(|token| token.range.end <= middle)).or(tokens.last())
        }
        Some(range) => match direction {
            Direction::Forward => {
                tokens.get(tokens.partition_point(|token| token.range.begin <= range.begin))
            }
            Direction::Backward => {
                let before = tokens.partition_point(|token| token.range.begin < range.begin);
                before.checked_sub(1).and_then(|at| tokens.get(at))
            }
        },
    };
    if let Some(range) = next.map(|token| token.range) {
        open.range = Some(range);
        open.selected = None;
        open.view.reveal(range);
    }
}

/// The span at the time of the selected one on a lane so many further down; without a selection the
/// first in sight.
fn lane_beside(open: &Open, step: isize) -> Option<Effect> {
    let lanes = open.trace.lane_ids();
    let (lane, time) = match open.selected {
        Some(found) => {
            let at = lanes.iter().position(|lane| *lane == found.place.lane)?;
            // In the middle: threads begin a node some nanoseconds apart.
            let middle = found.span.begin.saturating_add(found.span.compute / 2);
            (*lanes.get(at.checked_add_signed(step)?)?, middle)
        }
        None => (*lanes.first()?, open.view.range().begin),
    };
    Some(Effect::Seek(Seek::At { lane, time }))
}

/// To the nearest marked time right or left of the middle of the window.
fn step_highlight(open: &mut Open, direction: Direction) {
    let Some(highlight) = open.highlight.clone() else { return };
    let (ranges, middle) = (&highlight.ranges, open.view.time_from_x(open.view.width() / 2.0));
    let slack = open.view.nanos_from_pixels(2.0);
    let center = |range: &TimeRange| range.begin.saturating_add(range.nanos() / 2);
    let found = match direction {
        Direction::Forward => {
            let after = |range: &TimeRange| center(range) <= middle.saturating_add(slack);
            ranges.get(ranges.partition_point(after))
        }
        Direction::Backward => {
            let before = |range: &TimeRange| center(range).saturating_add(slack) < middle;
            ranges.partition_point(before).checked_sub(1).and_then(|at| ranges.get(at))
        }
    };
    if let Some(range) = found {
        open.view.reveal(*range);
        open.view.center(center(range));
    }
}

fn occurrence(open: &Open, direction: Direction) -> Option<Effect> {
    let Found { place, span } = open.selected?;
    Some(Effect::Seek(Seek::Occurrence { key: open.key(&span), from: place, direction }))
}
