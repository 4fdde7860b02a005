//! What the app knows: the open document and the settings. Panels read it;
//! only [`crate::command::apply`] and the loader's messages change it.

use crate::compare::Comparison;
use crate::counters::CounterView;
use crate::history::{History, Visit};
use crate::loader::Message;
use crate::recent::Settings;
use crate::samples::Sample;
use crate::save::Saving;
use crate::session::{Aligned, Session};
use crate::theme::OpClass;
use crate::timeline::view::View;
use llmtrace_analysis::format::meta::StrId;
use llmtrace_analysis::summary::Summary;
use llmtrace_analysis::{Found, NodeKey, OpSpan, Part, TimeRange, Trace, node};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything outside the panels.
#[derive(Default)]
pub struct State {
    /// Which page is shown.
    pub page: Page,
    /// What is open.
    pub document: Document,
    /// What it is compared with.
    pub second: Document,
    /// What is known of the pair once both are open.
    pub comparison: Option<Comparison>,
    /// What is remembered.
    pub settings: Settings,
    /// Whether the find panel is shown, and what it looks for.
    pub find: Find,
    /// Whether the command palette is shown.
    pub palette_visible: bool,
    /// Whether the list of keys is shown.
    pub keys_visible: bool,
    /// Whether the glossary is shown.
    pub glossary_visible: bool,
    /// Traces that come with the app.
    pub samples: Vec<Sample>,
    /// The range being saved, or how saving it went.
    pub saving: Option<(PathBuf, Saving)>,
}

/// A page of an open trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// The run on one page.
    #[default]
    Overview,
    /// Lanes over time.
    Timeline,
    /// The compute graph.
    Graph,
    /// Operators in a table, and the executions behind them.
    Operators,
    /// Operators against what the machine could do.
    Roofline,
    /// Which experts of a mixture tokens were sent to.
    Experts,
    /// Counters and samples over time and by operator.
    Counters,
    /// The trace and a second one.
    Compare,
}

/// What is open.
///
/// ```text
/// Empty ─open─► Loading ─first picture─► Open ─close─► Empty
///                  │ └─cancel─► Empty       └─open─► Loading
///                  └─error─► Failed ─open─► Loading
/// ```
#[derive(Default)]
pub enum Document {
    /// Nothing.
    #[default]
    Empty,
    /// A file whose first picture has not come yet.
    Loading {
        /// The file.
        path: PathBuf,
        /// From 0 to 1.
        progress: f32,
    },
    /// A trace.
    Open(Box<Open>),
    /// A file that could not be opened.
    Failed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do.
        advice: &'static str,
    },
}

/// An open trace and where the user is in it.
pub struct Open {
    /// The file.
    pub path: PathBuf,
    /// The trace.
    pub trace: Arc<Trace>,
    /// How far its nodes are counted, from 0 to 1, when the file has no sums;
    /// `None` when they are.
    pub loading: Option<f32>,
    /// The run in numbers; without operators until nodes are counted.
    pub summary: Arc<Summary>,
    /// What this frame would show if it were decoded, the most urgent first.
    pub wanted: RefCell<Vec<Part>>,
    /// Classes of operators, by string.
    classes: Vec<OpClass>,
    /// Visible window of the timeline.
    pub view: View,
    /// Selected op span.
    pub selected: Option<Found>,
    /// Selected range.
    pub range: Option<TimeRange>,
    /// Marks, lanes and colours that the user chose.
    pub session: Session,
    /// Where the user has been.
    pub history: History,
    /// Executions that another page marked.
    pub highlight: Option<Arc<Highlight>>,
    /// Which counters are shown.
    pub counters: CounterView,
    /// Whether the file is still being recorded, as far as it is known.
    pub live: Live,
}

/// Whether a file is still being recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Live {
    /// It is closed.
    #[default]
    Closed,
    /// It is not closed, and has not grown since it was opened: nobody may ever close it.
    Watched,
    /// It grows.
    Growing,
}

/// Times that are marked on the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Highlight {
    /// What they have in common.
    pub name: String,
    /// The times, by begin.
    pub ranges: Vec<TimeRange>,
}

/// The find panel.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// Whether it is shown.
    pub visible: bool,
    /// Whether its text field should take the keyboard.
    pub wants_focus: bool,
    /// What to look for.
    pub query: String,
}

impl Open {
    /// A trace that was just opened.
    pub fn new(path: PathBuf, trace: Arc<Trace>, summary: Arc<Summary>) -> Self {
        let classes = trace.file.strings.iter().map(|text| OpClass::of(text)).collect();
        let view = View::whole(trace.range(), 1000.0);
        let loading = trace.nodes().is_none().then_some(0.0);
        let wanted = RefCell::default();
        let counters = CounterView::of(&trace);
        let live = if trace.is_open_ended() { Live::Watched } else { Live::Closed };
        Self {
            path,
            trace,
            loading,
            summary,
            wanted,
            classes,
            view,
            selected: None,
            range: None,
            session: Session::default(),
            history: History::default(),
            highlight: None,
            counters,
            live,
        }
    }

