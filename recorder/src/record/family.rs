//! Processes that may load ggml: those that the user named, and those that a
//! launched command starts.

use super::objects::Objects;
use super::target::Target;
use std::time::{Duration, Instant};

/// A process that has just begun is looked at often: engines load their library
/// shortly before its first use. Later it is looked at now and then.
const LOOK_OFTEN: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_millis(250);
const YOUNG: Duration = Duration::from_secs(5);
/// A child is a copy of its parent, library and all, until it becomes what it was
/// started for.
const COPY: Duration = Duration::from_millis(300);
/// More than a command starts that computes; shells and build tools start many.
const MAX_CANDIDATES: usize = 4096;

/// Who may become a recorded process.
#[derive(Default)]
pub(super) struct Family {
    candidates: Vec<Candidate>,
}

struct Candidate {
    pid: u32,
    parent: u32,
    objects: Objects,
    born: Instant,
    next: Instant,
}

/// A process with ggml.
pub(super) struct Found {
    pub(super) pid: u32,
    /// The recorded process that started it, or 0.
    pub(super) parent: u32,
    pub(super) objects: Objects,
}

impl Family {
    /// Adds a process whose objects were looked at.
    pub(super) fn add(&mut self, pid: u32, parent: u32, objects: Objects) {
        if self.candidates.len() < MAX_CANDIDATES {
            let now = Instant::now();
            self.candidates.push(Candidate { pid, parent, objects, born: now, next: now });
        }
    }

    /// A process was started by `parent`, or became another program, which is
    /// said by `parent` being equal to `pid`.
    pub(super) fn started(&mut self, pid: u32, parent: u32) {
        let before = self.candidates.iter().position(|candidate| candidate.pid == pid);
        let before = before.map(|index| self.candidates.swap_remove(index).parent);
        let is_copy = parent != pid;
        let parent = if is_copy { parent } else { before.unwrap_or(0) };
        self.add(pid, parent, Objects::new(pid));
        if let Some(candidate) = self.candidates.last_mut().filter(|candidate| candidate.pid == pid) {
            candidate.next = candidate.born + if is_copy { COPY } else { LOOK_OFTEN };
        }
    }

    /// Looks for processes that have loaded ggml since.
    pub(super) fn scan(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        let mut index = 0;
        while let Some(candidate) = self.candidates.get_mut(index) {
            let now = Instant::now();
            let due = candidate.next <= now;
            if due {
                let young = now - candidate.born < YOUNG;
                candidate.next = now + if young { LOOK_OFTEN } else { LOOK_SELDOM };
                // One that ended cannot be read; it is forgotten elsewhere.
                let _ = candidate.objects.scan();
            }
            if due && !candidate.objects.loaded.is_empty() {
                let Candidate { pid, parent, objects, .. } = self.candidates.swap_remove(index);
                found.push(Found { pid, parent, objects });
            } else {
                index += 1;
            }
        }
        found
    }

    /// Whether any is so young that it may be about to load ggml.
    pub(super) fn young(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.born.elapsed() < YOUNG)
    }

    /// Forgets candidates that ended; returns which.
    pub(super) fn forget_ended(&mut self) -> Vec<u32> {
        let (alive, ended) = std::mem::take(&mut self.candidates)
            .into_iter()
            .partition(|candidate: &Candidate| Target::is_alive(candidate.pid));
        self.candidates = alive;
        ended.into_iter().map(|candidate| candidate.pid).collect()
    }
}
