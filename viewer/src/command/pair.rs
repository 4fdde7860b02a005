//! Commands about a second trace beside the open one.

use super::{Command, Effect, navigate};
use crate::session::{Aligned, ComparedWith};
use crate::state::{Document, Page, State};
use llmtrace_analysis::align::AlignBy;

/// Pixels that one press of a key moves the second trace.
const NUDGE: f32 = 4.0;

/// Carries one of them out.
pub(super) fn apply(state: &mut State, command: Command) -> Option<Effect> {
    match command {
        Command::CompareWith => return state.open().map(|_| Effect::AskForSecond),
        Command::CompareWithPath(path) => {
            if matches!(state.document, Document::Empty | Document::Failed { .. }) {
                return None;
            }
            forget(state);
            state.second = Document::Loading { path: path.clone(), progress: 0.0 };
            state.page = Page::Compare;
            return Some(Effect::LoadSecond(path));
        }
        Command::SwapSides => {
            let aligned = state.comparison.as_ref()?.aligned;
            let (Document::Open(a), Document::Open(_)) = (&mut state.document, &state.second) else {
                return None;
            };
            a.session.compared = None;
            std::mem::swap(&mut state.document, &mut state.second);
            state.comparison = None;
            state.align(Aligned { offset: aligned.offset.saturating_neg(), ..aligned });
            keep(state);
            return Some(Effect::SwapSides);
        }
        Command::CloseSecond => {
            forget(state);
            if let Some(open) = state.open_mut() {
                open.session.compared = None;
            }
            return Some(Effect::StopSecond);
        }
        Command::Align(by) => {
            let offset = offset(state)?;
            return aligned(state, Aligned { by, offset });
        }
        Command::AlignAt(offset) => return aligned(state, Aligned { by: AlignBy::Hand, offset }),
        Command::ShiftSecond(nanos) => {
            // What is shown further right lies under later times of A.
            let offset = offset(state)?.saturating_sub(nanos);
            // It is kept once the user lets go.
            state.align(Aligned { by: AlignBy::Hand, offset });
            keep(state);
        }
        Command::NudgeLeft | Command::NudgeRight => {
            let nanos = i64::try_from(state.open()?.view.nanos_from_pixels(NUDGE)).ok()?;
            let nanos = if command == Command::NudgeLeft { -nanos } else { nanos };
            apply(state, Command::ShiftSecond(nanos));
            return Some(Effect::SaveSession);
        }
        Command::Second(inner) => return second(state, *inner),
        _ => {}
    }
    None
}

/// Nanoseconds by which B's times are later in the middle of the window.
fn offset(state: &State) -> Option<i64> {
    let (a, _, comparison) = state.pair()?;
    Some(comparison.offset(&a.view))
}

fn aligned(state: &mut State, aligned: Aligned) -> Option<Effect> {
    state.align(aligned);
    keep(state);
    Some(Effect::SaveSession)
}

/// Writes down with what the trace is compared, and how.
pub(crate) fn keep(state: &mut State) {
    let Some((_, b, comparison)) = state.pair() else { return };
    let path = std::path::absolute(&b.path).unwrap_or_else(|_| b.path.clone());
    let compared = ComparedWith { path, aligned: comparison.aligned };
    if let Some(open) = state.open_mut() {
        open.session.compared = Some(compared);
    }
}

/// What is done to the second trace's window moves the first one's, which it follows.
fn second(state: &mut State, command: Command) -> Option<Effect> {
    let open = state.second.open_mut()?;
    let before = open.view;
    let effect = match command {
        Command::Seek(seek) => Some(Effect::Seek(seek)),
        Command::ClearSelection => {
            open.selected = None;
            open.range = None;
            None
        }
        Command::GoTo(found) => navigate(open, Command::Select(found)),
        other => navigate(open, other),
    };
    let view = open.view;
    if view != before
        && let Some((a, _, comparison)) = state.pair()
    {
        let view = comparison.unlinked(&view, &a.view);
        if let Some(open) = state.open_mut() {
            open.view = view;
        }
    }
    effect.map(|effect| Effect::Second(Box::new(effect)))
}

/// Windows of a pair move together; elsewhere a window stays in its trace.
pub(super) fn keep_linked(state: &mut State) {
    if state.page == Page::Compare && state.pair().is_some() {
        state.link();
    } else if let Some(open) = state.open_mut() {
        open.view = open.view.with_room([0; 2]);
    }
}

/// Forgets the second trace.
pub(super) fn forget(state: &mut State) {
    state.second = Document::Empty;
    state.comparison = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::apply;

    #[test]
    fn nothing_happens_without_a_trace_to_compare() {
        let mut state = State::default();
        for command in [
            Command::CompareWith,
            Command::CompareWithPath("/b".into()),
            Command::SwapSides,
            Command::CloseSecond,
            Command::Align(AlignBy::Time),
            Command::ShiftSecond(5),
            Command::NudgeLeft,
            Command::Second(Box::new(Command::ZoomIn)),
        ] {
            apply(&mut state, command);
            assert!(matches!((&state.document, &state.second), (Document::Empty, Document::Empty)));
        }
    }

    #[test]
    fn a_second_trace_may_be_asked_for_while_the_first_is_opened_and_goes_with_it() {
        let mut state = State::default();
        apply(&mut state, Command::OpenPath("/a".into()));
        let effect = apply(&mut state, Command::CompareWithPath("/b".into()));
        assert_eq!(effect, Some(Effect::LoadSecond("/b".into())));
        assert!(matches!(state.second, Document::Loading { .. }));
        apply(&mut state, Command::OpenPath("/c".into()));
        assert!(matches!(state.second, Document::Empty));
    }
}
