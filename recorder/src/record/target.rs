//! The process to record: a running one, or one that we start.

use super::{plan, privileges};
use crate::binary::Object;
use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who called sudo; root itself when nobody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}

impl Caller {
    pub(super) fn from_env() -> Self {
        let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        match (Uid::effective().is_root(), id("SUDO_UID"), id("SUDO_GID")) {
            (true, Some(uid), Some(gid)) => Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) },
            _ => Self { uid: Uid::effective(), gid: Gid::effective() },
        }
    }

    /// Whether it is somebody else than who we run as.
    pub(super) fn is_other(self) -> bool {
        self.uid != Uid::effective()
    }
}

/// The process being recorded.
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) launched: bool,
}

/// How a launched target ended: the exit code to pass on.
pub(super) type ExitCode = i32;

impl Target {
    /// A process that runs already.
    pub(super) fn running(pid: u32) -> Result<Self> {
        let Ok(status) = read_lossy(format!("/proc/{pid}/status")) else { return Err(no_process(pid)) };
        if field(&status, "State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
            bail!("process {pid} has exited already and waits for its parent");
        }
        // A thread's id leads to /proc/TID, too; the group's leader is meant.
        let leader = field(&status, "Tgid:").and_then(|leader| leader.parse().ok()).unwrap_or(pid);
        if leader == std::process::id() {
            bail!("process {pid} is llmtrace itself: name another process");
        }
        if is_kernel_thread(leader) {
            bail!("process {pid} is a thread of the kernel and runs no program: name another process");
        }
        if let Some(other) = File::open(format!("/proc/{leader}/exe")).ok().and_then(foreign_code) {
            bail!("process {pid} runs {other}; recording needs an x86-64 program");
        }
        Ok(Self { pid: leader, launched: false })
    }

    /// All processes of this name; at least one.
    pub(super) fn named(name: &str) -> Result<Vec<Self>> {
        let ours = std::process::id();
        let named = pids().into_iter().filter(|&pid| pid != ours && is_named(pid, name));
        // Some may be no programs that can be recorded, or may just have ended.
        let (found, others): (Vec<_>, Vec<_>) = named.map(Self::running).partition(Result::is_ok);
        let found: Vec<Self> = found.into_iter().flatten().collect();
        if found.is_empty() {
            let other = others.into_iter().find_map(Result::err);
            return Err(other.unwrap_or_else(|| anyhow!("no process is named `{name}`")));
        }
        Ok(found)
    }

    /// Starts a command, stopped just before it runs, as the caller of sudo.
    pub(super) fn launch(command: &[OsString], caller: Caller) -> Result<Self> {
        let Some((program, arguments)) = command.split_first() else { bail!("no command given") };
        let path = which::which(program).ok();
        let Some(path) = path else { bail!("command not found: {}", program.to_string_lossy()) };
        if let Some(other) = File::open(&path).ok().and_then(foreign_code) {
            bail!("the command is {other}; recording needs an x86-64 program: {}", path.display());
        }
        let ourselves = std::env::current_exe().context("cannot find our own executable")?;
        let mut launcher = Command::new(ourselves);
        launcher.arg("launch");
        if caller.is_other() {
            launcher.arg("--user").arg(caller.uid.to_string());
            launcher.arg("--group").arg(caller.gid.to_string());
        }
        restore_environment(&mut launcher);
        let child = launcher.arg("--").arg(path).args(arguments).spawn().context("cannot start a process")?;
        let target = Self { pid: child.id(), launched: true };
        match waitpid(target.nix_pid(), Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => Ok(target),
            other => bail!("the command did not start: {other:?}"),
        }
    }

    /// Lets a launched target run.
    pub(super) fn go(&self) -> Result<()> {
        kill(self.nix_pid(), Signal::SIGCONT).context("cannot let the command run")
    }

