//! The commands with a name: menus, keys and the list of keys come from here.

use super::Command;
use crate::copy::What;
use crate::session::{Change, ColorBy};
use crate::state::Page;
use egui::{Key, KeyboardShortcut, Modifiers};
use llmtrace_analysis::align::AlignBy;

/// Which menu shows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Files.
    File,
    /// What is shown.
    View,
    /// Moving about.
    Go,
    /// Help.
    Help,
}

/// One command for menus, keys and the list of keys.
pub struct Entry {
    /// What it does.
    pub command: Command,
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub help: &'static str,
    /// Its menu.
    pub menu: Menu,
    /// Its keys.
    pub keys: &'static [KeyboardShortcut],
    /// Whether it works only on an open trace.
    pub needs_trace: bool,
    /// The only page where its keys work; elsewhere they are that page's.
    pub page: Option<Page>,
}

const fn key(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::NONE, key)
}

const fn with_command(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND, key)
}

macro_rules! entry {
    (on $page:ident: $menu:ident, $command:expr, $name:literal, $help:literal, [$($key:expr),*]) => {
        entry!(@ Some(Page::$page), $menu, $command, $name, $help, [$($key),*], true)
    };
    (@ $page:expr, $menu:ident, $command:expr, $name:literal, $help:literal, [$($key:expr),*], $needs_trace:literal) => {
        Entry {
            command: $command,
            name: $name,
            help: $help,
            menu: Menu::$menu,
            keys: &[$($key),*],
            needs_trace: $needs_trace,
            page: $page,
        }
    };
    ($menu:ident, $command:expr, $name:literal, $help:literal, [$($key:expr),*], $needs_trace:literal) => {
        entry!(@ None, $menu, $command, $name, $help, [$($key),*], $needs_trace)
    };
}

/// What goes on while a key is held on the timeline, in the order of [`crate::keys::Keys::held`]: not
/// in menus, but its keys can be changed like those of commands.
pub static HELD: [Entry; 4] = [
    entry!(on Timeline: Go, Command::ZoomIn, "Hold to zoom in", "Show less, at the pointer", [key(Key::W)]),
    entry!(on Timeline: Go, Command::ZoomOut, "Hold to zoom out", "Show more, at the pointer", [key(Key::S)]),
    entry!(on Timeline: Go, Command::PanLeft, "Hold to move earlier", "Move to earlier times", [key(Key::A)]),
    entry!(on Timeline: Go, Command::PanRight, "Hold to move later", "Move to later times", [key(Key::D)]),
];

