//! Changes files: most of the time inside what checksums cover, which are then made right.

use crate::file::{End, File};
use crate::random::Random;
use llmtrace_format::constants::kind;

/// A changed copy of `bytes`, at most `most` bytes long.
pub fn mutate(bytes: &[u8], random: &mut Random, most: usize) -> Vec<u8> {
    let structured = if random.one_in(8) { None } else { File::parse(bytes) };
    let mut out = match structured {
        Some(mut file) => {
            for _ in 0..=random.below(4) {
                change(&mut file, random);
            }
            file.write()
        }
        None => bytes.to_vec(),
    };
    // Now and then also what makes checksums wrong, or a file that was cut off.
    if out.as_slice() == bytes || random.one_in(16) {
        change_bytes(&mut out, random);
    }
    out.truncate(most);
    out
}

/// Changes bytes whatever they mean.
pub fn change_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0..=2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3..=4 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let value = random.odd(bytes.len() as u64).to_le_bytes();
            for (byte, value) in bytes.iter_mut().skip(at).take(width).zip(value) {
                *byte = value;
            }
        }
        5 => bytes.truncate(at),
        6 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            let again = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, again);
        }
        _ => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
    }
}

fn change(file: &mut File, random: &mut Random) {
    let count = file.blocks.len();
    let at = random.below(count);
    match random.below(16) {
        0 => {
            let at = 8 + random.below(28);
            file.header[at] ^= 1 << random.below(8);
        }
        1 => change_end(file, random),
        2 if count > 0 => {
            let block = file.blocks[at].clone();
            file.blocks.insert(random.below(count + 1), block);
        }
        3 if count > 0 => {
            file.blocks.remove(at);
        }
        4 if count > 0 => file.blocks.swap(at, random.below(count)),
        5..=7 if count > 0 => change_block(file, at, random),
        _ if count > 0 => change_column(file, at, random),
        _ => {}
    }
}

fn change_end(file: &mut File, random: &mut Random) {
    match &mut file.end {
        End::Footer(bytes) if !random.one_in(4) => change_bytes(bytes, random),
        End::Raw(bytes) if !random.one_in(4) => change_bytes(bytes, random),
        end => {
            *end = match random.below(3) {
                0 => End::Open,
                1 => End::Footer(vec![0; 8]),
                _ => End::Raw(random.odd(0).to_le_bytes().to_vec()),
            }
        }
    }
}

fn change_block(file: &mut File, at: usize, random: &mut Random) {
    let other = file.blocks.get(random.below(file.blocks.len())).cloned();
    let Some(block) = file.blocks.get_mut(at) else { return };
    match random.below(8) {
        0 => block.rows = random.odd(block.rows.into()) as u32,
        1 => block.lane = random.odd(block.lane.into()) as u32,
        2 => block.begin = random.odd(block.begin),
        3 => block.end = random.odd(block.end),
        4 => block.version = random.odd(1) as u16,
        5 => block.kind = other.map_or(kind::OP_SPANS, |other| other.kind),
        6 if !block.columns.is_empty() => {
            block.columns.remove(random.below(block.columns.len()));
        }
        _ => block.columns.extend(other.into_iter().flat_map(|other| other.columns)),
    }
    block.columns.truncate(80);
}

fn change_column(file: &mut File, at: usize, random: &mut Random) {
    let other = file.blocks.get(random.below(file.blocks.len()));
    let other = other.and_then(|block| random.pick(&block.columns)).cloned();
    let Some(block) = file.blocks.get_mut(at) else { return };
    let index = random.below(block.columns.len());
    let rows = block.rows;
    let Some(column) = block.columns.get_mut(index) else { return };
    match random.below(16) {
        0 => column.id = random.odd(column.id.into()) as u16,
        1 => column.encoding = random.below(8) as u8,
        2 => column.compression = random.below(3) as u8,
        3 => column.stored = Some((column.raw.clone(), random.odd(column.raw.len() as u64) as u32)),
        4 => {
            if let Some(other) = other {
                *column = other;
            }
        }
        5 => {
            column.encoding = 1;
            column.raw = random.odd(rows.into()).to_le_bytes().to_vec();
        }
        6..=8 => {
            // Where counts and widths are.
            let mut head = column.raw.get(..24.min(column.raw.len())).unwrap_or_default().to_vec();
            let rest = column.raw.split_off(head.len());
            change_bytes(&mut head, random);
            column.raw = [head, rest].concat();
        }
        _ => change_bytes(&mut column.raw, random),
    }
}
