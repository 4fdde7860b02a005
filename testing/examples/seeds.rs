//! Writes what fuzzing begins with: `cargo run -p llmtrace-testing --example seeds -- FOLDER`.
#![expect(clippy::unwrap_used, reason = "it is a tool, and stops where it cannot go on")]

use llmtrace_analysis::format::Source;
use llmtrace_analysis::{Trace, export};
use llmtrace_testing::samples;
use std::path::Path;

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".into());
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    for (index, bytes) in samples::seeds(1).unwrap().iter().enumerate() {
        for target in ["open", "tables", "answers"] {
            put(target, &format!("seed-{index}"), bytes);
        }
        let trace = Trace::open(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
        let json = export::chrome(&trace, trace.range(), Vec::new(), &mut |_| true).unwrap().0;
        put("chrome_json", &format!("seed-{index}"), &json);
    }
    for encoding in 0..7u8 {
        put("columns", &format!("seed-{encoding}"), &[encoding, 4, 0, 1, 0, 0, 0, 1, 4, 1, 9]);
    }
    if let Ok(maps) = std::fs::read("/proc/self/maps") {
        put("mappings", "seed-0", &maps);
    }
    let session =
        br#"{"notes":[{"time":5,"text":"a"}],"pinned":["thread 1"],"color":"layer","metric":"busy"}"#;
    put("session", "seed-0", session);
    let record = [[0xf0; 1].as_slice(), &[1; 32]].concat();
    put("kernel_records", "seed-0", &record.repeat(20));
    put("model_header", "seed-0", b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}
