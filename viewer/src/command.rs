//! Everything a user can do. Menus, keys and the list of keys come from
//! [`TABLE`]; [`apply`] carries a command out.

mod manual;
mod navigate;
mod pair;
mod table;

pub use manual::manual;
pub(crate) use pair::keep as keep_pair;
pub use table::{Entry, HELD, Menu, TABLE, key_name};

use crate::copy::What;
use crate::counters::CounterView;
use crate::history::Visit;
use crate::save::Saving;
use crate::seek::Seek;
use crate::session::Change;
use crate::state::{Document, Highlight, Page, State};
use crate::theme::{PaletteChoice, ThemeChoice};
use crate::timeline::view::View;
use egui::KeyboardShortcut;
use llmtrace_analysis::align::AlignBy;
use llmtrace_analysis::{Found, TimeRange};
use navigate::navigate;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ask which file to open.
    Open,
    /// Open a file.
    OpenPath(PathBuf),
    /// Ask where to save the selected range, or what is in sight.
    SaveSelection,
    /// Save a range as a trace.
    SaveRange(TimeRange, PathBuf),
    /// Put something on the clipboard.
    Copy(What),
    /// Ask where to save a picture of the window.
    SavePicture,
    /// Save a picture of the window.
    SavePictureTo(PathBuf),
    /// Ask where to save a report of the trace.
    SaveReport,
    /// Save a report of the trace.
    SaveReportTo(PathBuf),
    /// Cancel saving, or forget how it went.
    EndSaving,
    /// Stop loading.
    Cancel,
    /// Close the trace.
    Close,
    /// Forget the files opened before.
    ForgetRecent,
    /// Close the app.
    Quit,
    /// Compute tables and answers anew, of a trace that grows.
    Refresh,
    /// Show a page.
    Show(Page),
    /// Show a theme.
    Theme(ThemeChoice),
    /// Keep so many MiB of decoded op spans.
    CacheMib(u32),
    /// Show the find panel and give it the keyboard.
    Find,
    /// Look for a name.
    FindFor(String),
    /// Close the find panel.
    CloseFind,
    /// Show or hide the list of keys.
    Keys,
    /// Show or hide the glossary.
    Glossary,
    /// Show less of the trace.
    ZoomIn,
    /// Show more of it.
    ZoomOut,
    /// Show what is earlier.
    PanLeft,
    /// Show what is later.
    PanRight,
    /// Show all of it.
    WholeTrace,
    /// Fill the window with the selection.
    FrameSelection,
    /// Select the same node's execution before this one.
    PreviousOccurrence,
    /// Select the same node's next execution.
    NextOccurrence,
    /// Select the span before this one on its lane.
    PreviousSpan,
    /// Select the next span on the lane.
    NextSpan,
    /// Select nothing.
    ClearSelection,
    /// Show a window of the trace.
    Look(View),
    /// Fill the window with a range.
    ZoomTo(TimeRange),
    /// Select a span.
    Select(Found),
    /// Select a span and bring it into sight.
    GoTo(Found),
    /// Look for a span, then select it.
    Seek(Seek),
    /// Select a range.
    SelectRange(TimeRange),
    /// Show these counters.
    ShowCounters(CounterView),
    /// Mark times on the timeline, or none.
    Highlight(Option<Arc<Highlight>>),
    /// Bring the next marked time into sight.
    NextHighlight,
    /// Bring the marked time before into sight.
    PreviousHighlight,
    /// Change marks, lanes or colours.
    Session(Change),
    /// Mark the begin of the selection, or the middle of the window.
    MarkHere,
    /// Show or hide the command palette.
    Palette,
    /// To where the user was before: also undoes a change of the window or the selection.
    Back,
    /// To where the user went back from.
    Forward,
    /// Show everything at so many percent of its size.
    Scale(u32),
    /// Show everything a little larger.
    Larger,
    /// Show everything a little smaller.
    Smaller,
    /// Show colours for people with other eyes.
    Colours(PaletteChoice),
    /// Give a key to a command, by its name.
    Bind(&'static str, KeyboardShortcut),
    /// Give a command its own keys back, or all commands.
    ResetKeys(Option<&'static str>),
    /// Select the token after the selection.
    NextToken,
    /// Select the token before it.
    PreviousToken,
    /// Select the span at the same time on the thread before.
    LaneUp,
    /// Select the span at the same time on the next thread.
    LaneDown,
    /// Show of groups of lanes only the heads, or everything.
    CollapseLanes(bool),
    /// Move things at once instead of gliding.
    ReducedMotion(bool),
    /// Show every node of the compute graph.
    ExpandGraph,
    /// Show the compute graph with all its parts folded.
    FoldGraph,
    /// Bring a range into sight, at the scale that there is if it can be.
    Reveal(TimeRange),
    /// Ask which trace to compare with.
    CompareWith,
    /// Open a second trace and compare.
    CompareWithPath(PathBuf),
    /// Make the second trace the first one.
    SwapSides,
    /// Close the second trace.
    CloseSecond,
    /// Put the second trace under the first by something.
    Align(AlignBy),
    /// Move the second trace by so many nanoseconds, to later places under the first.
    ShiftSecond(i64),
    /// Put the second trace so that its times are so many nanoseconds later.
    AlignAt(i64),
    /// Move the second trace a little to the left.
    NudgeLeft,
    /// Move the second trace a little to the right.
    NudgeRight,
    /// Do something to the second trace.
    Second(Box<Command>),
}

/// What a command needs from outside the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Show the system's dialog.
    AskForFile,
    /// Show the system's dialog to save a range.
    AskWhereToSave(TimeRange),
    /// Save a range as a trace.
    Save(TimeRange, PathBuf),
    /// Cancel saving, or forget how it went.
    EndSaving,
    /// Put something on the clipboard.
    Copy(What),
    /// Show the system's dialog to save a picture.
    AskWhereToPicture,
    /// Take a picture of the window and save it.
    Picture(PathBuf),
    /// Compute tables and answers anew.
    Refresh,
    /// Show the system's dialog to save a report.
    AskWhereToReport,
    /// Save a report of the trace.
    Report(PathBuf),
    /// Start the loader.
    Load(PathBuf),
    /// Stop the loader.
    StopLoading,
    /// Look for a span.
    Seek(Seek),
    /// Expand or fold all of the compute graph.
    ExpandGraph(bool),
    /// Keep marks, lanes and colours of the open trace.
    SaveSession,
    /// Remember the settings and show the theme.
    SaveSettings,
    /// Show the system's dialog for the trace to compare with.
    AskForSecond,
    /// Start the loader of the second trace.
    LoadSecond(PathBuf),
    /// Stop the loader of the second trace, and forget that there was one.
    StopSecond,
    /// The traces have changed sides.
    SwapSides,
    /// The same for the second trace.
    Second(Box<Effect>),
    /// Close the window.
    Quit,
}

