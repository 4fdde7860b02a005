//! Tests over real llama.cpp libraries, where some are at hand.
//!
//! `LLMTRACE_TEST_BINARIES` lists them, separated by colons. Print what is found with
//! `cargo test real_binaries -- --nocapture`.

use std::fs::File;
use std::path::Path;

use super::{Arg, BinaryError, FileImage, Located, Object, learn, probe_site, return_site};

const TWO: &[Arg] = &[Arg::Rdi, Arg::Rsi];
const THREE: &[Arg] = &[Arg::Rdi, Arg::Rsi, Arg::Rdx];

/// Symbol prefixes and what their probes read.
const PROBES: &[(&str, &[Arg])] = &[
    ("ggml_cpu_extra_compute_forward", TWO),
    ("ggml_compute_forward_rms_norm_mul_fused", THREE),
    ("ggml_barrier", &[Arg::Rdi]),
    ("ggml_graph_compute", TWO),
    ("llama_decode", &[Arg::Rdi]),
    ("_ZN13llama_context6decodeE", TWO),
    ("_ZN13llama_context6encodeE", TWO),
    ("_ZN13llama_context14process_ubatchE", THREE),
];

/// C names are complete; C++ names end with their parameters, which differ between versions.
fn probed(name: &str) -> Option<&'static [Arg]> {
    let fits = |wanted: &str| name == wanted || wanted.ends_with('E') && name.starts_with(wanted);
    PROBES.iter().find(|(wanted, _)| fits(wanted)).map(|&(_, args)| args)
}

fn open(path: &Path) -> Result<Object, BinaryError> {
    let wanted = |name: &str| probed(name).is_some() || name.starts_with("ggml_") || name == "llama_version";
    Object::open(File::open(path)?, &wanted)
}

fn check(path: &Path) -> Result<(), BinaryError> {
    let started = std::time::Instant::now();
    let object = open(path)?;
    println!("{}: parsed in {:?}", path.display(), started.elapsed());
    println!("  build id {:?}, stripped {}", object.build_id(), object.stripped());
    let mut symbols: Vec<_> = object.symbols_matching_unsorted(|n| probed(n).is_some()).collect();
    symbols.sort_unstable_by_key(|&(name, _)| name);
    for (name, symbol) in symbols {
        let code = object.code(symbol).unwrap_or_default();
        assert!(!code.is_empty(), "{name} has no code");
        let site = probe_site(&code, symbol.vaddr, probed(name).unwrap_or_default());
        let on_return = return_site(&code, symbol.vaddr);
        println!("  {name}: {site:?}\n    return: {on_return:?}");
        assert!(site.emulated, "{name} would be single-stepped");
        assert!(!on_return.stack_moved);
    }
    if object.symbol("ggml_op_name").is_none() {
        return Ok(());
    }
    let find = |name: &str| {
        let symbol = object.symbol(name)?;
        Some(Located { code: object.code(symbol)?, vaddr_runtime: symbol.vaddr })
    };
    let started = std::time::Instant::now();
    let learned = learn(&find, &FileImage::new(&object))?;
    println!("  learned in {:?}: {learned:?}", started.elapsed());
    assert!(learned.ops.len() > 80);
    assert!(learned.unary.iter().any(|name| name == "SILU"));
    assert!(learned.types.iter().any(|info| info.name == "q4_K" && info.type_size == 144));
    assert_eq!(learned.assumed, [""; 0]);
    Ok(())
}

#[test]
fn sites_and_tables_of_real_binaries() -> Result<(), BinaryError> {
    let Ok(list) = std::env::var("LLMTRACE_TEST_BINARIES") else {
        println!("skipped: LLMTRACE_TEST_BINARIES is not set");
        return Ok(());
    };
    list.split(':').filter(|path| !path.is_empty()).try_for_each(|path| check(Path::new(path)))
}
