//! Questions to the accessor functions of one copy of ggml.

use super::BinaryError;
use super::affine::{Affine, Fact, facts};
use super::tables::{Column, Memory, read_names, read_string};

/// No structure of ggml has a field further away.
const MAX_FIELD_OFFSET: u64 = 4096;
/// No table has more entries: there are some hundred operations.
const MAX_ENTRIES: u64 = 1024;

/// A function of the target.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// Its machine code.
    pub(crate) code: Vec<u8>,
    /// Where it runs, in the address space of the [`Memory`] that goes with it.
    pub(crate) vaddr_runtime: u64,
}

/// What `ggml_get_unary_op` tells: it returns a field if another one has the right value.
#[derive(Clone, Copy)]
pub(super) struct TaggedField {
    pub(super) tag_offset: u32,
    pub(super) tag: u64,
    pub(super) value_offset: u32,
}

/// Finds functions and reads memory.
pub(super) struct Target<'a> {
    pub(super) find: &'a dyn Fn(&str) -> Option<Located>,
    pub(super) mem: &'a dyn Memory,
}

impl Target<'_> {
    fn facts(&self, name: &str) -> Vec<Fact> {
        (self.find)(name).map_or_else(Vec::new, |f| facts(&f.code, f.vaddr_runtime))
    }

    /// The table that the function looks its argument up in.
    pub(super) fn column(&self, name: &str) -> Option<Column> {
        self.facts(name).into_iter().find_map(|fact| match fact {
            Fact::Load { from: Affine { per_arg: stride, constant: address }, bytes }
                if (8..=MAX_FIELD_OFFSET).contains(&stride) && matches!(bytes, 4 | 8) =>
            {
                Some(Column { address, stride, bytes })
            }
            _ => None,
        })
    }

    /// The same for a function that must exist and look up a pointer.
    pub(super) fn require_column(&self, name: &'static str) -> Result<Column, BinaryError> {
        if (self.find)(name).is_none() {
            return Err(BinaryError::MissingFunction { name });
        }
        let column = self.column(name).filter(|column| column.bytes == 8);
        column.ok_or(BinaryError::UnknownCode { name })
    }

    /// Names of a table that may be missing.
    pub(super) fn names(&self, accessor: &str) -> Vec<String> {
        let column = self.column(accessor).filter(|c| c.stride == 8 && c.bytes == 8);
        column.map_or_else(Vec::new, |c| read_names(self.mem, c.address, self.room_for(c)))
    }

    /// How many entries fit before the next table that we know of.
    pub(super) fn room_for(&self, column: Column) -> u64 {
        let accessors =
            ["ggml_op_name", "ggml_op_symbol", "ggml_unary_op_name", "ggml_glu_op_name", "ggml_type_name"];
        accessors
            .iter()
            .filter_map(|name| self.column(name)?.address.checked_sub(column.address))
            .filter(|&distance| distance > 0)
            .map(|distance| distance.div_ceil(column.stride))
            .fold(MAX_ENTRIES, u64::min)
    }

    /// The fields that the function compares and reads.
    pub(super) fn tagged_field(&self, accessor: &str) -> Option<TaggedField> {
        let facts = self.facts(accessor);
        let (tag_offset, tag) = facts.iter().find_map(|fact| match *fact {
            Fact::Compare { at, number } => Some((field_offset(at)?, number)),
            _ => None,
        })?;
        let value_offset = facts.iter().find_map(|fact| match *fact {
            Fact::Load { from, bytes: 4 } => field_offset(from).filter(|&at| at != tag_offset),
            _ => None,
        })?;
        Some(TaggedField { tag_offset, tag, value_offset })
    }

    /// Offset of the field whose address the function returns.
    pub(super) fn returned_offset(&self, accessor: &str) -> Option<u32> {
        self.facts(accessor).into_iter().find_map(|fact| match fact {
            Fact::Return(value) => field_offset(value),
            _ => None,
        })
    }

    /// Offset of the field of that length which the function reads.
    pub(super) fn loaded_offset(&self, accessor: &str, wanted: usize) -> Option<u32> {
        self.facts(accessor).into_iter().find_map(|fact| match fact {
            Fact::Load { from, bytes } if bytes == wanted => field_offset(from),
            _ => None,
        })
    }

    /// The string constant that the function returns; `None` for a null pointer.
    pub(super) fn text(&self, accessor: &str) -> Option<String> {
        self.facts(accessor).into_iter().find_map(|fact| match fact {
            Fact::Return(Affine { per_arg: 0, constant }) => read_string(self.mem, constant),
            _ => None,
        })
    }
}

/// Offset of the pointer that an accessor reads from its argument.
pub(crate) fn field_read(code: &[u8], vaddr: u64) -> Option<u32> {
    facts(code, vaddr).into_iter().find_map(|fact| match fact {
        Fact::Load { from, bytes: 8 } => field_offset(from),
        _ => None,
    })
}

fn field_offset(address: Affine) -> Option<u32> {
    let inside = address.per_arg == 1 && address.constant < MAX_FIELD_OFFSET;
    inside.then_some(address.constant as u32)
}
