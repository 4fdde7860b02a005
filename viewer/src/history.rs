//! Where the user has been: back and forward, as in a browser. Going back also undoes a change of
//! the timeline's window or of the selection.

use crate::state::Page;
use crate::timeline::view::View;
use llmtrace_analysis::{Found, TimeRange};

/// Most places that are remembered.
const MOST: usize = 200;

/// A place to come back to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// Page.
    pub page: Page,
    /// The timeline's window.
    pub view: View,
    /// Selected span.
    pub selected: Option<Found>,
    /// Selected range.
    pub range: Option<TimeRange>,
}

/// Places before and after the present one.
#[derive(Clone, Debug, Default)]
pub struct History {
    past: Vec<Visit>,
    future: Vec<Visit>,
    /// Whether the last change was one of many small ones, as of a drag.
    moving: bool,
}

impl History {
    /// Remembers where the user was before a change. Of consecutive `small` ones, as the steps of a
    /// drag are, the first counts.
    pub fn leave(&mut self, before: Visit, small: bool) {
        if small && self.moving {
            return;
        }
        self.moving = small;
        self.future.clear();
        self.past.push(before);
        if self.past.len() > MOST {
            self.past.remove(0);
        }
    }

    /// The place before, if there is one; `now` comes after it.
    pub fn back(&mut self, now: Visit) -> Option<Visit> {
        let visit = self.past.pop()?;
        self.future.push(now);
        self.moving = false;
        Some(visit)
    }

    /// The place that the user went back from.
    pub fn forward(&mut self, now: Visit) -> Option<Visit> {
        let visit = self.future.pop()?;
        self.past.push(now);
        self.moving = false;
        Some(visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(second: u64) -> Visit {
        let mut view = View::whole(TimeRange::new(0, 100_000_000_000), 1000.0);
        view.show(TimeRange::new(second * 1_000_000_000, (second + 1) * 1_000_000_000), 0.0);
        Visit { page: Page::Timeline, view, selected: None, range: None }
    }

    #[test]
    fn back_and_forward_end_where_they_began() {
        let mut history = History::default();
        assert_eq!(history.back(visit(0)), None);
        for second in 0..3 {
            history.leave(visit(second), false);
        }
        assert_eq!(history.back(visit(3)), Some(visit(2)));
        assert_eq!(history.back(visit(2)), Some(visit(1)));
        assert_eq!(history.forward(visit(1)), Some(visit(2)));
        // A new way forgets the old one.
        history.leave(visit(2), false);
        assert_eq!(history.forward(visit(9)), None);
    }

    #[test]
    fn a_drag_is_one_step_and_memory_is_bounded() {
        let mut history = History::default();
        for second in 0..50 {
            history.leave(visit(second), true);
        }
        assert_eq!(history.back(visit(50)), Some(visit(0)));
        for second in 0..1000 {
            history.leave(visit(second % 90), false);
        }
        assert_eq!(history.past.len(), MOST);
    }
}
