//! Processes in pid and mount namespaces of their own.

use crate::elsewhere::{Elsewhere, NOBODY, THREE, as_nobody};
use crate::errors::error;
use crate::invariants::check_whole;
use crate::workload::{self, Engine, Run, open, record_some, recorder};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn process_in_a_container_is_recorded_by_its_host_pid_and_by_name() {
    let (run, engines) = (Run::new(), Run::new());
    let mut there = Elsewhere::new(engines.folder());
    // A name that no other engine on this machine has; the kernel keeps 15 bytes.
    let name = format!("boxed-{}", std::process::id());
    let link = engines.folder().join(&name);
    symlink(&there.engine[0], &link).unwrap();
    there.engine[0] = link.to_str().unwrap().to_owned();
    let mut command = there.command(&["--pid", "--fork", "--mount-proc", "--kill-child"]);
    let engine = Engine::start_as(command.args(there.generate(1, 16)));
    // Its libraries lie where the host has nothing.
    assert!(fs::read_dir(engines.folder().join("packages")).unwrap().next().is_none());
    let pid = child_of(engine.pid()).unwrap();
    record_some(&run, &mut recorder(&run, &["-q", "-p", &pid.to_string()]));
    check_whole(&open(&run), 1);
    let named = Run::new();
    record_some(&named, &mut recorder(&named, &["-q", "-n", &name]));
    let trace = open(&named);
    assert_eq!(trace.file.recording.as_ref().unwrap().target.pid, pid);
    assert!(trace.op_span_count() > 1000);
}

#[test]
#[ignore = "needs root"]
fn number_that_only_a_container_knows_leads_to_the_hosts() {
    let run = Run::new();
    let last: u32 = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    let inner = last - 10;
    // The next process there gets this number.
    let script = format!("echo {} > /proc/sys/kernel/ns_last_pid; sleep 60 & wait", inner - 1);
    let mut container = Command::new("unshare");
    container.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script]);
    let mut container = container.spawn().unwrap();
    let sleeper = || child_of(child_of(container.id())?);
    workload::wait_until("it sleeps", || sleeper().is_some());
    let host = sleeper().unwrap();
    let text = error(&mut recorder(&run, &["-p", &inner.to_string()]));
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(text.contains(&format!("no such process: {inner}; in a container")), "{text}");
    assert!(text.contains(&format!("choose one with -p: {host} (s")), "{text}");
}

/// Mounts what an engine needs under its folder, beside what lies there, and
/// becomes the command with that folder as the root directory.
const CHROOT: &str = r#"root=$1; id=$2; shift 2
mkdir "$root/usr" "$root/proc" "$root/dev" "$root/tmp"
chmod 1777 "$root/tmp"
for name in bin lib lib64; do ln -s usr/$name "$root/$name"; done
mount --bind /usr "$root/usr"; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
exec chroot --userspec="$id:$id" --groups="$id" "$root" "$@""#;

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn libraries_are_found_below_another_root_directory() {
    let (run, engines) = (Run::new(), Run::new());
    run.open_to_everybody();
    engines.open_to_everybody();
    let (there, jail) = (Elsewhere::new(run.folder()), Elsewhere::new(engines.folder()));
    let root = engines.folder().to_str().unwrap();
    let within = |path: &str| path.strip_prefix(root).unwrap().to_owned();
    let mut command = jail.command(&[]);
    command.args(["sh", "-euc", CHROOT, "sh", root, &NOBODY.to_string()]);
    command.args(
        jail.generate(1, 16).iter().map(|it| if it.starts_with('/') { within(it) } else { it.clone() }),
    );
    command.env("PYTHONPATH", "/packages");
    let engine = Engine::start_as(&mut command);
    let pid = engine.pid().to_string();
    // Root has the kernel open what is mapped; nobody has to go by names.
    record_some(&run, &mut recorder(&run, &["-q", "-p", &pid]));
    check_whole(&open(&run), 1);
    fs::remove_file(&run.trace).unwrap();
    let mut command = there.command(&[]);
    command.args(as_nobody(&THREE)).arg(&there.recorder).args(["record", "-q", "-p", &pid, "-o"]);
    record_some(&run, command.arg(&run.trace));
    check_whole(&open(&run), 1);
}
