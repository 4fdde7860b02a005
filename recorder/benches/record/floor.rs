//! The floor: empty programs at the instructions that we probe, in the same process.

use crate::recorder::LLMTRACE;
use anyhow::{Context as _, Result, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{Link, OpenObject, UprobeMultiOpts};
use llmtrace_bpf::{LlmtraceSkel, LlmtraceSkelBuilder};
use serde_json::Value;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::process::Command;

/// Places of one file, and how they are probed.
struct Places {
    file: PathBuf,
    offsets: Vec<usize>,
    on_return: bool,
}

/// Probe points of a process, and a program that does nothing.
pub(crate) struct Floor {
    pid: u32,
    skel: LlmtraceSkel<'static>,
    places: Vec<(String, Places)>,
}

impl Floor {
    /// Asks `llmtrace doctor` where the points of `pid` are.
    pub(crate) fn new(pid: u32) -> Result<Self> {
        let output = Command::new(LLMTRACE).args(["doctor", "--json", "-p", &pid.to_string()]).output()?;
        let said: Value = serde_json::from_slice(&output.stdout).context("doctor printed no JSON")?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut places: Vec<(String, Places)> = Vec::new();
        for point in said["targets"][0]["points"].as_array().context("doctor found no points")? {
            let text = |name: &str| point[name].as_str().unwrap_or_default().to_owned();
            let (purpose, object) = (text("purpose"), text("object"));
            let mapped =
                maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| format!("/{path}")));
            let file = mapped
                .map(PathBuf::from)
                .find(|path| path.file_name().is_some_and(|name| *name == *object))
                .with_context(|| format!("{object} is not mapped"))?;
            let offset = point["file_offset"].as_u64().context("a point has no place")? as usize;
            let on_return = purpose.ends_with(" end");
            match places.iter_mut().find(|(other, place)| *other == purpose && place.file == file) {
                Some((_, place)) => place.offsets.push(offset),
                None => places.push((purpose, Places { file, offsets: vec![offset], on_return })),
            }
        }
        ensure!(!places.is_empty(), "doctor found no points");
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let skel = LlmtraceSkelBuilder::default().open(storage)?.load()?;
        Ok(Self { pid, skel, places })
    }

    /// Attaches to all points but those of these purposes, until the links are dropped.
    pub(crate) fn attach(&self, but: &[&str]) -> Result<Vec<Link>> {
        let wanted = self.places.iter().filter(|(purpose, _)| !but.contains(&purpose.as_str()));
        wanted
            .map(|(_, Places { file, offsets, on_return })| {
                let options = UprobeMultiOpts {
                    offsets: offsets.clone(),
                    retprobe: *on_return,
                    ..UprobeMultiOpts::default()
                };
                let program = &self.skel.progs.nothing;
                Ok(program.attach_uprobe_multi_with_opts(self.pid as i32, file, "", options)?)
            })
            .collect()
    }
}
