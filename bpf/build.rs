//! Compiles the BPF programs and generates their skeleton.
//!
//! Needs clang; other systems than Linux get an empty crate.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::PathBuf;

const SOURCE: &str = "src/bpf/llmtrace.bpf.c";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=src/bpf");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("llmtrace.skel.rs");
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang_args(["-Wall", "-Werror", "-mcpu=v3"])
        .build_and_generate(&out)
        .map_err(|error| {
            format!("cannot compile {SOURCE}: {error:?}\nIs clang installed? `make setup` installs it.")
                .into()
        })
}
