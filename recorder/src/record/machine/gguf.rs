//! Where tensors lie in a GGUF file: names and offsets from its header, nothing else.
//!
//! The file is the target's and may be anything: counts are held against the file's length, and
//! what is skipped is not read.

use llmtrace_format::meta::FileTensor;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek, SeekFrom};

const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
/// Versions with 64-bit counts, which all have since August 2023.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
const DEFAULT_ALIGNMENT: u64 = 32;
/// Tensors that are told of; models have up to some thousands.
const MAX_TENSORS: u64 = 4096;
/// Bytes of a name that is told, with the zero: `GGML_MAX_NAME`.
const MAX_NAME: u64 = 64;
/// Strings and numbers looked at: a vocabulary has some 300,000.
const MAX_ITEMS: u64 = 1 << 24;
const ALIGNMENT_KEY: &[u8] = b"general.alignment";

/// The tensors of a file that is `bytes` long, by offset; none when it is no GGUF file.
///
/// # Errors
/// When it is one, and damaged or too large.
pub(in crate::record) fn tensors(file: impl Read + Seek, bytes: u64) -> Result<Vec<FileTensor>> {
    let mut header = Header { file: BufReader::with_capacity(1 << 16, file), at: 0, bytes, items: 0 };
    if bytes < 4 || header.u32()? != MAGIC {
        return Ok(Vec::new());
    }
    if !VERSIONS.contains(&header.u32()?) {
        return Err(bad("a version of GGUF that is not known"));
    }
    let (count, keys) = (header.u64()?, header.u64()?);
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..keys {
        let key = header.text()?;
        let kind = header.u32()?;
        if key == ALIGNMENT_KEY && kind == UINT32 {
            alignment = u64::from(header.u32()?.max(1));
        } else {
            header.skip_value(kind)?;
        }
    }
    if count > MAX_TENSORS {
        return Err(bad("more tensors than a model has"));
    }
    let mut found = Vec::new();
    for _ in 0..count {
        let name = header.text()?;
        let dimensions = header.u32()?;
        header.skip(u64::from(dimensions).saturating_mul(8).saturating_add(4))?;
        let name = String::from_utf8_lossy(&name).chars().filter(|c| !c.is_control()).collect();
        found.push(FileTensor { name, offset: header.u64()?, bytes: 0 });
    }
    let data = header.at.div_ceil(alignment).saturating_mul(alignment);
    found.iter_mut().for_each(|tensor| tensor.offset = tensor.offset.saturating_add(data));
    found.sort_by_key(|tensor| tensor.offset);
    let ends: Vec<u64> = found.iter().skip(1).map(|next| next.offset).chain([bytes]).collect();
    for (tensor, end) in found.iter_mut().zip(ends) {
        tensor.bytes = end.saturating_sub(tensor.offset);
    }
    Ok(found)
}

const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value of a kind that is neither string nor array.
fn width(kind: u32) -> Result<u64> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        UINT32..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(bad("a kind of value that is not known")),
    }
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

struct Header<R> {
    file: BufReader<R>,
    at: u64,
    bytes: u64,
    items: u64,
}

impl<R: Read + Seek> Header<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(bad("a header that is too long"));
        }
        let mut buffer = [0; N];
        self.file.read_exact(&mut buffer)?;
        self.at += N as u64;
        Ok(buffer)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let to = self.at.checked_add(bytes).filter(|to| *to <= self.bytes);
        self.at = to.ok_or_else(|| bad("a header that is longer than its file"))?;
        match i64::try_from(bytes) {
            Ok(bytes) => self.file.seek_relative(bytes),
            Err(_) => self.file.seek(SeekFrom::Start(self.at)).map(|_| ()),
        }
    }

    /// A string, cut off where names are.
    fn text(&mut self) -> Result<Vec<u8>> {
        let length = self.u64()?;
        let taken = length.min(MAX_NAME);
        let mut text = Vec::new();
        (&mut self.file).take(taken).read_to_end(&mut text)?;
        if text.len() as u64 != taken {
            return Err(bad("a header that is longer than its file"));
        }
        self.at += taken;
        self.skip(length - taken)?;
        Ok(text)
    }

    fn skip_value(&mut self, kind: u32) -> Result<()> {
        match kind {
            STRING => {
                let length = self.u64()?;
                self.skip(length)
            }
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                match kind {
                    // None has been seen, and each level would be another chance to overflow.
                    ARRAY => Err(bad("arrays of arrays")),
                    STRING => (0..count).try_for_each(|_| {
                        let length = self.u64()?;
                        self.skip(length)
                    }),
                    kind => self.skip(width(kind)?.saturating_mul(count)),
                }
            }
            kind => self.skip(width(kind)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn text(into: &mut Vec<u8>, text: &str) {
        into.extend((text.len() as u64).to_le_bytes());
        into.extend(text.bytes());
    }

    /// A header with one of each kind of value, two tensors, and 100 bytes of data.
    fn file() -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(2u64.to_le_bytes());
        bytes.extend(4u64.to_le_bytes());
        text(&mut bytes, "tokenizer.ggml.tokens");
        bytes.extend(ARRAY.to_le_bytes());
        bytes.extend(STRING.to_le_bytes());
        bytes.extend(2u64.to_le_bytes());
        text(&mut bytes, "a");
        text(&mut bytes, &"long".repeat(100));
        text(&mut bytes, "scores");
        bytes.extend(ARRAY.to_le_bytes());
        bytes.extend(6u32.to_le_bytes());
        bytes.extend(3u64.to_le_bytes());
        bytes.extend([0; 12]);
        text(&mut bytes, "general.alignment");
        bytes.extend(UINT32.to_le_bytes());
        bytes.extend(64u32.to_le_bytes());
        text(&mut bytes, "general.name");
        bytes.extend(STRING.to_le_bytes());
        text(&mut bytes, "x");
        for (name, offset) in [("blk.1.w", 64u64), ("blk.0.w", 0)] {
            text(&mut bytes, name);
            bytes.extend(2u32.to_le_bytes());
            bytes.extend([0; 16]);
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(64) + 100, 1);
        bytes
    }

    #[test]
    fn tensors_are_where_the_header_says() {
        let bytes = file();
        let data = bytes.len() as u64 - 100;
        let found = tensors(Cursor::new(&bytes), bytes.len() as u64).expect("it is one");
        let found: Vec<_> =
            found.iter().map(|tensor| (tensor.name.as_str(), tensor.offset, tensor.bytes)).collect();
        assert_eq!(found, [("blk.0.w", data, 64), ("blk.1.w", data + 64, 36)]);
        assert!(tensors(Cursor::new(b"\x7fELF"), 4).expect("is none").is_empty());
        assert!(tensors(Cursor::new(b""), 0).expect("is none").is_empty());
    }

    #[test]
    fn damaged_headers_end_in_errors() {
        let bytes = file();
        let data = bytes.len() - 100;
        for length in 8..data - 64 {
            let cut = bytes.get(..length).expect("shorter");
            assert!(tensors(Cursor::new(cut), length as u64).is_err(), "cut at {length}");
        }
        // Any byte may be anything: no panic, no endless loop, no memory for what is not there.
        for at in 0..data {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                if let Some(byte) = damaged.get_mut(at) {
                    *byte = value;
                }
                let found = tensors(Cursor::new(&damaged), bytes.len() as u64);
                assert!(found.is_err() || found.is_ok_and(|found| found.len() <= 2));
            }
        }
    }
}