/// Carries a command out, and remembers where the user was before.
pub fn apply(state: &mut State, command: Command) -> Option<Effect> {
    if matches!(command, Command::Back | Command::Forward) {
        step_history(state, command == Command::Back);
        return None;
    }
    let before = state.visit();
    let inner = match &command {
        Command::Second(inner) => inner,
        command => command,
    };
    let small = matches!(
        inner,
        Command::Look(_)
            | Command::SelectRange(_)
            | Command::ZoomIn
            | Command::ZoomOut
            | Command::PanLeft
            | Command::PanRight
    );
    let effect = carry_out(state, command);
    pair::keep_linked(state);
    if let Some((before, now)) = before.zip(state.visit())
        && (Visit { view: before.view.with_width(now.view.width()), ..before }) != now
        && let Some(open) = state.open_mut()
    {
        open.history.leave(before, small);
    }
    effect
}

fn step_history(state: &mut State, back: bool) {
    let Some(now) = state.visit() else { return };
    let Some(open) = state.open_mut() else { return };
    let visit = if back { open.history.back(now) } else { open.history.forward(now) };
    let Some(visit) = visit else { return };
    // The trace may have grown since.
    open.view = visit.view.with_trace(open.trace.range()).with_width(now.view.width());
    open.selected = visit.selected;
    open.range = visit.range;
    state.page = visit.page;
}

