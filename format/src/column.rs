//! Columns of integers to bytes and back.
//!
//! Every encoding works on `u64` values and is exact. *Planes* store the values
//! in the narrowest of 1, 2, 4 or 8 bytes, all lowest bytes first, then all
//! second bytes, and so on: real durations share their high bytes, so that zstd
//! finds the redundancy that row order hides.

use crate::block::compress;
use crate::constants::{MAX_COLUMN_BYTES, MAX_ROWS, encoding};

/// How a column prefers to be encoded; a column of one value is always stored
/// as a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Values without order.
    Planes,
    /// Values that grow, or change little from row to row.
    Delta,
    /// Values that repeat for many rows.
    Runs,
}

/// Encodes `values`; returns the encoding's number.
pub fn encode(values: &[u64], preference: Preference, out: &mut Vec<u8>) -> u8 {
    out.clear();
    let Some((&first, rest)) = values.split_first() else { return encoding::PLANES };
    if rest.iter().all(|&value| value == first) {
        out.extend_from_slice(&first.to_le_bytes());
        return encoding::CONSTANT;
    }
    match preference {
        Preference::Planes => {
            planes(values.iter().copied(), out);
            encoding::PLANES
        }
        Preference::Delta => {
            let mut before = 0u64;
            let deltas = values.iter().map(|&value| {
                let delta = value.wrapping_sub(before) as i64;
                before = value;
                zigzag(delta)
            });
            planes(deltas.collect::<Vec<_>>().into_iter(), out);
            encoding::DELTA
        }
        Preference::Runs => {
            let mut lengths: Vec<u64> = Vec::new();
            let mut heads: Vec<u64> = Vec::new();
            for &value in values {
                match (lengths.last_mut(), heads.last()) {
                    (Some(length), Some(&head)) if head == value => *length += 1,
                    _ => {
                        lengths.push(1);
                        heads.push(value);
                    }
                }
            }
            out.extend_from_slice(&(heads.len() as u32).to_le_bytes());
            planes(lengths.into_iter(), out);
            planes(heads.into_iter(), out);
            encoding::RUNS
        }
    }
}

/// Encodes values of which those `period` rows apart are alike, such as the times
/// of the nodes of a graph that runs again and again. `None` when there are too few
/// rows for that.
pub(crate) fn encode_periodic(values: &[u64], period: usize, out: &mut Vec<u8>) -> Option<u8> {
    if period == 0 || values.len() < 4 * period {
        return None;
    }
    let mut alike: Vec<u64> = Vec::with_capacity(values.len() / period + 1);
    let medians: Vec<u64> = (0..period)
        .map(|phase| {
            alike.clear();
            alike.extend(values.iter().skip(phase).step_by(period));
            let middle = alike.len() / 2;
            *alike.select_nth_unstable(middle).1
        })
        .collect();
    let differences: Vec<u64> = values
        .iter()
        .zip(medians.iter().cycle())
        .map(|(value, median)| zigzag(value.wrapping_sub(*median) as i64))
        .collect();
    out.clear();
    out.extend_from_slice(&(period as u32).to_le_bytes());
    planes(medians.into_iter(), out);
    planes(differences.into_iter(), out);
    Some(encoding::PERIODIC)
}

/// About how many bytes zstd makes of these.
pub(crate) fn packed(bytes: &[u8]) -> usize {
    compress(bytes, 3).map_or(bytes.len(), |packed| packed.len().min(bytes.len()))
}

/// Whether this build knows the encoding of a table's column.
pub(crate) fn is_known(encoding: u8) -> bool {
    encoding <= encoding::SIBLING
}

/// Decodes a column of `rows` values that needs nothing else; `None` when the bytes
/// are not exactly that.
pub fn decode(bytes: &[u8], encoding: u8, rows: u32) -> Option<Vec<u64>> {
    if rows > MAX_ROWS || bytes.len() > MAX_COLUMN_BYTES as usize {
        return None;
    }
    let rows = rows as usize;
    if rows == 0 {
        return bytes.is_empty().then(Vec::new);
    }
    match encoding {
        encoding::PLANES => whole(from_planes(bytes, rows)?),
        encoding::CONSTANT => Some(vec![u64::from_le_bytes(bytes.try_into().ok()?); rows]),
        encoding::DELTA => {
            let mut values = whole(from_planes(bytes, rows)?)?;
            let mut before = 0u64;
            for value in &mut values {
                before = before.wrapping_add(unzigzag(*value) as u64);
                *value = before;
            }
            Some(values)
        }
        encoding::RUNS => {
            let (runs, bytes) = bytes.split_first_chunk::<4>()?;
            let runs = u32::from_le_bytes(*runs) as usize;
            if runs > rows {
                return None;
            }
            let (lengths, bytes) = from_planes(bytes, runs)?;
            let heads = whole(from_planes(bytes, runs)?)?;
            let mut values = Vec::with_capacity(rows);
            for (&length, &head) in lengths.iter().zip(&heads) {
                let length = usize::try_from(length).ok()?;
                if length > rows - values.len() {
                    return None;
                }
                values.resize(values.len() + length, head);
            }
            (values.len() == rows).then_some(values)
        }
        encoding::PERIODIC => {
            let (period, bytes) = bytes.split_first_chunk::<4>()?;
            let period = u32::from_le_bytes(*period) as usize;
            if period == 0 || period > rows {
                return None;
            }
            let (medians, bytes) = from_planes(bytes, period)?;
            let mut values = whole(from_planes(bytes, rows)?)?;
            for (value, median) in values.iter_mut().zip(medians.iter().cycle()) {
                *value = median.wrapping_add(unzigzag(*value) as u64);
            }
            Some(values)
        }
        _ => None,
    }
}

