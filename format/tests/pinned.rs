//! Numbers that may never change, and a file that must always open.

use llmtrace_format::constants::*;

#[test]
fn constants_keep_their_values() {
    assert_eq!((&MAGIC, &END_MAGIC), (b"LLMTRACE", b"LLMTREND"));
    assert_eq!((VERSION_MAJOR, VERSION_MINOR), (1, 0));
    assert_eq!((HEADER_LEN, TRAILER_LEN, BLOCK_HEADER_LEN, DIRECTORY_ENTRY_LEN), (40, 24, 48, 16));
    assert_eq!(&BLOCK_MARKER, b"\xABBLK");
    let kinds = [
        (kind::RECORDING, 1),
        (kind::STRINGS, 2),
        (kind::GRAPH, 3),
        (kind::ENDING, 4),
        (kind::THREADS, 8),
        (kind::DECODES, 16),
        (kind::UBATCHES, 17),
        (kind::GRAPH_SPANS, 18),
        (kind::OP_SPANS, 19),
        (kind::LOSSES, 32),
        (kind::FOOTER, 0xFFFF),
    ];
    assert!(kinds.iter().all(|(constant, value)| constant == value));
    assert_eq!((encoding::PLANES, encoding::CONSTANT, encoding::DELTA, encoding::RUNS), (0, 1, 2, 3));
    assert_eq!((encoding::STRUCTURED, compression::NONE, compression::ZSTD), (255, 0, 1));
}
