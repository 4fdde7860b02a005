//! What every panel gets.

use crate::command::Command;
use crate::memo::Jobs;
use crate::state::Open;
use crate::theme::Colors;

/// What a panel reads, and where it sends what it wants changed.
pub struct Cx<'a> {
    /// The open trace.
    pub open: &'a Open,
    /// The theme's colours.
    pub colors: &'static Colors,
    /// How to do slow work.
    pub jobs: Jobs,
    /// What to do after this frame.
    pub commands: &'a mut Vec<Command>,
}
