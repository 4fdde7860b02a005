//! `make bench-record`: what recording costs the target and the host, against our goals.
//!
//! Needs Linux, root, BTF, and what `sample-traces/tools/setup-python.sh` prepares. Every
//! comparison is one of interleaved pairs on one running process; every figure that was
//! measured more than once is a median with a 95 % confidence interval by bootstrap.
//! docs/performance.md says what each row means.
//!
//! The recorder is used through its command line only. Exit code: 0 when every row was
//! measured, whether or not its goal was met; 1 when one could not be.

#[cfg(target_os = "linux")]
mod attach;
#[cfg(target_os = "linux")]
mod decode;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod hammer;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod price;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod recorder;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod sources;
#[cfg(target_os = "linux")]
mod statistics;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod target;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED bench-record: recording is for Linux");
}
