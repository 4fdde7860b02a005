//! Strangers' bytes through the readers of the recorder, some seconds of it; `make fuzz` does it
//! for hours. Binaries are beside their code (`src/binary/fuzzing.rs`).

use llmtrace_analysis::format::Source;
use llmtrace_analysis::{Trace, export};
use llmtrace_cli::fuzzing;
use llmtrace_testing::{rounds, samples};

#[test]
fn chrome_json_is_imported_or_refused() {
    let mut seeds = vec![
        br#"[{"ph":"X","name":"MUL_MAT","cat":"op","ts":1.5,"dur":2,"pid":1,"tid":2,"args":{"wait_us":1}}]"#.to_vec(),
        br#"{"traceEvents":[{"ph":"B","name":"decode","ts":-1e300,"pid":1,"tid":1},{"ph":"E","ts":1e300,"pid":1,"tid":1}]}"#.to_vec(),
        br#"[{"ph":"X","name":"ADD","ts":0,"dur":9223372036854775807,"tid":1},{"ph":"X","name":"ADD","ts":9e18,"dur":9e18,"tid":1}]"#.to_vec(),
    ];
    for bytes in samples::seeds(1).unwrap().into_iter().take(4) {
        let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
        seeds.push(export::chrome(&trace, trace.range(), Vec::new(), &mut |_| true).unwrap().0);
    }
    rounds::run("chrome-json", fuzzing::chrome_json, &seeds, 400, 21);
}

#[cfg(target_os = "linux")]
#[test]
fn kernel_records_become_rows_whatever_they_say() {
    use llmtrace_testing::Random;
    let mut random = Random::new(22);
    let seeds: Vec<Vec<u8>> = (0..40)
        .map(|_| {
            let mut records = Vec::new();
            for _ in 0..200 {
                records.push(if random.one_in(12) { random.u64() as u8 } else { 0xf0 });
                records.extend(random.u64().to_le_bytes());
                // Kinds 1 to 10 are the graph's, and the commonest.
                let kind = if random.one_in(3) { random.u64() % 48 } else { 1 + random.u64() % 10 };
                records.extend(((random.u64() % 4) | (kind << 32)).to_le_bytes());
                records.extend((random.u64() % 16).to_le_bytes());
                records.extend(((random.u64() % 5) | ((random.u64() % 3) << 32)).to_le_bytes());
            }
            records
        })
        .collect();
    rounds::run("kernel-records", fuzzing::kernel_records, &seeds, 2000, 23);
}

#[cfg(target_os = "linux")]
#[test]
fn mappings_and_headers_of_models_are_read_or_refused() {
    let maps = std::fs::read("/proc/self/maps").unwrap();
    rounds::run("mappings", fuzzing::mappings, &[maps], 500, 24);
    let mut model = b"GGUF\x03\0\0\0".to_vec();
    for word in [1u64, 1, 17] {
        model.extend(word.to_le_bytes());
    }
    model.extend(b"general.alignment\x04\0\0\0\x20\0\0\0");
    model.extend(5u64.to_le_bytes());
    model.extend(b"x.abc\x01\0\0\0");
    for word in [7u64, 1 << 32, 9] {
        model.extend(word.to_le_bytes());
    }
    rounds::run("model-header", fuzzing::model_header, &[model], 3000, 25);
}