fn carry_out(state: &mut State, command: Command) -> Option<Effect> {
    match command {
        Command::Open => return Some(Effect::AskForFile),
        Command::OpenPath(path) => {
            state.document = Document::Loading { path: path.clone(), progress: 0.0 };
            pair::forget(state);
            state.find.visible = false;
            return Some(Effect::Load(path));
        }
        Command::SaveSelection => {
            let open = state.open()?;
            let selected = open.selected.map(|found| TimeRange::new(found.span.begin, found.span.end()));
            return Some(Effect::AskWhereToSave(open.range.or(selected).unwrap_or(open.view.range())));
        }
        Command::SaveRange(range, path) => {
            if onto_itself(state, &path) {
                return None;
            }
            state.saving = Some((path.clone(), Saving::Progress(0.0)));
            return Some(Effect::Save(range, path));
        }
        Command::Copy(what) => return state.open().map(|_| Effect::Copy(what)),
        Command::SavePicture => return state.open().map(|_| Effect::AskWhereToPicture),
        Command::SaveReport => return state.open().map(|_| Effect::AskWhereToReport),
        Command::SaveReportTo(path) => {
            if onto_itself(state, &path) {
                return None;
            }
            state.saving = Some((path.clone(), Saving::Progress(0.0)));
            return Some(Effect::Report(path));
        }
        Command::SavePictureTo(path) => {
            if onto_itself(state, &path) {
                return None;
            }
            // The window is shown without a word about saving first.
            state.saving = None;
            return Some(Effect::Picture(path));
        }
        Command::EndSaving => {
            state.saving = None;
            return Some(Effect::EndSaving);
        }
        Command::Cancel | Command::Close => {
            state.document = Document::Empty;
            pair::forget(state);
            state.find.visible = false;
            return Some(Effect::StopLoading);
        }
        Command::ForgetRecent => {
            state.settings.recent.clear();
            return Some(Effect::SaveSettings);
        }
        Command::Theme(theme) => {
            state.settings.theme = theme;
            return Some(Effect::SaveSettings);
        }
        Command::CacheMib(mib) => {
            state.settings.cache_mib = mib;
            return Some(Effect::SaveSettings);
        }
        Command::Scale(percent) => {
            state.settings.scale_percent = percent.clamp(50, 300);
            return Some(Effect::SaveSettings);
        }
        Command::Larger | Command::Smaller => {
            let step = if command == Command::Larger { 10 } else { -10 };
            let percent = state.settings.scale_percent.saturating_add_signed(step);
            return carry_out(state, Command::Scale(percent));
        }
        Command::Colours(palette) => {
            state.settings.palette = palette;
            return Some(Effect::SaveSettings);
        }
        Command::Bind(name, key) => {
            state.settings.keys.bind(name, key);
            return Some(Effect::SaveSettings);
        }
        Command::ResetKeys(name) => {
            state.settings.keys.reset(name);
            return Some(Effect::SaveSettings);
        }
        Command::ReducedMotion(reduced) => {
            state.settings.reduced_motion = reduced;
            return Some(Effect::SaveSettings);
        }
        Command::Palette => state.palette_visible = !state.palette_visible,
        Command::Seek(seek) => return Some(Effect::Seek(seek)),
        Command::Quit => return Some(Effect::Quit),
        Command::ExpandGraph | Command::FoldGraph => {
            state.page = Page::Graph;
            return Some(Effect::ExpandGraph(command == Command::ExpandGraph));
        }
        Command::Refresh => return state.open().map(|_| Effect::Refresh),
        Command::Glossary => state.glossary_visible = !state.glossary_visible,
        Command::Keys => state.keys_visible = !state.keys_visible,
        Command::Show(page) => state.page = page,
        Command::Find => find(state, None),
        Command::FindFor(query) => find(state, Some(query)),
        Command::CloseFind => state.find.visible = false,
        Command::ClearSelection => clear(state),
        Command::WholeTrace if state.page == Page::Compare => {
            if let Some(open) = state.open_mut() {
                open.view = open.view.whole_with_room();
            }
        }
        Command::Session(Change::Color(color)) if state.page == Page::Compare => {
            // Colours mean the same on both sides.
            if let Some(open) = state.second.open_mut() {
                navigate(open, Command::Session(Change::Color(color)));
            }
            return state.open_mut().and_then(|open| navigate(open, Command::Session(Change::Color(color))));
        }
        Command::GoTo(found) => {
            if state.page != Page::Compare {
                state.page = Page::Timeline;
            }
            if let Some(open) = state.open_mut() {
                open.selected = Some(found);
                open.range = None;
                open.view.reveal(TimeRange::new(found.span.begin, found.span.end()));
            }
        }
        Command::CompareWith
        | Command::CompareWithPath(_)
        | Command::SwapSides
        | Command::CloseSecond
        | Command::Align(_)
        | Command::ShiftSecond(_)
        | Command::AlignAt(_)
        | Command::NudgeLeft
        | Command::NudgeRight
        | Command::Second(_) => return pair::apply(state, command),
        other => return state.open_mut().and_then(|open| navigate(open, other)),
    }
    None
}

