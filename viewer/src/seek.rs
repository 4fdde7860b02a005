//! Finds spans in the background: the next occurrence of a node may be a hundred
//! million spans away.

use crate::command::Command;
use crate::memo::{Cancel, Going, Jobs};
use crossbeam_channel::{Receiver, bounded};
use llmtrace_analysis::search::{Direction, first_from, occurrence};
use llmtrace_analysis::{Found, Nanos, NodeKey, Place, TimeRange, Trace};
use std::sync::Arc;

/// A span to find.
#[derive(Clone, Debug, PartialEq)]
pub enum Seek {
    /// The same node, the next time or the time before.
    Occurrence {
        /// The node.
        key: NodeKey,
        /// Where to begin.
        from: Place,
        /// Which way.
        direction: Direction,
    },
    /// The first execution of a node on a lane from a time on.
    First {
        /// The node.
        key: NodeKey,
        /// The lane.
        lane: u32,
        /// When.
        time: Nanos,
    },
    /// An execution of a node of one graph, to be selected where it is: the first from a time on,
    /// or of all if there is none.
    Node {
        /// The node.
        key: NodeKey,
        /// The graph's id.
        graph: u32,
        /// When.
        time: Nanos,
    },
    /// The first execution of a node in a range, on a lane or else on any, to be selected where it is.
    Within {
        /// The node.
        key: NodeKey,
        /// The lane to look on first.
        lane: u32,
        /// When.
        range: TimeRange,
    },
    /// The span at a place.
    Span(Place),
    /// The span of a lane at a time, or the first one after.
    At {
        /// The lane.
        lane: u32,
        /// When.
        time: Nanos,
    },
    /// The longest span of a lane in a range, to be selected where it is.
    Longest {
        /// The lane.
        lane: u32,
        /// When.
        range: TimeRange,
    },
}

impl Seek {
    fn run(&self, trace: &Trace, going: &Going) -> Option<Command> {
        match self {
            Self::Occurrence { key, from, direction } => {
                occurrence(trace, key, *from, *direction, &|| going.on()).map(Command::GoTo)
            }
            Self::First { key, lane, time } => {
                first_from(trace, key, (*lane, *time), &|| going.on()).map(Command::GoTo)
            }
            Self::Node { key, graph, time } => {
                let of_graph =
                    |found: &Found| trace.node_of(&found.span).is_some_and(|(of, _)| of.id == *graph);
                // A graph's first computation from then on: other graphs have nodes of the same name.
                let spans = &trace.graph_spans;
                let after = spans.partition_point(|span| span.begin < *time);
                let mut later = spans.iter().skip(after).chain(spans.iter().take(after));
                let span = later.find(|span| span.graph == *graph)?;
                let lanes = trace.lanes().iter();
                let mut found =
                    lanes.filter_map(|lane| first_from(trace, key, (lane.id, span.begin), &|| going.on()));
                found.find(of_graph).map(Command::Select)
            }
            Self::Within { key, lane, range } => {
                let others = trace.lanes().iter().map(|other| other.id).filter(|other| other != lane);
                let mut found = std::iter::once(*lane)
                    .chain(others)
                    .filter_map(|lane| first_from(trace, key, (lane, range.begin), &|| going.on()));
                found.find(|found| found.span.begin < range.end).map(Command::Select)
            }
            Self::Span(place) => {
                let found = |span| Command::GoTo(Found { place: *place, span });
                trace.span(*place).map(found)
            }
            Self::At { lane, time } => {
                let mut found = None;
                trace.each_span(*lane, TimeRange::new(*time, Nanos::MAX), |index, span| {
                    found = Some(Found { place: Place { lane: *lane, index }, span: *span });
                    false
                });
                found.map(Command::GoTo)
            }
            Self::Longest { lane, range } => trace.longest_in(*lane, *range).map(Command::Select),
        }
    }
}

/// A search that is going on. Dropping it cancels it.
pub(crate) struct Seeking {
    answer: Receiver<Option<Command>>,
    _cancel: Cancel,
}

impl Seeking {
    /// Starts to look; `context` is asked to repaint on the answer.
    pub(crate) fn start(seek: Seek, trace: Arc<Trace>, jobs: Jobs, context: egui::Context) -> Self {
        let (sender, answer) = bounded(1);
        let cancel = Cancel::default();
        let going = cancel.going();
        let work = move || {
            // Nobody waits for it any more when this fails.
            let _ = sender.send(seek.run(&trace, &going));
            context.request_repaint();
        };
        match jobs {
            Jobs::Inline => work(),
            Jobs::Threads => {
                if let Err(error) = std::thread::Builder::new().name("seek".into()).spawn(work) {
                    log::warn!("No thread for a search: {error}");
                }
            }
        }
        Self { answer, _cancel: cancel }
    }

    /// The answer, once there is one: what to do, or nothing when nothing was found.
    pub(crate) fn answer(&self) -> Option<Option<Command>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Some(None),
        }
    }
}
