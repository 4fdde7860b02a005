//! What a user has done to a trace without changing it: marks with notes, lanes that are pinned or
//! hidden, colours. Kept for each trace in the user's folder for data of programs.

use llmtrace_analysis::Nanos;
use llmtrace_analysis::align::AlignBy;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Most marks that are kept.
const MOST_MARKS: usize = 1000;
/// Longest file that is read: more would not be ours.
const MOST_BYTES: u64 = 4 << 20;

/// What gives the bars of threads their colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorBy {
    /// The class of the operator.
    #[default]
    Operator,
    /// The layer.
    Layer,
    /// The part of a layer.
    Module,
    /// Part of the time that was waited.
    Wait,
    /// How far from the host's roof.
    Roof,
}

impl ColorBy {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Operator, "operator"),
        (Self::Layer, "layer"),
        (Self::Module, "module"),
        (Self::Wait, "wait"),
        (Self::Roof, "roof"),
    ];
}

/// What the strip of the whole trace shows below its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// How many threads compute.
    #[default]
    Busy,
    /// How many wait at barriers.
    Waiting,
    /// How long each token took.
    Tokens,
}

impl Metric {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Busy, "computing"), (Self::Waiting, "waiting"), (Self::Tokens, "time per token")];
}

/// A time that the user marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub time: Nanos,
    /// What they wrote.
    pub text: String,
}

/// What of a second trace is put under what of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aligned {
    /// By what.
    pub by: AlignBy,
    /// Nanoseconds by which the second's times are later, when aligned by hand.
    pub offset: i64,
}

/// The trace that another one is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedWith {
    /// Its file.
    pub path: PathBuf,
    /// How they lie.
    #[serde(default)]
    pub aligned: Aligned,
}

/// All that is kept for a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Marks, by time.
    pub notes: Vec<Note>,
    /// Lanes at the top, in this order, by name.
    pub pinned: Vec<String>,
    /// Lanes that are not shown, by name.
    pub hidden: Vec<String>,
    /// Groups of lanes of which only the head is shown, by name.
    pub collapsed: Vec<String>,
    /// Whether arrows lead to the selected span, from it, and from wakers to woken threads.
    pub arrows: bool,
    /// Colours of bars.
    pub color: ColorBy,
    /// What the strip of the whole trace shows.
    pub metric: Metric,
    /// What it is compared with.
    pub compared: Option<ComparedWith>,
}

impl Default for Session {
    fn default() -> Self {
        let (notes, pinned, hidden, collapsed) = Default::default();
        let (color, metric) = Default::default();
        Self { notes, pinned, hidden, collapsed, arrows: true, color, metric, compared: None }
    }
}

/// A change of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Mark a time.
    Mark(Nanos),
    /// Write to a mark.
    Write(usize, String),
    /// Forget a mark.
    Unmark(usize),
    /// Show a lane or hide it.
    Hide(String, bool),
    /// Collapse a group of lanes or expand it.
    Collapse(String, bool),
    /// Collapse these groups, and no others.
    CollapseOnly(Vec<String>),
    /// Show arrows if there are none, else none.
    ToggleArrows,
    /// Put a lane to the top, or back.
    Pin(String, bool),
    /// Move a pinned lane up.
    Raise(String),
    /// Show all lanes, in their order.
    ShowAll,
    /// Choose colours.
    Color(ColorBy),
    /// Choose what the strip of the whole trace shows.
    Metric(Metric),
}

impl Session {
    /// A session from the bytes of its file; an empty one when they are none.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut session: Self = serde_json::from_slice(bytes).unwrap_or_default();
        session.notes.sort_by_key(|note| note.time);
        session.notes.truncate(MOST_MARKS);
        session
    }

    /// Whether only the head of a group is shown.
    pub fn is_collapsed(&self, group: &str) -> bool {
        self.collapsed.iter().any(|name| name == group)
    }

    /// Carries a change out.
    pub fn apply(&mut self, change: Change) {
        let set = |list: &mut Vec<String>, name: String, on: bool| {
            list.retain(|known| *known != name);
            if on {
                list.push(name);
            }
        };
        match change {
            Change::Mark(time) => {
                let at = self.notes.partition_point(|note| note.time < time);
                let known = self.notes.get(at).is_some_and(|note| note.time == time);
                if !known && self.notes.len() < MOST_MARKS {
                    self.notes.insert(at, Note { time, text: String::new() });
                }
            }
            Change::Write(at, text) => {
                if let Some(note) = self.notes.get_mut(at) {
                    note.text = text;
                }
            }
            Change::Unmark(at) if at < self.notes.len() => {
                self.notes.remove(at);
            }
            Change::Unmark(_) => {}
            Change::Hide(name, on) => set(&mut self.hidden, name, on),
            Change::Collapse(name, on) => set(&mut self.collapsed, name, on),
            Change::CollapseOnly(names) => self.collapsed = names,
            Change::ToggleArrows => self.arrows = !self.arrows,
            Change::Pin(name, on) => set(&mut self.pinned, name, on),
            Change::Raise(name) => {
                if let Some(at) = self.pinned.iter().position(|known| *known == name).filter(|at| *at > 0) {
                    self.pinned.swap(at - 1, at);
                }
            }
            Change::ShowAll => {
                self.hidden.clear();
                self.pinned.clear();
                self.collapsed.clear();
            }
            Change::Color(color) => self.color = color,
            Change::Metric(metric) => self.metric = metric,
        }
    }
}