    /// Passes a signal on.
    pub(super) fn signal(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            // It may just have exited; then nobody needs the signal.
            let _ = kill(self.nix_pid(), signal);
        }
    }

    /// Ends a launched target that must not run, because set-up failed.
    pub(super) fn abandon(&self) {
        if self.launched {
            let _ = kill(self.nix_pid(), Signal::SIGKILL);
            let _ = waitpid(self.nix_pid(), None);
        }
    }

    /// Whether a process runs, and is not one that waits to be forgotten.
    pub(super) fn is_alive(pid: u32) -> bool {
        read_lossy(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X'))
        })
    }

    /// `Some` once the target is gone, with its exit code when we launched it.
    pub(super) fn exited(&self) -> Option<Option<ExitCode>> {
        if !self.launched {
            return (!Self::is_alive(self.pid)).then_some(None);
        }
        match waitpid(self.nix_pid(), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(Some(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Some(128 + signal as i32)),
            Err(_) => Some(None),
            Ok(_) => None,
        }
    }

    /// Waits for a launched target after the recording has ended; `meanwhile` is
    /// called often.
    pub(super) fn wait(&self, mut meanwhile: impl FnMut()) -> Option<ExitCode> {
        loop {
            meanwhile();
            if let Some(code) = self.exited() {
                return code;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Base name of the executable.
    pub(super) fn exe_name(&self) -> String {
        let exe = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.pid as i32)
    }
}

/// A file whose text the process chooses, such as its name, need not be UTF-8.
fn read_lossy(path: String) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// The value of a line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// There is no process of that number here; perhaps there is in a container.
fn no_process(pid: u32) -> anyhow::Error {
    let statuses =
        pids().into_iter().filter_map(|host| Some((host, read_lossy(format!("/proc/{host}/status")).ok()?)));
    let inside: Vec<String> = statuses
        .filter(|(_, status)| innermost_pid(status) == Some(pid))
        .map(|(host, status)| format!("{host} ({})", field(&status, "Name:").unwrap_or_default()))
        .collect();
    if inside.is_empty() {
        return anyhow!("no such process: {pid}");
    }
    anyhow!(
        "no such process: {pid}; in a container it is the number of a process that the host knows by another: \
         choose one with -p: {}",
        inside.join(", ")
    )
}

/// The number by which a process knows itself, when it is in a container.
fn innermost_pid(status: &str) -> Option<u32> {
    let numbers: Vec<&str> = field(status, "NSpid:")?.split_whitespace().collect();
    match numbers[..] {
        [_, .., inner] => inner.parse().ok(),
        _ => None,
    }
}

/// All processes that we see.
fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn is_kernel_thread(pid: u32) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let stat = read_lossy(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces and parentheses; after it comes the state, and the flags are seventh.
    let flags = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(6)?.parse().ok());
    flags.is_some_and(|flags: u64| flags & PF_KTHREAD != 0)
}

/// What an executable is, if its code is not what we can probe.
fn foreign_code(mut file: File) -> Option<&'static str> {
    let mut header = [0; 20];
    file.read_exact(&mut header).ok()?;
    foreign_header(&header)
}

fn foreign_header(header: &[u8; 20]) -> Option<&'static str> {
    const X86_64: u8 = 62;
    match *header {
        [0x7f, b'E', b'L', b'F', 1, ..] => Some("a 32-bit program"),
        [0x7f, b'E', b'L', b'F', 2, .., low, high] if (low, high) != (X86_64, 0) => {
            Some("a program for another machine")
        }
        _ => None,
    }
}

/// The C library removes `LD_LIBRARY_PATH` and more from the environment of a
/// program that has capabilities by its file: from ours, and again from that of
/// the launcher. The command has none and gets back what it was meant to have.
fn restore_environment(command: &mut Command) {
    if Uid::effective().is_root() {
        return;
    }
    const ENVIRONMENT: &str = "/proc/self/environ";
    // The file of such a program may belong to root, as long as it is not dumpable.
    let environment = fs::read(ENVIRONMENT).or_else(|_| {
        prctl::set_dumpable(true)?;
        let environment = fs::read(ENVIRONMENT);
        prctl::set_dumpable(false)?;
        environment
    });
    let environment = environment.unwrap_or_default();
    for variable in environment.split(|byte| *byte == 0) {
        if let Some(at) = variable.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) {
            let (name, value) = variable.split_at(at);
            command
                .env(OsStr::from_bytes(name), OsStr::from_bytes(value.strip_prefix(b"=").unwrap_or(value)));
        }
    }
}

/// Why a process gives nothing to record.
pub(super) fn no_ggml(target: &Target, seen: usize, refused: Option<String>) -> anyhow::Error {
    let (pid, name) = (target.pid, target.exe_name());
    if let Some(refused) = refused {
        return anyhow!("no ggml was found in process {pid} ({name}): {refused}");
    }
    let exe = File::open(format!("/proc/{pid}/exe")).ok();
    let stripped = exe.and_then(|exe| Object::open(exe, &plan::keep).ok()).is_some_and(|exe| exe.stripped());
    let hint = if stripped { " Its executable is stripped: a ggml inside it cannot be found." } else { "" };
    anyhow!(
        "process {pid} ({name}) has no ggml: none of its {seen} mapped files defines {}.{hint} \
         If it loads its library later, add --wait, or record it from the start with `llmtrace record -- COMMAND`",
        plan::LOOKED_FOR,
    )
}

