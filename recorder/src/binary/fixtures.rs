//! What several tests need: an ELF file of one function, and a piece of memory.

use super::tables::Memory;

/// Overwrites `file` at `at`, which may lie behind its end.
pub(super) fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    for (slot, byte) in file.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Type and flags share the first word of a program header.
pub(super) fn segment(kind: u64, flags: u64, offset: u64, vaddr: u64, size: u64) -> Vec<u8> {
    words(&[kind | flags << 32, offset, vaddr, vaddr, size, size, 8])
}

/// Name and type share the first word of a section header.
fn section(kind: u64, offset: u64, size: u64, link: u64, entry: u64) -> Vec<u8> {
    words(&[kind << 32, 0, 0, offset, size, link, 8, entry])
}

/// A library whose text is at vaddr 0 and whose data is one page further than in the file.
pub(super) fn tiny_elf() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    put(&mut file, 16, &words(&[3 | 62 << 16 | 1 << 32, 0, 64, 0x1100]));
    put(&mut file, 52, &words(&[64 | 56 << 16 | 4 << 32 | 64 << 48, 3]));
    let segments = [
        segment(1, 5, 0, 0, 0x1000),
        segment(1, 6, 0x1000, 0x2000, 0x100),
        segment(2, 6, 0x1020, 0x2020, 48),
        segment(4, 4, 0x200, 0x200, 20),
    ];
    put(&mut file, 64, &segments.concat());
    put(&mut file, 0x200, b"\x04\0\0\0\x04\0\0\0\x03\0\0\0GNU\0\xde\xad\xbe\xef");
    put(&mut file, 0x300, &words(&[0x2008, 8, 0x1122_3344_5566_7788]));
    put(&mut file, 0x400, &[0x55, 0x5d, 0xc3]);
    put(&mut file, 0x500, &words(&[1 | 0x12 << 32 | 1 << 48, 0x400, 3]));
    put(&mut file, 0x600, b"\0entry\0");
    put(&mut file, 0x1000, &(0xd0..0xe0).collect::<Vec<u8>>());
    put(&mut file, 0x1020, &words(&[7, 0x300, 8, 24, 0, 0]));
    let sections = [section(0, 0, 0, 0, 0), section(11, 0x500, 24, 2, 24), section(3, 0x600, 7, 0, 0)];
    put(&mut file, 0x1100, &sections.concat());
    file
}

/// One readable range.
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl Memory for Range {
    fn read(&self, address: u64, buf: &mut [u8]) -> bool {
        let part = address
            .checked_sub(self.start)
            .and_then(|from| self.bytes.get(from as usize..))
            .and_then(|tail| tail.get(..buf.len()));
        part.map(|part| buf.copy_from_slice(part)).is_some()
    }
}

/// Appends `text` and returns its address.
pub(super) fn add_text(range: &mut Range, text: &str) -> u64 {
    let address = range.start + range.bytes.len() as u64;
    range.bytes.extend(text.bytes());
    range.bytes.push(0);
    address
}

/// Appends numbers and returns their address.
pub(super) fn add_words(range: &mut Range, words: &[u64]) -> u64 {
    let address = range.start + range.bytes.len() as u64;
    range.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    address
}

/// Short sequences of bytes from a seeded generator.
pub(super) fn random_code() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..20_000).map(move |_| (0..next() % 48).map(|_| next() as u8).collect())
}
