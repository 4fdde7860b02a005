//! Which experts of a mixture tokens were sent to.

use super::{ColumnSpec, Preference, Table, convert};
use crate::Nanos;
use crate::constants::kind;

table! {
    /// Selections of experts.
    Selections of
    /// One selection: the experts of all tokens of a micro-batch in one layer.
    Selection, kind::SELECTIONS, "selections";
    /// Number by which experts refer to it; counts from 0.
    0 id: u32 as Delta since 2 or 0,
    /// When it was read; when unknown or lost, the end of its graph.
    1 time: Nanos as Delta since 2 or 0,
    /// [`crate::tables::GraphSpan::id`]; [`crate::constants::NONE`] when it is of a split that a device
    /// computed.
    2 graph_span: u32 as Runs since 2 or 0,
    /// The first node that uses it: index into [`crate::meta::Graph::tensors`].
    3 node: u32 as Planes since 2 or 0,
    /// Tokens of the micro-batch.
    4 tokens: u32 as Runs since 2 or 0,
    /// Experts of each token.
    5 used: u32 as Runs since 2 or 0,
    /// Tokens whose experts are in the file.
    6 recorded: u32 as Runs since 2 or 0,
    /// [`SelectionStatus`] as a number.
    7 status: u8 as Runs since 2 or 0,
    /// [`crate::offload::Split::id`] of a split that a device computed; else [`crate::constants::NONE`].
    /// It came while 1.2 was made: files of 1.2 may lack it, which `since 3` allows.
    8 split: u32 as Delta since 3 or crate::constants::NONE,
}

table! {
    /// Experts that tokens were sent to; those of a token by rank.
    Experts of
    /// One expert of one token.
    Expert, kind::EXPERTS, "experts";
    /// [`Selection::id`].
    0 selection: u32 as Runs since 2 or 0,
    /// The token's place in the micro-batch.
    1 token: u32 as Runs since 2 or 0,
    /// Number of the expert in its layer.
    2 expert: u32 as Planes since 2 or 0,
    /// The router's weight as gathered, before it is normalised: the bits of a `float`;
    /// [`crate::constants::NONE`] when it was not recorded.
    3 weight: u32 as Planes since 2 or crate::constants::NONE,
}

/// How much of a selection is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SelectionStatus {
    /// All of it.
    Whole = 0,
    /// Some tokens, or some ranks of them, could not be read or were lost.
    Partial = 1,
    /// Nothing: there was no room for it between kernel and recorder.
    Lost = 2,
    /// Nothing: it was not in memory of the host, or computed where no probe is.
    Unknown = 3,
}

impl SelectionStatus {
    /// From the number in [`Selection::status`].
    pub fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Whole,
            1 => Self::Partial,
            2 => Self::Lost,
            _ => Self::Unknown,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}