/// All commands that have a name.
pub static TABLE: &[Entry] = &[
    // A key without Shift also takes the one with it, so that this one comes first.
    entry!(
        File,
        Command::CompareWith,
        "Compare with…",
        "Open a second trace beside this one",
        [KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::O)],
        true
    ),
    entry!(File, Command::Open, "Open…", "Open a trace", [with_command(Key::O)], false),
    // A key without Shift also takes the one with it, so that this one comes first.
    entry!(
        File,
        Command::SavePicture,
        "Save picture as…",
        "Save what the window shows as PNG",
        [KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::S)],
        true
    ),
    entry!(
        File,
        Command::SaveSelection,
        "Save selection as…",
        "Save the selected range, or what is in sight, as a trace",
        [with_command(Key::S)],
        true
    ),
    entry!(
        File,
        Command::SaveReport,
        "Save report as…",
        "Save overview, findings, operators and environment as a page of HTML to send around",
        [],
        true
    ),
    entry!(
        File,
        Command::Copy(What::Table),
        "Copy table as CSV",
        "Copy the page's table; on the timeline the totals of the range, else of what is in sight",
        [KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::C)],
        true
    ),
    entry!(
        File,
        Command::Copy(What::Selection),
        "Copy selection",
        "Copy what is selected, or what is in sight, in words",
        [with_command(Key::C)],
        true
    ),
    entry!(
        File,
        Command::Copy(What::CommandLine),
        "Copy as command",
        "Copy the llmtrace command that prints what the page shows",
        [],
        true
    ),
    entry!(
        View,
        Command::Palette,
        "Command palette…",
        "Find a command or a node by name",
        [with_command(Key::K), KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::P)],
        false
    ),
    // A key without Shift or Alt also takes the one with it, so that these come first.
    entry!(
        Go,
        Command::Forward,
        "Forward",
        "To where you went back from",
        [
            KeyboardShortcut::new(Modifiers::ALT, Key::ArrowRight),
            KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z)
        ],
        true
    ),
    entry!(
        Go,
        Command::Back,
        "Back",
        "To where you were before; undoes a change of the window or the selection",
        [KeyboardShortcut::new(Modifiers::ALT, Key::ArrowLeft), with_command(Key::Z)],
        true
    ),
    entry!(File, Command::Close, "Close", "Close the trace", [with_command(Key::W)], true),
    entry!(File, Command::CloseSecond, "Close the second trace", "Stop comparing", [], true),
    entry!(File, Command::Quit, "Quit", "Close the app", [with_command(Key::Q)], false),
    entry!(View, Command::Show(Page::Overview), "Overview", "The run on one page", [key(Key::Num1)], true),
    entry!(View, Command::Show(Page::Timeline), "Timeline", "Lanes over time", [key(Key::Num2)], true),
    entry!(
        View,
        Command::Show(Page::Operators),
        "Operators",
        "Operators in a table, and the executions behind them",
        [key(Key::Num3)],
        true
    ),
    entry!(View, Command::Show(Page::Graph), "Graph", "The compute graph", [key(Key::Num4)], true),
    entry!(View, Command::Show(Page::Experts), "Experts", "Experts of a mixture", [key(Key::Num5)], true),
    entry!(
        View,
        Command::Show(Page::Roofline),
        "Roofline",
        "Operators against what the machine could do",
        [key(Key::Num6)],
        true
    ),
    entry!(
        View,
        Command::Show(Page::Counters),
        "Counters",
        "Counters and samples, over time and by operator",
        [key(Key::Num7)],
        true
    ),
    entry!(
        View,
        Command::Show(Page::Compare),
        "Compare",
        "This trace above a second one, and what makes the difference",
        [key(Key::Num8)],
        true
    ),
    entry!(
        View,
        Command::Larger,
        "Larger",
        "Everything a little larger",
        [with_command(Key::Plus), with_command(Key::Equals)],
        false
    ),
    entry!(
        View,
        Command::Smaller,
        "Smaller",
        "Everything a little smaller",
        [with_command(Key::Minus)],
        false
    ),
    entry!(
        View,
        Command::Scale(100),
        "Normal size",
        "Everything as large as it was at first",
        [with_command(Key::Num0)],
        false
    ),
    entry!(View, Command::SwapSides, "Swap sides", "Make the second trace A", [key(Key::X)], true),
    entry!(
        View,
        Command::Align(AlignBy::Token),
        "Align by token",
        "The nth token of one trace under that of the other",
        [],
        true
    ),
    entry!(
        View,
        Command::Align(AlignBy::Phase),
        "Align by phase",
        "Prefill under prefill, the first decoded token under the first",
        [],
        true
    ),
    entry!(
        View,
        Command::Align(AlignBy::Time),
        "Align by time",
        "The begin of one recording under that of the other",
        [],
        true
    ),
    entry!(
        on Compare: Go,
        Command::NudgeLeft,
        "Nudge the second trace left",
        "Align by hand: move the second trace a little to the left",
        [key(Key::Comma)]
    ),
    entry!(
        on Compare: Go,
        Command::NudgeRight,
        "Nudge the second trace right",
        "Align by hand: move the second trace a little to the right",
        [key(Key::Period)]
    ),
    entry!(
        Go,
        Command::MarkHere,
        "Mark this time",
        "Mark the begin of the selection, or the middle of the window; notes stand beside the timeline",
        [key(Key::M)],
        true
    ),
    entry!(
        View,
        Command::Session(Change::Color(ColorBy::Operator)),
        "Colour by operator",
        "Bars of threads have the colour of their operator's class",
        [],
        true
    ),
    entry!(
        View,
        Command::Session(Change::Color(ColorBy::Layer)),
        "Colour by layer",
        "Neighbouring layers have different colours",
        [],
        true
    ),
    entry!(
        View,
        Command::Session(Change::Color(ColorBy::Module)),
        "Colour by module",
        "Attention, feed-forward, norms and others have their colours",
        [],
        true
    ),
    entry!(
        View,
        Command::Session(Change::Color(ColorBy::Wait)),
        "Colour by wait",
        "What waits is hot",
        [],
        true
    ),
    entry!(
        View,
        Command::Session(Change::Color(ColorBy::Roof)),
        "Colour by roof",
        "What is far below the host's roof is hot",
        [],
        true
    ),
    entry!(
        View,
        Command::Session(Change::ShowAll),
        "Show all lanes",
        "No lane of the timeline is hidden or pinned",
        [],
        true
    ),
    entry!(
        View,
        Command::Refresh,
        "Compute anew",
        "Tables and answers of a trace that is still being recorded, as it is now; they do not change by themselves",
        [key(Key::F5)],
        true
    ),
    entry!(
        View,
        Command::Session(Change::ToggleArrows),
        "Arrows",
        "Arrows from what the selected span reads, to what reads it, and from wakers to woken threads",
        [],
        true
    ),
    entry!(
        View,
        Command::CollapseLanes(true),
        "Collapse all groups of lanes",
        "Of each group of lanes only its head",
        [],
        true
    ),
    entry!(
        View,
        Command::CollapseLanes(false),
        "Expand all groups of lanes",
        "All lanes of all groups",
        [],
        true
    ),
    entry!(View, Command::ExpandGraph, "Expand the graph", "Show every node of the compute graph", [], true),
    entry!(View, Command::FoldGraph, "Fold the graph", "Fold all parts of the compute graph", [], true),
    entry!(
        Go,
        Command::Find,
        "Find…",
        "Find nodes by name or operator",
        [with_command(Key::F), key(Key::Slash)],
        true
    ),
    entry!(
        Go,
        Command::NextOccurrence,
        "Next occurrence",
        "Same node, next time",
        [key(Key::CloseBracket)],
        true
    ),
    entry!(
        Go,
        Command::PreviousOccurrence,
        "Previous occurrence",
        "Same node, time before",
        [key(Key::OpenBracket)],
        true
    ),
    // A key without Shift also takes the one with it, so that this one comes first.
    entry!(
        Go,
        Command::PreviousHighlight,
        "Previous marked",
        "The marked execution before",
        [KeyboardShortcut::new(Modifiers::SHIFT, Key::N)],
        true
    ),
    entry!(
        Go,
        Command::NextHighlight,
        "Next marked",
        "Next of the executions that the page of operators marked",
        [key(Key::N)],
        true
    ),
    entry!(Go, Command::NextSpan, "Next span", "Next span on the lane", [key(Key::ArrowRight)], true),
    entry!(
        Go,
        Command::PreviousSpan,
        "Previous span",
        "Span before on the lane",
        [key(Key::ArrowLeft)],
        true
    ),
    entry!(
        Go,
        Command::FrameSelection,
        "Frame selection",
        "Fill the window with the selection",
        [key(Key::F)],
        true
    ),
    entry!(
        Go,
        Command::WholeTrace,
        "Whole trace",
        "Show all of the trace",
        [key(Key::Num0), key(Key::Home)],
        true
    ),
    entry!(
        on Timeline: Go,
        Command::NextToken,
        "Next token",
        "Select the token after the selection, or the one in the middle of the window",
        [key(Key::Period)]
    ),
    entry!(
        on Timeline: Go,
        Command::PreviousToken,
        "Previous token",
        "Select the token before",
        [key(Key::Comma)]
    ),
    entry!(
        on Timeline: Go,
        Command::LaneDown,
        "Lane below",
        "Select the span at the same time on the next thread",
        [key(Key::ArrowDown)]
    ),
    entry!(
        on Timeline: Go,
        Command::LaneUp,
        "Lane above",
        "Select the span at the same time on the thread before",
        [key(Key::ArrowUp)]
    ),
    entry!(Go, Command::ZoomIn, "Zoom in", "Show less", [key(Key::Plus), key(Key::Equals)], true),
    entry!(Go, Command::ZoomOut, "Zoom out", "Show more", [key(Key::Minus)], true),
    entry!(Go, Command::PanLeft, "Earlier", "Move to earlier times", [key(Key::PageUp)], true),
    entry!(Go, Command::PanRight, "Later", "Move to later times", [key(Key::PageDown)], true),
    entry!(Go, Command::ClearSelection, "Clear selection", "Select nothing", [key(Key::Escape)], true),
    entry!(
        Help,
        Command::Glossary,
        "What the words mean",
        "The glossary: every word and number, and how it is computed",
        [],
        false
    ),
    entry!(
        Help,
        Command::Keys,
        "Keys and mouse",
        "How to move about",
        [key(Key::Questionmark), key(Key::F1)],
        false
    ),
];

/// A key as people write it.
pub fn key_name(context: &egui::Context, shortcut: &KeyboardShortcut) -> String {
    let symbol = match shortcut.logical_key {
        Key::Period => ".",
        Key::Comma => ",",
        Key::OpenBracket => "[",
        Key::CloseBracket => "]",
        Key::Slash => "/",
        Key::Plus => "+",
        Key::Minus => "-",
        Key::Equals => "=",
        Key::Questionmark => "?",
        Key::Escape => "Esc",
        _ => return context.format_shortcut(shortcut),
    };
    if shortcut.modifiers.is_none() {
        return symbol.to_owned();
    }
    let whole = context.format_shortcut(shortcut);
    // The last part is the key.
    whole.rsplit_once('+').map_or_else(|| symbol.to_owned(), |(held, _)| format!("{held}+{symbol}"))
}
