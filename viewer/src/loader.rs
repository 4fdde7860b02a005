//! Opens a trace on another thread: its dictionaries, small tables and summaries,
//! enough for every picture to begin with. Then, for a file without sums of its
//! nodes (one that was not closed), goes through its op spans to count them.

use crate::clean::clean_texts;
use crate::memo::Jobs;
use crossbeam_channel::{Receiver, Sender, unbounded};
use llmtrace_analysis::Trace;
use llmtrace_analysis::format::{Error, Source};
use llmtrace_analysis::summary::{Summary, summary};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the loader has to tell.
pub enum Message {
    /// How far it has come with the current step, from 0 to 1.
    Progress(f32),
    /// It is open; the summary has no operators where the file has no sums.
    Opened(Arc<Trace>, Arc<Summary>),
    /// Nodes are counted; the whole summary.
    Loaded(Arc<Summary>),
    /// It cannot be opened.
    Failed {
        /// What is wrong.
        why: String,
        /// What to do.
        advice: &'static str,
    },
}

/// A file being loaded. Dropping it stops the work.
pub struct Loader {
    /// What it has to tell.
    pub messages: Receiver<Message>,
    cancelled: Arc<AtomicBool>,
}

impl Loader {
    /// Starts to load `path`; `context` is asked to repaint on news.
    pub fn start(path: PathBuf, jobs: Jobs, context: egui::Context) -> Self {
        let (sender, messages) = unbounded();
        let cancelled = Arc::new(AtomicBool::new(false));
        let reporter = Reporter { sender, context, cancelled: Arc::clone(&cancelled) };
        match jobs {
            Jobs::Inline => load(&path, &reporter),
            Jobs::Threads => {
                let failed = reporter.sender.clone();
                let work = move || load(&path, &reporter);
                if let Err(error) = std::thread::Builder::new().name("loader".into()).spawn(work) {
                    let advice = "Close other programs and try again.";
                    let _ = failed.send(Message::Failed { why: error.to_string(), advice });
                }
            }
        }
        Self { messages, cancelled }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

struct Reporter {
    sender: Sender<Message>,
    context: egui::Context,
    cancelled: Arc<AtomicBool>,
}

impl Reporter {
    fn send(&self, message: Message) {
        // The receiver is gone when the user opened something else.
        let _ = self.sender.send(message);
        self.context.request_repaint();
    }

    fn progress(&self, progress: f32) -> bool {
        self.send(Message::Progress(progress));
        !self.cancelled.load(Ordering::Relaxed)
    }
}

fn load(path: &Path, reporter: &Reporter) {
    let result = open(path, &mut |progress| reporter.progress(progress)).and_then(|trace| {
        let trace = Arc::new(trace);
        let stored = trace.nodes_are_stored();
        if stored {
            trace.load_nodes(&|_| true)?;
        }
        reporter.send(Message::Opened(Arc::clone(&trace), Arc::new(summary(&trace))));
        if !stored {
            trace.load_nodes(&|progress| reporter.progress(progress))?;
            reporter.send(Message::Loaded(Arc::new(summary(&trace))));
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(Error::Cancelled) => {}
        Err(error) => reporter.send(Message::Failed { why: error.to_string(), advice: advice(&error) }),
    }
}

fn open(path: &Path, progress: &mut dyn FnMut(f32) -> bool) -> Result<Trace, Error> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory).into());
    }
    let mut trace = Trace::open(Source::from_file(file), progress)?;
    clean_texts(&mut trace);
    Ok(trace)
}

/// What to do about an error.
pub fn advice(error: &Error) -> &'static str {
    match error {
        Error::Io(_) => "Check that the file exists and that you may read it, then open it again.",
        Error::Foreign { .. } => "Choose a file that `llmtrace record` wrote; its name ends in .llmtrace.",
        Error::NewerVersion { .. } => "Install the version of llmtrace that recorded it, or a later one.",
        Error::TooShort { .. } => {
            "The recording or the copy was cut off. Copy the file again, or record again."
        }
        _ => "The file is damaged. Copy it again from where it was recorded, or record again.",
    }
}