    /// Shows the same file as it is now, which has grown; the end stays in sight if it was.
    pub fn grow(&mut self, trace: Arc<Trace>, summary: Arc<Summary>) {
        trace.adopt(&self.trace);
        self.view = self.view.following(trace.range());
        self.classes = trace.file.strings.iter().map(|text| OpClass::of(text)).collect();
        if self.counters.shown.is_empty() {
            self.counters = CounterView::of(&trace);
        }
        self.live = if trace.is_open_ended() { Live::Growing } else { Live::Closed };
        self.loading = None;
        self.wanted = RefCell::default();
        (self.trace, self.summary) = (trace, summary);
    }

    /// The class of an operator.
    pub fn class(&self, op: StrId) -> OpClass {
        self.classes.get(op.0 as usize).copied().unwrap_or_default()
    }

    /// The class of the operator that a span ran.
    pub fn class_of(&self, span: &OpSpan) -> OpClass {
        self.trace.node_of(span).map_or(OpClass::Other, |(_, tensor)| self.class(tensor.op))
    }

    /// The name of what a span computed.
    pub fn name(&self, span: &OpSpan) -> &str {
        let tensor =
            self.trace.node_of(span).and_then(|(graph, _)| node::result(graph, span.node, span.fused));
        tensor.map_or("?", |tensor| self.trace.file.string(tensor.name))
    }

    /// The operator of a span, for a label.
    pub fn op(&self, span: &OpSpan) -> &str {
        self.trace.node_of(span).map_or("?", |(_, tensor)| node::op_name(&self.trace.file, tensor))
    }

    /// Name and operator of a span, with the operators fused into it.
    pub fn key(&self, span: &OpSpan) -> NodeKey {
        let unknown = || NodeKey { name: format!("node {}", span.node), op: "?".into() };
        NodeKey::of(&self.trace, span).unwrap_or_else(unknown)
    }

    /// The same execution of a node on each lane, as far as its rows are decoded;
    /// wants the others.
    pub fn on_each_lane(&self, span: &OpSpan) -> Vec<Found> {
        let around = self.trace.graph_span(span.graph_span).map(|graph| (graph.begin, graph.end));
        let range = around.map_or(TimeRange::new(span.begin, span.end()), |(begin, end)| {
            TimeRange::new(begin.min(span.begin), end.max(span.end()))
        });
        let (found, missing) = self.trace.execution(span, range);
        self.wanted.borrow_mut().extend(missing);
        found
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        file_name(&self.path)
    }
}

/// A file's name for people.
pub fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

impl Document {
    /// The trace, if one is open.
    pub fn open(&self) -> Option<&Open> {
        match self {
            Self::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The same, to change where the user is in it.
    pub fn open_mut(&mut self) -> Option<&mut Open> {
        match self {
            Self::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Takes what the loader tells; says whether the trace has just become open.
    pub fn receive(&mut self, message: Message) -> bool {
        match (message, &mut *self) {
            (Message::Progress(new), Self::Loading { progress, .. }) => *progress = new,
            (Message::Progress(new), Self::Open(open)) if open.loading.is_some() => open.loading = Some(new),
            (Message::Opened(trace, summary), Self::Loading { path, .. }) => {
                let path = std::mem::take(path);
                *self = Self::Open(Box::new(Open::new(path, trace, summary)));
                return true;
            }
            (Message::Loaded(summary), Self::Open(open)) => {
                open.loading = None;
                open.summary = summary;
            }
            (Message::Failed { why, advice }, Self::Loading { path, .. }) => {
                let path = std::mem::take(path);
                *self = Self::Failed { path, why, advice };
            }
            _ => {}
        }
        false
    }
}

impl State {
    /// Both traces, when two are open, and what is known of the pair.
    pub fn pair(&self) -> Option<(&Open, &Open, &Comparison)> {
        Some((self.document.open()?, self.second.open()?, self.comparison.as_ref()?))
    }

    /// Aligns the two traces; with what was kept, or by token.
    pub fn align(&mut self, aligned: Aligned) {
        let (Document::Open(a), Document::Open(b)) = (&self.document, &self.second) else { return };
        match &mut self.comparison {
            Some(comparison) => comparison.align(&a.trace, &b.trace, aligned),
            None => self.comparison = Some(Comparison::new(&a.trace, &b.trace, aligned)),
        }
        self.link();
    }

    /// Puts the second trace's window under the first one's.
    pub fn link(&mut self) {
        let (Document::Open(a), Document::Open(b)) = (&mut self.document, &mut self.second) else { return };
        let Some(comparison) = &self.comparison else { return };
        [a.view, b.view] = comparison.linked(&a.view);
    }

    /// Where the user is.
    pub fn visit(&self) -> Option<Visit> {
        let open = self.open()?;
        Some(Visit { page: self.page, view: open.view, selected: open.selected, range: open.range })
    }

    /// The open trace.
    pub fn open(&self) -> Option<&Open> {
        self.document.open()
    }

    /// The open trace, to change where the user is.
    pub fn open_mut(&mut self) -> Option<&mut Open> {
        self.document.open_mut()
    }
}
