//! Two ways to attach a program to a file of one process.
//!
//! `uprobe_multi` attaches to many places by one link, and is cheaper at each hit.
//! Kernels before 6.6 do not know it, and up to 6.9 many match only one thread of
//! the process. There, and when `LLMTRACE_UPROBES=single` says so, each place gets
//! a perf event of its own, which takes `CAP_SYS_ADMIN`.

use super::plan::Point;
use super::{host, privileges};
use anyhow::{Context as _, Result, anyhow, bail};
use caps::Capability;
use libbpf_rs::{Link, OpenObject, PrintLevel, ProgramAttachType, ProgramMut, UprobeMultiOpts, UprobeOpts};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::mpsc;

/// How programs are loaded and attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `uprobe_multi`.
    Multi,
    /// A perf event for each place.
    Single,
}

impl Way {
    /// Name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Multi => "uprobe_multi",
            Self::Single => "single uprobes",
        }
    }

    /// Makes an object's programs fit, before it is loaded: they are declared for
    /// `uprobe_multi`, and the kernel refuses to attach such a one otherwise.
    pub(super) fn prepare(self, object: &mut OpenObject) {
        if self == Self::Single {
            for mut program in object.progs_mut() {
                let section = program.section().to_string_lossy().into_owned();
                if section.starts_with("uprobe.multi") || section.starts_with("uretprobe.multi") {
                    // 0, for programs that are attached by perf events.
                    program.set_attach_type(ProgramAttachType::CgroupInetIngress);
                }
            }
        }
    }

    /// Attaches a program to points of one file, in one process; `cookie` is told to
    /// it together with that of the point.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn attach(
        self,
        program: &ProgramMut<'_>,
        pid: u32,
        file: &Path,
        points: &[&Point],
        cookie: u64,
        on_return: bool,
    ) -> libbpf_rs::Result<Vec<Link>> {
        if self == Self::Multi {
            let options = UprobeMultiOpts {
                offsets: points.iter().map(|point| point.file_offset as usize).collect(),
                cookies: points.iter().map(|point| point.cookie | cookie).collect(),
                retprobe: on_return,
                ..UprobeMultiOpts::default()
            };
            return Ok(vec![program.attach_uprobe_multi_with_opts(pid as i32, file, "", options)?]);
        }
        let single = |point: &&Point| {
            let options =
                UprobeOpts { cookie: point.cookie | cookie, retprobe: on_return, ..UprobeOpts::default() };
            program.attach_uprobe_with_opts(pid as i32, file, point.file_offset as usize, options)
        };
        points.iter().map(single).collect()
    }
}

/// Loads by the first way that this kernel knows. `nothing` gives a loaded
/// program that is declared for `uprobe_multi`, to find out with.
///
/// # Errors
/// When the kernel loads the programs in neither way, with a guess why.
pub(super) fn load<T>(
    mut load: impl FnMut(Way) -> Result<T>,
    nothing: impl Fn(&T) -> &ProgramMut<'static>,
) -> Result<(Way, T)> {
    quiet_libbpf();
    if std::env::var_os("LLMTRACE_UPROBES").is_none_or(|ways| ways != "single") {
        match load(Way::Multi) {
            Ok(loaded) if knows_multi(nothing(&loaded))? => return Ok((Way::Multi, loaded)),
            Ok(_) => log::debug!("this kernel does not know uprobe_multi, or not for processes"),
            Err(error) => log::debug!("the programs do not load for uprobe_multi: {error:#}"),
        }
    }
    let loaded =
        load(Way::Single).map_err(|error| anyhow!("{error:#}; {}", host::why_refused().join("; ")))?;
    if !privileges::has(Capability::CAP_SYS_ADMIN) {
        bail!(
            "probes are attached one by one on this kernel, which takes root or CAP_SYS_ADMIN: {}",
            privileges::SUDO
        );
    }
    Ok((Way::Single, loaded))
}

/// Whether the kernel knows `uprobe_multi`, and takes a number for that of a
/// process. One that takes it for that of a thread attaches to the second thread
/// of ours; to others, that is no process.
fn knows_multi(program: &ProgramMut<'_>) -> Result<bool> {
    // A file that nobody runs: nothing is changed anywhere.
    let file = memfd_create("llmtrace", MFdFlags::MFD_CLOEXEC).context("cannot create a file in memory")?;
    nix::unistd::write(&file, &[0x90; 64]).context("cannot write to a file in memory")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let attaches = |pid| {
        let options = UprobeMultiOpts { offsets: vec![0], ..UprobeMultiOpts::default() };
        program.attach_uprobe_multi_with_opts(pid, &path, "", options).is_ok()
    };
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Nobody listens when we are not to go on.
            let _ = tell.send(nix::unistd::gettid().as_raw());
            let _ = ended.recv();
        });
        let thread = told.recv().context("a thread of ours ended")?;
        let knows = attaches(std::process::id() as i32) && !attaches(thread);
        drop(end);
        Ok(knows)
    })
}

/// What libbpf has to say comes with errors, too.
fn quiet_libbpf() {
    libbpf_rs::set_print(Some((PrintLevel::Info, |_, text| log::debug!("{}", text.trim_end()))));
}
