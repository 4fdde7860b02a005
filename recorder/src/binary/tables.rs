//! Tables of names and types, read from the memory of the target.

/// Longest name in any table of ggml, with room to spare.
const MAX_NAME_BYTES: usize = 64;
/// The smallest page of x86-64: a readable byte makes the rest of its page readable.
const PAGE_BYTES: u64 = 4096;
/// No quantised block holds or takes more. (Largest today: 256 elements, 292 bytes.)
const MAX_BLOCK: u64 = 1 << 16;
/// So many empty entries in a row mean that the table has ended.
const MAX_HOLES: usize = 4;

/// Memory of a target: a running process, or its file.
pub(crate) trait Memory {
    /// Fills all of `buf` from `address`; false if a part is not readable.
    fn read(&self, address: u64, buf: &mut [u8]) -> bool;
}

/// One entry of ggml's `type_traits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TypeInfo {
    /// The name; empty for a number that was never used or has been retired without a trace.
    pub(crate) name: String,
    /// Elements in a block; 0 for retired types.
    pub(crate) block_size: u32,
    /// Bytes in a block; 0 for retired types.
    pub(crate) type_size: u32,
}

/// A field of the elements of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Address of the field in the first element.
    pub(super) address: u64,
    /// Distance between elements.
    pub(super) stride: u64,
    /// Length of the field: 4 or 8.
    pub(super) bytes: usize,
}

impl Column {
    fn read(&self, mem: &dyn Memory, index: u64) -> Option<u64> {
        let address = self.address.checked_add(self.stride.checked_mul(index)?)?;
        let mut buf = [0; 8];
        mem.read(address, buf.get_mut(..self.bytes)?).then(|| u64::from_le_bytes(buf))
    }
}

/// A NUL-terminated string of at most 64 printable ASCII characters.
pub(super) fn read_string(mem: &dyn Memory, address: u64) -> Option<String> {
    let mut text = Vec::new();
    while text.len() <= MAX_NAME_BYTES {
        let at = address.checked_add(text.len() as u64)?;
        let left_in_page = PAGE_BYTES - at % PAGE_BYTES;
        let mut buf = [0; 32];
        let chunk = buf.get_mut(..left_in_page.min(32) as usize)?;
        if !mem.read(at, chunk) {
            return None;
        }
        let end = chunk.iter().position(|&byte| byte == 0);
        text.extend_from_slice(chunk.get(..end.unwrap_or(chunk.len()))?);
        if end.is_some() {
            break;
        }
    }
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    (printable && !text.is_empty() && text.len() <= MAX_NAME_BYTES)
        .then(|| String::from_utf8(text).ok())
        .flatten()
}

/// Names from a table of `char *` up to the first entry that is not one, at most `max`.
///
/// All operation names of ggml are written `LIKE_THIS`. Insisting on it ends the table where it
/// is followed directly by the table of symbols (`x+y`), for nothing else marks its end.
pub(super) fn read_names(mem: &dyn Memory, table: u64, max: u64) -> Vec<String> {
    let column = Column { address: table, stride: 8, bytes: 8 };
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (0..max)
        .map_while(|index| read_string(mem, column.read(mem, index)?))
        .take_while(|name| name.chars().all(is_part))
        .collect()
}

/// The type table, at most `max` entries, up to the first that is no type.
///
/// Retired numbers keep an entry, possibly an empty one, so that indexes are type numbers.
pub(super) fn read_types(
    mem: &dyn Memory,
    name: Column,
    block_size: Column,
    type_size: Column,
    max: u64,
) -> Vec<TypeInfo> {
    let size = |column: &Column, index| {
        column.read(mem, index).filter(|&value| value <= MAX_BLOCK).map(|value| value as u32)
    };
    let entry = |index| {
        let pointer = name.read(mem, index)?;
        let name = if pointer == 0 { String::new() } else { read_string(mem, pointer)? };
        let block_size = size(&block_size, index)?;
        let type_size = size(&type_size, index)?;
        let hole = name.is_empty() && block_size == 0 && type_size == 0;
        (hole || !name.is_empty()).then_some(TypeInfo { name, block_size, type_size })
    };
    let mut types: Vec<TypeInfo> = Vec::new();
    for info in (0..max).map_while(entry) {
        types.push(info);
        if types.len() >= MAX_HOLES && types.iter().rev().take(MAX_HOLES).all(is_hole) {
            break;
        }
    }
    while types.last().is_some_and(is_hole) {
        types.pop();
    }
    types
}

fn is_hole(info: &TypeInfo) -> bool {
    info.name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::fixtures::{Range, add_text, add_words};

    fn pad(range: &mut Range) {
        range.bytes.extend([0; 128]);
    }

    #[test]
    fn names_end_where_the_next_table_begins() {
        let mut range = Range { start: 0x1000, bytes: Vec::new() };
        let texts = ["NONE", "MUL_MAT", "none", "x+y"].map(|text| add_text(&mut range, text));
        let table = add_words(&mut range, &texts);
        pad(&mut range);
        assert_eq!(read_names(&range, table, 100), ["NONE", "MUL_MAT"]);
        assert_eq!(read_names(&range, table, 1), ["NONE"]);
        assert!(read_names(&range, 0x9000, 100).is_empty());
    }

    #[test]
    fn strings_end_with_the_readable_page() {
        let mut bytes = vec![1; 4093];
        bytes.extend(*b"ab\0");
        let range = Range { start: 0x1000, bytes };
        assert_eq!(read_string(&range, 0x1ffd).as_deref(), Some("ab"));
        assert_eq!(read_string(&range, 0x1ffc), None);
        assert_eq!(read_string(&range, u64::MAX), None);
    }

    #[test]
    fn long_and_empty_strings_are_refused() {
        let mut range = Range { start: 0x1000, bytes: Vec::new() };
        let long = add_text(&mut range, &"x".repeat(65));
        let fitting = add_text(&mut range, &"x".repeat(64));
        let empty = add_text(&mut range, "");
        pad(&mut range);
        assert_eq!(read_string(&range, long), None);
        assert_eq!(read_string(&range, fitting).map(|text| text.len()), Some(64));
        assert_eq!(read_string(&range, empty), None);
    }

    #[test]
    fn retired_types_keep_their_number() {
        let mut range = Range { start: 0x1000, bytes: Vec::new() };
        let f32 = add_text(&mut range, "f32");
        let gone = add_text(&mut range, "TYPE_Q4_0_4_4 REMOVED, use Q4_0 with runtime repacking");
        let q8 = add_text(&mut range, "q8_0");
        let table = add_words(&mut range, &[f32, 1, 4, 0, 0, 0, gone, 0, 0, q8, 32, 34]);
        add_words(&mut range, &[0x1234, 5, 6]);
        pad(&mut range);
        let column = |offset| Column { address: table + offset, stride: 24, bytes: 8 };
        let types = read_types(&range, column(0), column(8), column(16), 100);
        let names: Vec<&str> = types.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names.len(), 4);
        assert_eq!((names.first(), names.get(1)), (Some(&"f32"), Some(&"")));
        assert!(names.get(2).is_some_and(|name| name.contains("REMOVED")));
        let last = TypeInfo { name: "q8_0".into(), block_size: 32, type_size: 34 };
        assert_eq!(types.last(), Some(&last));
    }
}