fn whole((values, rest): (Vec<u64>, &[u8])) -> Option<Vec<u64>> {
    rest.is_empty().then_some(values)
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// A width byte, then that many planes.
pub(crate) fn planes(values: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
    let all = values.clone().fold(0, |all, value| all | value);
    let width = match all {
        0..=0xFF => 1,
        0x100..=0xFFFF => 2,
        0x1_0000..=0xFFFF_FFFF => 4,
        _ => 8,
    };
    out.push(width);
    for plane in 0..u32::from(width) {
        out.extend(values.clone().map(|value| (value >> (8 * plane)) as u8));
    }
}

/// The values, and the bytes behind them.
pub(crate) fn from_planes(bytes: &[u8], rows: usize) -> Option<(Vec<u64>, &[u8])> {
    let (&width, bytes) = bytes.split_first()?;
    if !matches!(width, 1 | 2 | 4 | 8) {
        return None;
    }
    let (body, rest) = bytes.split_at_checked(rows.checked_mul(usize::from(width))?)?;
    let mut values = vec![0u64; rows];
    if rows > 0 {
        for (plane, bytes) in body.chunks_exact(rows).enumerate() {
            for (value, &byte) in values.iter_mut().zip(bytes) {
                *value |= u64::from(byte) << (8 * plane);
            }
        }
    }
    Some((values, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(values: &[u64], preference: Preference) -> usize {
        let mut bytes = Vec::new();
        let encoding = encode(values, preference, &mut bytes);
        assert_eq!(decode(&bytes, encoding, values.len() as u32).as_deref(), Some(values));
        bytes.len()
    }

    #[test]
    fn every_encoding_is_exact() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 20
        };
        for bits in [1, 8, 9, 16, 17, 32, 33, 44] {
            let values: Vec<u64> = (0..1000).map(|_| random() & ((1 << bits) - 1)).collect();
            for preference in [Preference::Planes, Preference::Delta, Preference::Runs] {
                round_trip(&values, preference);
            }
        }
        for preference in [Preference::Planes, Preference::Delta, Preference::Runs] {
            round_trip(&[], preference);
            round_trip(&[u64::MAX], preference);
            round_trip(&[0, u64::MAX, 0, 5], preference);
        }
    }

    #[test]
    fn small_and_repeating_values_take_few_bytes() {
        assert_eq!(round_trip(&[7; 1000], Preference::Planes), 8);
        assert_eq!(round_trip(&(0..1000).map(|i| i % 200).collect::<Vec<_>>(), Preference::Planes), 1001);
        assert!(round_trip(&(0..1000).map(|i| i / 100).collect::<Vec<_>>(), Preference::Runs) < 40);
        assert_eq!(round_trip(&(0..1000).map(|i| i * 3 + 1).collect::<Vec<_>>(), Preference::Delta), 1001);
    }

    #[test]
    fn periods_are_exact_and_narrow_what_is_alike() {
        let mut state = 1u64;
        let values: Vec<u64> = (0..5000u64)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (i % 40) * 70_000 + (state >> 58)
            })
            .collect();
        let mut bytes = Vec::new();
        for period in [1, 7, 40, 1250] {
            assert_eq!(encode_periodic(&values, period, &mut bytes), Some(encoding::PERIODIC));
            assert_eq!(decode(&bytes, encoding::PERIODIC, 5000).as_deref(), Some(&values[..]));
        }
        encode_periodic(&values, 40, &mut bytes);
        assert!(bytes.len() < 5000 + 40 * 4 + 10);
        assert_eq!(encode_periodic(&values, 1251, &mut bytes), None);
        assert_eq!(decode(&[0, 0, 0, 0, 1, 1], encoding::PERIODIC, 1), None);
        assert_eq!(decode(&[2, 0, 0, 0, 1, 1, 1, 1, 1], encoding::PERIODIC, 1), None);
        let extremes = [u64::MAX, 0, 1 << 63, u64::MAX, 5, 0, 7, 1];
        encode_periodic(&extremes, 2, &mut bytes);
        assert_eq!(decode(&bytes, encoding::PERIODIC, 8).as_deref(), Some(&extremes[..]));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(decode(&[1, 0, 0], encoding::PLANES, 3), None);
        assert_eq!(decode(&[3, 0, 0, 0], encoding::PLANES, 1), None);
        assert_eq!(decode(&[0; 7], encoding::CONSTANT, 1), None);
        // Two runs that promise more rows than there are.
        assert_eq!(decode(&[2, 0, 0, 0, 1, 200, 200, 1, 0, 1], encoding::RUNS, 10), None);
        assert_eq!(decode(&[1], 77, 1), None);
    }
}
