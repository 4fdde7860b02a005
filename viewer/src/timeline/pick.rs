//! What is at a place of the lanes, and what clicks on it do.

use super::levels::Moment;
use super::tooltip::Hit;
use crate::command::Command;
use crate::panel::Cx;
use crate::seek::Seek;
use crate::state::Open;
use egui::Response;
use llmtrace_analysis::fold::{Bar, What};
use llmtrace_analysis::{Found, Nanos, Place, TimeRange};

/// The begin or end of a token or a bar nearest to a time, if one is within `slack`.
pub(super) fn snap(open: &Open, bars: &[Vec<Bar>], time: Nanos, slack: u64) -> Nanos {
    let mut best = (slack.saturating_add(1), time);
    let mut look = |edge: Nanos| {
        let distance = edge.abs_diff(time);
        if distance < best.0 {
            best = (distance, edge);
        }
    };
    let tokens = &open.trace.tokens;
    let at = tokens.partition_point(|token| token.range.begin <= time);
    for token in tokens.iter().skip(at.saturating_sub(1)).take(2) {
        look(token.range.begin);
        look(token.range.end);
    }
    for bars in bars {
        let at = bars.partition_point(|bar| bar.range.begin <= time);
        for bar in bars.iter().skip(at.saturating_sub(1)).take(2) {
            look(bar.range.begin);
            look(bar.range.end);
        }
    }
    best.1
}

/// The bar at a time, or the one that ends or begins within `slack`.
pub(super) fn bar_at(bars: &[Bar], time: Nanos, slack: u64) -> Option<(usize, Bar)> {
    let after = bars.partition_point(|bar| bar.range.begin <= time);
    let near = |index: usize| {
        let bar = bars.get(index)?;
        let inside =
            bar.range.begin <= time.saturating_add(slack) && time < bar.range.end.saturating_add(slack);
        inside.then_some((index, *bar))
    };
    after.checked_sub(1).and_then(near).or_else(|| near(after))
}

/// Selects what was clicked, or fills the window with what was double-clicked.
pub(super) fn clicks(response: &Response, hit: Option<&Hit>, cx: &mut Cx<'_>) {
    if response.double_clicked() {
        let range = match hit {
            Some(Hit::Token(token)) => token.range,
            Some(Hit::Graph(span)) => TimeRange::new(span.begin, span.end),
            Some(Hit::Bar { bar, .. }) => bar.range,
            Some(Hit::Backend(item)) => item.range(),
            Some(Hit::Counter(_)) => return,
            Some(Hit::Experts(pick)) => pick.range(),
            Some(Hit::Machine(item)) => item.range(),
            Some(Hit::Level(Moment::Range(range))) => range.range,
            Some(Hit::Around(found)) => match found.range() {
                Some(range) => range,
                None => return,
            },
            Some(Hit::Gap(gap)) => gap.range,
            Some(Hit::Level(Moment::Mark(_))) | None => return,
        };
        cx.commands.push(Command::ZoomTo(range));
    } else if response.clicked() {
        match hit {
            Some(Hit::Token(token)) => cx.commands.push(Command::SelectRange(token.range)),
            Some(Hit::Graph(span)) => {
                cx.commands.push(Command::SelectRange(TimeRange::new(span.begin, span.end)))
            }
            Some(Hit::Bar { lane, bar, .. }) => {
                let lane = *lane;
                cx.commands.push(match bar.what {
                    What::Span(index, span) | What::Folded(index, span) => {
                        Command::Select(Found { place: Place { lane, index }, span })
                    }
                    What::Buckets { .. } => Command::Seek(Seek::Longest { lane, range: bar.range }),
                });
            }
            Some(Hit::Backend(item)) => cx.commands.push(Command::SelectRange(item.range())),
            Some(Hit::Experts(pick)) => cx.commands.push(Command::SelectRange(pick.range())),
            Some(Hit::Machine(item)) => cx.commands.push(Command::SelectRange(item.range())),
            Some(Hit::Level(Moment::Range(range))) => cx.commands.push(Command::SelectRange(range.range)),
            Some(Hit::Gap(gap)) => cx.commands.push(Command::SelectRange(gap.range)),
            Some(Hit::Around(found)) => cx.commands.push(match found.range() {
                Some(range) => Command::SelectRange(range),
                None => Command::ClearSelection,
            }),
            Some(Hit::Level(Moment::Mark(_)) | Hit::Counter(_)) | None => {
                cx.commands.push(Command::ClearSelection)
            }
        }
    }
}