/// Where the session of a trace is kept in a folder.
fn file(folder: &Path, trace: &Path) -> PathBuf {
    let whole = trace.canonicalize().or_else(|_| std::path::absolute(trace));
    let mut hasher = DefaultHasher::new();
    whole.as_deref().unwrap_or(trace).hash(&mut hasher);
    folder.join(format!("{:016x}.json", hasher.finish()))
}

/// The session of a trace; an empty one when there is none or it cannot be read.
pub(crate) fn load(folder: &Path, trace: &Path) -> Session {
    let path = file(folder, trace);
    let small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MOST_BYTES);
    let bytes = small.then(|| std::fs::read(&path).ok()).flatten();
    bytes.map_or_else(Session::default, |bytes| Session::parse(&bytes))
}

/// Keeps the session of a trace; forgets it when it is empty.
pub(crate) fn save(folder: &Path, trace: &Path, session: &Session) {
    let path = file(folder, trace);
    let write = || -> std::io::Result<()> {
        if *session == Session::default() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        std::fs::create_dir_all(folder)?;
        let whole = path.with_extension("json.new");
        std::fs::write(&whole, serde_json::to_vec_pretty(session)?)?;
        std::fs::rename(&whole, &path)
    };
    if let Err(error) = write() {
        log::debug!("session not saved: {error}: {}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzer asks of any bytes, too.
    fn is_read(bytes: &[u8]) {
        let session = Session::parse(bytes);
        assert!(session.notes.is_sorted_by_key(|note| note.time), "marks out of order");
        let written = serde_json::to_vec(&session).unwrap();
        assert_eq!(Session::parse(&written), session);
    }

    #[test]
    fn whatever_is_in_its_file_a_session_is_read() {
        let mut session = Session::default();
        session.apply(Change::Mark(70));
        session.apply(Change::Write(0, "first \u{202e}".into()));
        session.apply(Change::Pin("thread 1".into(), true));
        session.apply(Change::Color(ColorBy::Layer));
        let seeds = [serde_json::to_vec(&session).unwrap(), b"{}".to_vec(), Vec::new()];
        llmtrace_testing::rounds::run("session", is_read, &seeds, 3000, 7);
    }

    #[test]
    fn a_session_is_kept_for_its_trace_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.llmtrace"), folder.path().join("b.llmtrace"));
        let mut session = Session::default();
        session.apply(Change::Mark(70));
        session.apply(Change::Mark(30));
        session.apply(Change::Mark(30));
        session.apply(Change::Write(0, "first".into()));
        session.apply(Change::Pin("thread 1".into(), true));
        session.apply(Change::Pin("tokens".into(), true));
        session.apply(Change::Raise("tokens".into()));
        session.apply(Change::Hide("graph".into(), true));
        session.apply(Change::Color(ColorBy::Layer));
        assert_eq!(session.notes.iter().map(|note| note.time).collect::<Vec<_>>(), [30, 70]);
        assert_eq!(session.pinned, ["tokens", "thread 1"]);
        let sessions = folder.path().join("sessions");
        save(&sessions, &a, &session);
        assert_eq!(load(&sessions, &a), session);
        assert_eq!(load(&sessions, &b), Session::default());
        session = Session::default();
        save(&sessions, &a, &session);
        assert_eq!(std::fs::read_dir(&sessions).unwrap().count(), 0);
    }

    #[test]
    fn damage_costs_a_session_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("a.llmtrace");
        std::fs::write(file(folder.path(), &trace), "{ broken").unwrap();
        assert_eq!(load(folder.path(), &trace), Session::default());
        let mut session = Session::default();
        session.apply(Change::Unmark(7));
        session.apply(Change::Write(7, "nothing".into()));
        assert_eq!(session, Session::default());
    }
}