fn is_named(pid: u32, name: &str) -> bool {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = name.as_bytes();
    // The kernel keeps 15 bytes of a name.
    comm.strip_suffix(b"\n") == Some(name.get(..15).unwrap_or(name))
        || exe.file_name().is_some_and(|base| base.as_bytes() == name)
}

/// The hidden `launch` command: becomes the command, as the given user, once
/// the recorder says go. Returns only when it cannot.
pub(crate) fn launch(user: Option<u32>, group: Option<u32>, command: &[OsString]) -> anyhow::Error {
    match become_command(user, group, command) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn become_command(
    user: Option<u32>,
    group: Option<u32>,
    command: &[OsString],
) -> Result<std::convert::Infallible> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command given") };
    let mut next = Command::new(program);
    next.args(arguments);
    restore_environment(&mut next);
    if let (Some(uid), Some(gid)) = (user.map(Uid::from_raw), group.map(Gid::from_raw)) {
        if let Some(account) = User::from_uid(uid).ok().flatten() {
            next.env("HOME", &account.dir).env("USER", &account.name).env("LOGNAME", &account.name);
        }
        // With all of the user's groups: GPUs are often open to `render` only.
        privileges::become_user(uid, gid)?;
    }
    privileges::leave_to_command()?;
    // The recorder waits for this stop, attaches, and continues us. If it is killed before, the kernel does.
    nix::sys::prctl::set_pdeathsig(Signal::SIGCONT)?;
    nix::sys::signal::raise(Signal::SIGSTOP)?;
    nix::sys::prctl::set_pdeathsig(None)?;
    use std::os::unix::process::CommandExt as _;
    Err(anyhow::Error::new(next.exec()).context(format!("cannot run {}", Path::new(program).display())))
}

/// Longest part of a default file name that the target's name gives, in bytes.
const MAX_NAME: usize = 64;

/// A file name for a recording of `name` begun now, which no file has yet. The
/// target chooses its name; the file's stays a plain one in this folder.
pub(super) fn default_output(name: &str) -> PathBuf {
    let stem = format!("{}-{}", plain_name(name), jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S"));
    let numbered = (2..).map(|number| PathBuf::from(format!("{stem}-{number}.llmtrace")));
    let mut paths = std::iter::once(PathBuf::from(format!("{stem}.llmtrace"))).chain(numbered);
    paths.find(|path| path.symlink_metadata().is_err()).unwrap_or_default()
}

/// Letters, digits and `-_.`, neither hidden nor like an option, of bounded length.
fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let mut text: String = name.trim_start_matches(['-', '.']).chars().map(plain).collect();
    text.truncate(text.floor_char_boundary(MAX_NAME));
    if text.is_empty() { "recording".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_are_plain_whatever_the_target_is_called() {
        assert_eq!(plain_name("llama-server"), "llama-server");
        assert_eq!(plain_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(plain_name("-rf *"), "rf__");
        assert_eq!(plain_name("..."), "recording");
        assert_eq!(plain_name("a\n\x1b[31m\u{202e}b"), "a___31m_b");
        assert_eq!(plain_name(&"ä".repeat(300)), "ä".repeat(32));
        let path = default_output(&"x/".repeat(400));
        assert!(path.components().count() == 1 && path.as_os_str().len() < 255, "{path:?}");
    }

    #[test]
    fn only_processes_in_containers_have_an_inner_number() {
        assert_eq!(innermost_pid("Name:\tx\nNSpid:\t4711\t12\t1\nThreads:\t1"), Some(1));
        assert_eq!(innermost_pid("NSpid:\t4711"), None);
        assert_eq!(innermost_pid(""), None);
    }

    #[test]
    fn foreign_code_is_told_by_its_header() {
        let header = |class: u8, machine: u8| {
            let mut header = [0; 20];
            header[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
            header[18] = machine;
            foreign_header(&header)
        };
        assert_eq!(header(2, 62), None);
        assert_eq!(header(1, 3), Some("a 32-bit program"));
        assert_eq!(header(1, 62), Some("a 32-bit program"), "x32");
        assert_eq!(header(2, 183), Some("a program for another machine"));
        assert_eq!(foreign_header(b"#!/bin/sh\necho hello"), None);
    }
}