/// Whether something would be saved onto the open trace: says so, or nothing is open.
fn onto_itself(state: &mut State, path: &Path) -> bool {
    let Some(open) = state.open() else { return true };
    let same = matches!((open.path.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same {
        let why = "a trace cannot be saved onto itself; choose another name".to_owned();
        state.saving = Some((path.to_owned(), Saving::Failed(why)));
    }
    same
}

fn find(state: &mut State, query: Option<String>) {
    if state.open().is_none() {
        return;
    }
    state.page = Page::Timeline;
    state.find.visible = true;
    state.find.wants_focus = true;
    if let Some(query) = query {
        state.find.query = query;
    }
}

/// Escape: closes what is on top.
fn clear(state: &mut State) {
    if std::mem::take(&mut state.palette_visible)
        || std::mem::take(&mut state.keys_visible)
        || std::mem::take(&mut state.glossary_visible)
        || std::mem::take(&mut state.find.visible)
    {
        return;
    }
    if let Some(open) = state.open_mut() {
        // What was marked stays until nothing else is selected.
        if open.selected.is_none() && open.range.is_none() {
            open.highlight = None;
        }
        open.selected = None;
        open.range = None;
    }
    if let Some(second) = state.second.open_mut() {
        second.selected = None;
        second.range = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use std::collections::HashSet;

    #[test]
    fn keys_are_unique() {
        let mut seen = HashSet::new();
        for (entry, key) in TABLE.iter().flat_map(|entry| entry.keys.iter().map(move |key| (entry, key))) {
            assert!(seen.insert(format!("{:?} {key:?}", entry.page)), "{key:?} twice");
            assert!(Keys::default().conflict(entry, key).is_none(), "{}: {key:?}", entry.name);
        }
    }

    #[test]
    fn opening_shows_the_loading_page() {
        let mut state = State::default();
        let effect = apply(&mut state, Command::OpenPath("/a".into()));
        assert_eq!(effect, Some(Effect::Load("/a".into())));
        assert!(matches!(&state.document, Document::Loading { path, .. } if path == Path::new("/a")));
        assert_eq!(apply(&mut state, Command::Cancel), Some(Effect::StopLoading));
        assert!(matches!(state.document, Document::Empty));
    }

    #[test]
    fn commands_without_a_trace_do_nothing() {
        let mut state = State::default();
        for entry in TABLE.iter().filter(|entry| entry.needs_trace) {
            apply(&mut state, entry.command.clone());
        }
        assert!(!state.find.visible);
        assert!(matches!(state.document, Document::Empty));
    }

    #[test]
    fn themes_are_remembered() {
        let mut state = State::default();
        assert_eq!(apply(&mut state, Command::Theme(ThemeChoice::Dark)), Some(Effect::SaveSettings));
        assert_eq!(state.settings.theme, ThemeChoice::Dark);
    }

    #[test]
    fn escape_closes_what_is_on_top_first() {
        let mut state = State { keys_visible: true, ..State::default() };
        state.find.visible = true;
        apply(&mut state, Command::ClearSelection);
        assert!(!state.keys_visible && state.find.visible);
        apply(&mut state, Command::ClearSelection);
        assert!(!state.find.visible);
    }
}
