//! Compiles the BPF programs and generates their skeleton.
//!
//! Needs clang; other systems than Linux get an empty crate.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::PathBuf;

const SOURCE: &str = "src/bpf/llmtrace.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed=src/bpf");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("llmtrace.skel.rs");
    let built =
        SkeletonBuilder::new().source(SOURCE).clang_args(["-Wall", "-Werror"]).build_and_generate(&out);
    if let Err(error) = built {
        panic!("cannot compile {SOURCE}: {error:?}\nIs clang installed? `make setup` installs it.");
    }
}
