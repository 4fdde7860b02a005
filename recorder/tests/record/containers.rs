//! Processes in pid and mount namespaces of their own.

use crate::elsewhere::Elsewhere;
use crate::errors::error;
use crate::invariants::check_whole;
use crate::workload::{self, Engine, Run, open, recorder};
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
    assert!(recorder(&run, &["-q", "-d", "2", "-p", &pid.to_string()]).status().unwrap().success());
    check_whole(&open(&run), 1);
    let named = Run::new();
    assert!(recorder(&named, &["-q", "-d", "1", "-n", &name]).status().unwrap().success());
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
