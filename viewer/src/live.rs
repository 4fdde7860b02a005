//! Follows a trace that is still being recorded: looks whether the file has grown, opens it anew
//! and hands it over, until the recorder closes it.
//!
//! ```text
//! open, no footer ─► Watched ─grows─► Live ─grows─► Live ─footer─► an ordinary trace
//! ```

use crate::clean::clean_texts;
use crate::memo::Jobs;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use llmtrace_analysis::Trace;
use llmtrace_analysis::format::Source;
use llmtrace_analysis::summary::{Summary, summary};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the length of the file is asked for; the recorder writes about as often.
const POLL: Duration = Duration::from_millis(800);
/// Opening may take so many times less than the pause after it.
const REST: u32 = 8;
/// Nodes of a file with more op spans are not counted each time that it has grown.
const MOST_SPANS: u64 = 4_000_000;

/// What has become of the file.
pub(crate) enum News {
    /// It has grown: the trace as it is now.
    Grown(Arc<Trace>, Arc<Summary>),
    /// The recorder has closed it: the whole trace.
    Closed(Arc<Trace>, Arc<Summary>),
    /// It was removed, cut or replaced by another.
    Gone,
}

/// Looks after a file. Dropping it ends that.
pub(crate) struct Follower {
    news: Receiver<News>,
    /// Dropped to end the thread.
    _stop: Option<Sender<()>>,
    /// Without a thread: looks when it is asked.
    inline: Option<(Watch, Sender<News>)>,
}

impl Follower {
    /// Follows a file of which `trace` is known; `context` is asked to repaint on news.
    pub(crate) fn start(path: PathBuf, trace: &Trace, jobs: Jobs, context: egui::Context) -> Self {
        let (sender, news) = unbounded();
        let watch = Watch { path, len: trace.file.len() };
        if jobs == Jobs::Inline {
            return Self { news, _stop: None, inline: Some((watch, sender)) };
        }
        let (stop, stopped) = bounded(0);
        let work = move || follow(watch, &sender, &stopped, &context);
        if let Err(error) = std::thread::Builder::new().name("follow".into()).spawn(work) {
            log::warn!("No thread to follow the file: {error}");
        }
        Self { news, _stop: Some(stop), inline: None }
    }

    /// The newest news, if there are any.
    pub(crate) fn news(&mut self) -> Option<News> {
        if let Some((watch, sender)) = &mut self.inline
            && let Some(news) = watch.look()
        {
            // The receiver is our own.
            let _ = sender.send(news);
        }
        self.news.try_iter().last()
    }
}

fn follow(mut watch: Watch, sender: &Sender<News>, stopped: &Receiver<()>, context: &egui::Context) {
    let mut pause = POLL;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let begin = Instant::now();
        let Some(news) = watch.look() else { continue };
        let done = !matches!(news, News::Grown(..));
        if sender.send(news).is_err() {
            return;
        }
        context.request_repaint();
        if done {
            return;
        }
        pause = POLL.max(begin.elapsed() * REST);
    }
}

struct Watch {
    path: PathBuf,
    /// Bytes that are known.
    len: u64,
}

impl Watch {
    /// What has become of the file since the last look.
    fn look(&mut self) -> Option<News> {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return Some(News::Gone) };
        if metadata.len() < self.len {
            return Some(News::Gone);
        }
        if metadata.len() == self.len {
            return None;
        }
        let trace = open(&self.path)?;
        self.len = trace.file.len();
        let ended = !trace.is_open_ended();
        if ended || trace.nodes_are_stored() || trace.op_span_count() <= MOST_SPANS {
            trace.load_nodes(&|_| true).ok()?;
        }
        let summary = Arc::new(summary(&trace));
        let trace = Arc::new(trace);
        Some(if ended { News::Closed(trace, summary) } else { News::Grown(trace, summary) })
    }
}

/// The file as it is now; `None` when it cannot be read just now.
fn open(path: &Path) -> Option<Trace> {
    let file = File::open(path).ok()?;
    let mut trace = Trace::open(Source::from_file(file), &mut |_| true).ok()?;
    clean_texts(&mut trace);
    Some(trace)
}
