//! Small structured parts: bincode 2, little endian, fixed-width integers.

use crate::constants::MAX_STRUCTURED_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn config() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ MAX_STRUCTURED_BYTES as usize }>,
> {
    // The limit also bounds what a hostile length prefix can make us allocate.
    bincode::config::standard().with_fixed_int_encoding().with_limit()
}

/// Encodes a value; `None` when it is larger than a column may be.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(value, config()).ok()?;
    (bytes.len() <= MAX_STRUCTURED_BYTES as usize).then_some(bytes)
}

/// Gives a value of an earlier minor version the fields that were appended since:
/// zero, empty or none, which are all zeros.
pub(crate) fn append_later_fields(bytes: &mut Vec<u8>) {
    bytes.extend([0; 256]);
}

/// Decodes a value. Bytes behind it are allowed: later minor versions append
/// fields.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    Some(bincode::serde::decode_from_slice(bytes, config()).ok()?.0)
}
