//! What leaves the app as text: the selection, a page's table as CSV, and the command that prints
//! what a page shows.

mod csv;

use crate::compare::ComparePage;
use crate::experts::ExpertsPage;
use crate::memo::{Cancel, Going, Jobs};
use crate::operators::OperatorsPage;
use crate::roofline::Roofline;
use crate::state::{Open, Page};
use crate::text;
use crossbeam_channel::{Receiver, bounded};
use llmtrace_analysis::stats::waits_known;
use llmtrace_analysis::{Found, Phase, TimeRange, lane_name, node};
use std::path::Path;
use std::sync::Arc;

/// What to put on the clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What is selected, in words.
    Selection,
    /// The table of the page, as CSV.
    Table,
    /// The command that prints what the page shows.
    CommandLine,
}

/// A text that is being made.
pub(crate) struct Copying {
    text: Receiver<String>,
    _cancel: Cancel,
}

impl Copying {
    /// Makes a text; `context` is asked to repaint when it is there.
    pub(crate) fn start(
        jobs: Jobs,
        context: egui::Context,
        make: impl FnOnce(&Going) -> Option<String> + Send + 'static,
    ) -> Self {
        let (sender, text) = bounded(1);
        let cancel = Cancel::default();
        let going = cancel.going();
        let work = move || {
            if let Some(made) = make(&going) {
                // Nobody waits for it any more when this fails.
                let _ = sender.send(made);
            }
            context.request_repaint();
        };
        match jobs {
            Jobs::Inline => work(),
            Jobs::Threads => {
                if let Err(error) = std::thread::Builder::new().name("copy".into()).spawn(work) {
                    log::warn!("No thread to copy: {error}");
                }
            }
        }
        Self { text, _cancel: cancel }
    }

    /// The text, once it is there.
    pub(crate) fn text(&self) -> Option<String> {
        self.text.try_recv().ok()
    }
}

/// The selection in words: the span, or the range; else what the window shows.
pub(crate) fn selection(open: &Open) -> String {
    match (&open.selected, open.range) {
        (Some(found), _) => span_text(open, found),
        (None, Some(range)) => range_text(open, range, "range"),
        (None, None) => range_text(open, open.view.range(), "window"),
    }
}

fn span_text(open: &Open, found: &Found) -> String {
    let span = &found.span;
    let key = open.key(span);
    let wait = if waits_known(&open.trace) { format!(", wait {} ns", span.wait) } else { String::new() };
    let mut lines = vec![
        format!("{} {} on {}", key.op, key.name, lane_name(found.place.lane)),
        format!("begin {} ns, compute {} ns{wait}", span.begin, span.compute),
    ];
    if let Some((graph, tensor)) = open.trace.node_of(span) {
        let tensor = node::result(graph, span.node, span.fused).unwrap_or(tensor);
        let file = &open.trace.file;
        lines.push(format!("{} {}", node::type_name(file, tensor), node::shape(tensor)));
    }
    if let Some(token) = open.trace.token_at(span.begin) {
        lines.push(format!("during {} {}", token.phase.name(), token.number));
    }
    lines.push(open.file_name());
    lines.join("\n")
}

fn range_text(open: &Open, range: TimeRange, what: &str) -> String {
    let tokens = open.trace.tokens.iter().filter(|token| token.range.overlaps(range)).count();
    format!(
        "{what} {}, from {} ns to {} ns, touches {tokens} tokens\n{}",
        text::nanos(range.nanos()),
        range.begin,
        range.end,
        open.file_name()
    )
}

/// What the pages know that tables and commands depend on.
pub(crate) struct Pages<'a> {
    /// The page of operators.
    pub(crate) operators: &'a OperatorsPage,
    /// The roofline.
    pub(crate) roofline: &'a Roofline,
    /// The page of experts.
    pub(crate) experts: &'a ExpertsPage,
    /// The page of two traces, and the second one.
    pub(crate) compare: (&'a ComparePage, Option<&'a Open>),
}

/// Makes a text, until nobody wants it any more.
pub(crate) type Make = Box<dyn FnOnce(&Going) -> Option<String> + Send>;

/// Makes the table of a page as CSV; it may take a way through all op spans.
pub(crate) fn table(open: &Open, page: Page, pages: &Pages<'_>) -> Make {
    let trace = Arc::clone(&open.trace);
    match page {
        Page::Timeline => {
            let range = open.range.unwrap_or(open.view.range());
            Box::new(move |going| csv::totals(&trace, range, going))
        }
        Page::Graph => Box::new(move |going| csv::nodes(&trace, going)),
        Page::Experts => Box::new(move |going| csv::experts(&trace, going)),
        Page::Counters => Box::new(move |_| Some(csv::counters(&trace))),
        Page::Operators => {
            let text =
                pages.operators.shown().map(|(by, rows)| csv::operators(by, rows, waits_known(&trace)));
            Box::new(move |_| text)
        }
        Page::Roofline => {
            let text = pages.roofline.shown().map(csv::roofline);
            Box::new(move |_| text)
        }
        Page::Compare if pages.compare.1.is_some() => {
            let (page, _) = pages.compare;
            let text = page.shown().map(|(diff, parts)| csv::compared(diff, parts));
            Box::new(move |_| text)
        }
        _ => {
            let summary = Arc::clone(&open.summary);
            Box::new(move |_| Some(csv::summary(&summary)))
        }
    }
}

/// The `llmtrace` command that prints what a page shows.
pub(crate) fn command_line(open: &Open, page: Page, pages: &Pages<'_>) -> String {
    let file = quoted(&open.path);
    match page {
        Page::Timeline => {
            let range = open.range.unwrap_or(open.view.range());
            if range.begin <= open.trace.range().begin && range.end >= open.trace.range().end {
                return format!("llmtrace stats {file} --by op");
            }
            let TimeRange { begin, end } = range;
            format!(
                "llmtrace cut {file} --range {begin}ns..{end}ns -o part.llmtrace && llmtrace stats part.llmtrace --by op"
            )
        }
        Page::Operators => {
            let (by, phase) = pages.operators.asked();
            format!("llmtrace stats {file} --by {by}{} --limit 0", of_phase(phase))
        }
        Page::Graph => format!("llmtrace stats {file} --by name --limit 0"),
        Page::Experts => format!("llmtrace experts {file}{}", of_phase(pages.experts.phase())),
        Page::Compare => match pages.compare {
            (page, Some(second)) => {
                let (phase, by) = page.asked();
                let second = quoted(&second.path);
                format!("llmtrace diff {file} {second}{} --by {} --limit 0", of_phase(phase), by.name())
            }
            _ => format!("llmtrace summary {file}"),
        },
        Page::Counters => format!("llmtrace stats {file} --by op --limit 0"),
        Page::Roofline => format!("llmtrace explain {file} --by {} --limit 0", pages.roofline.of().name()),
        _ => format!("llmtrace summary {file} && llmtrace explain {file}"),
    }
}

fn of_phase(phase: Option<Phase>) -> String {
    phase.map_or_else(String::new, |phase| format!(" --phase {}", phase.name()))
}

/// A path as one word of a POSIX shell, whatever is in it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    // A name that begins with a dash would be an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        let of = |path: &str| quoted(Path::new(path));
        assert_eq!(of("/a/b-1.llmtrace"), "/a/b-1.llmtrace");
        assert_eq!(of("a b.llmtrace"), "'a b.llmtrace'");
        assert_eq!(of("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(of("-o"), "./-o");
    }
}
