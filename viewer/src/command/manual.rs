//! The manual, from the table of commands: `docs/viewer.md` is what this gives.

use super::{Menu, TABLE, key_name};
use crate::menu::MOUSE;
use std::fmt::Write as _;

/// What the pages are for, in their order.
const PAGES: [(&str, &str); 8] = [
    ("Overview", "The run on one page: speed, what limits it and what to try, time per token."),
    (
        "Timeline",
        "Tokens, graphs, requests, calls, backends and threads over time, down to the nanosecond. Drag over it for the totals of a range, over the ruler of tokens for whole tokens; click a bar for its node: arrows lead from what it reads and to what reads it, and from a thread to one that it wakes. Lanes can be filtered, pinned and hidden, groups of them collapsed. Hatched time was computed, but its operators are not in the recording; red time lost events.",
    ),
    (
        "Operators",
        "A table to group, sort, filter and drill into. Beside it every execution of the chosen row: percentiles, a histogram whose brushed durations are marked on the timeline, a scatter, threads, the longest. *Keep to compare* holds one selection against another, in the table too. Arrows up and down choose a row, Enter shows what it is made of, Backspace goes back.",
    ),
    (
        "Graph",
        "The compute graph. Equal layers are folded into one; double-click or Enter expands in place, Backspace folds. Colours say time, wait, bytes, distance from the roof, or the difference from what *Keep to compare* kept or, while two traces are open, from the graph of B that is like it (*Difference to B*). What is selected here is selected everywhere.",
    ),
    ("Experts", "Which experts of a mixture tokens were sent to, and how evenly."),
    ("Counters", "Counters and samples over time, and what operators counted, where they were recorded."),
    ("Roofline", "What each operator reaches of what the machine could do."),
    (
        "Compare",
        "Two traces: `llmtrace-viewer A B`, two files dropped on the window, or *Compare with…*. A above B, aligned by token, phase, time or by hand (drag the lane between them, or `,` and `.`); that lane shows how much longer each token took. Below, what adds up to the change, as `llmtrace diff` prints it; click a row for a typical execution in both, its durations and its place under the roofs. What does not match around the runs is said at the top.",
    ),
];

/// The manual in Markdown.
pub fn manual() -> String {
    let context = egui::Context::default();
    let mut text = String::from(
        "# The app\n\n`llmtrace-viewer FILE` opens a trace, `llmtrace-viewer A B` compares two. This page is what `llmtrace-viewer --manual` prints.\n\n## Pages\n\n",
    );
    for (page, what) in PAGES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "* **{page}**: {what}");
    }
    text.push_str("\n## Mouse\n\n| do | to |\n|---|---|\n");
    for (keys, what) in MOUSE {
        let _ = writeln!(text, "| {keys} | {what} |");
    }
    text.push_str(
        "\nOn the timeline W, S, A and D are held to zoom and move; they go by their place on the keyboard, whatever letters are there. These and the keys below can be changed in the list of keys (`?`); a key that is chosen there goes by its place, too, and so do keys such as `[` on keyboards that have none.\n\n## For other eyes, and without any\n\nLanes, spans in sight, plots with their points, rows of tables and parts of graphs have names for screen readers. The menu *View* has the size of everything, a palette that keeps operators apart to colour-blind eyes, and reduced motion.\n\n## Commands\n\nAll of them are in the menus and in the command palette.\n",
    );
    for (menu, name) in [(Menu::File, "File"), (Menu::View, "View"), (Menu::Go, "Go"), (Menu::Help, "Help")] {
        let _ = writeln!(text, "\n### {name}\n\n| command | keys | |\n|---|---|---|");
        for entry in TABLE.iter().filter(|entry| entry.menu == menu) {
            let keys: Vec<String> =
                entry.keys.iter().map(|key| format!("`{}`", key_name(&context, key))).collect();
            let _ = writeln!(text, "| {} | {} | {} |", entry.name, keys.join(" "), entry.help);
        }
    }
    text.push_str(
        "\nPictures are PNG, not SVG: a timeline has tens of thousands of bars, which as SVG is slow to open and larger; `--screenshot OUT.png --scale 3` draws one fine enough for paper. *Copy as command* gives what prints the same as the page: `llmtrace diff A B` with what was chosen of a comparison, `cut` and `stats` of a range of the timeline.\n\nSettings with keys, marks, and lanes that were pinned, hidden or collapsed are kept in the user's folder for data of programs, never in a trace.\n",
    );
    text
}
