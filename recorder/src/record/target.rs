//! The process to record: a running one, or one that we start.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User};
use std::ffi::OsString;
use std::fs;
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
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        let Ok(status) = status else { bail!("no such process: {pid}") };
        if status.lines().any(|line| line.starts_with("State:") && line.contains('Z')) {
            bail!("process {pid} has exited already and waits for its parent");
        }
        // A thread's id leads to /proc/TID, too; the group's leader is meant.
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
        Ok(Self { pid: leader.unwrap_or(pid), launched: false })
    }

    /// All processes of this name; at least one.
    pub(super) fn named(name: &str) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot list processes in /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if pid != std::process::id() && is_named(pid, name) {
                found.push(pid);
            }
        }
        if found.is_empty() {
            bail!("no process is named `{name}`");
        }
        found.sort_unstable();
        found.into_iter().map(Self::running).collect()
    }

    /// Starts a command, stopped just before it runs, as the caller of sudo.
    pub(super) fn launch(command: &[OsString], caller: Caller) -> Result<Self> {
        let Some((program, arguments)) = command.split_first() else { bail!("no command given") };
        let path = which::which(program).ok();
        let Some(path) = path else { bail!("command not found: {}", program.to_string_lossy()) };
        let ourselves = std::env::current_exe().context("cannot find our own executable")?;
        let mut launcher = Command::new(ourselves);
        launcher.arg("launch");
        if caller.is_other() {
            launcher.arg("--user").arg(caller.uid.to_string());
            launcher.arg("--group").arg(caller.gid.to_string());
        }
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
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
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

fn is_named(pid: u32, name: &str) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    // The kernel keeps 15 bytes of a name.
    comm.trim_end() == name.get(..15).unwrap_or(name) || exe.file_name().is_some_and(|base| base == name)
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
    if let (Some(uid), Some(gid)) = (user.map(Uid::from_raw), group.map(Gid::from_raw)) {
        let account = User::from_uid(uid).ok().flatten();
        if let Some(account) = &account {
            // All of the user's groups: GPUs are often open to `render` only.
            let name = std::ffi::CString::new(account.name.as_bytes())?;
            nix::unistd::initgroups(&name, gid).context("cannot take the user's groups")?;
            next.env("HOME", &account.dir).env("USER", &account.name).env("LOGNAME", &account.name);
        } else {
            nix::unistd::setgroups(&[gid]).context("cannot leave root's groups")?;
        }
        nix::unistd::setgid(gid).context("cannot become the user's group")?;
        nix::unistd::setuid(uid).context("cannot become the user")?;
    }
    // The recorder waits for this stop, attaches, and continues us.
    nix::sys::signal::raise(Signal::SIGSTOP)?;
    use std::os::unix::process::CommandExt as _;
    Err(anyhow::Error::new(next.exec()).context(format!("cannot run {}", Path::new(program).display())))
}

/// A file name for a recording of `name` begun now.
pub(super) fn default_output(name: &str) -> PathBuf {
    let now = jiff::ZonedDateTime::now();
    let name: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .collect();
    PathBuf::from(format!("{name}-{}.llmtrace", now.strftime("%Y%m%d-%H%M%S")))
}
