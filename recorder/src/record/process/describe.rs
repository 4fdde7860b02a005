//! What the file says of a process.

use super::{Loaded, Process, Program};
use llmtrace_format::meta::{self, Object, Probe};

impl Process {
    /// What there is to say of it in the file.
    pub(in crate::record) fn described(&self) -> meta::Process {
        meta::Process {
            pid: self.to.pid,
            parent: self.parent,
            exe: self.exe.clone(),
            level: self.level,
            level_reason: self.level_reason.clone(),
            models: self.models.clone(),
        }
    }

    /// What there is to say of it as the main process of a recording.
    pub(in crate::record) fn target(&self, launched: bool) -> meta::Target {
        let describe = |loaded: &Loaded| Object {
            name: loaded.mapping.base_name(),
            build_id: loaded.object.build_id().unwrap_or_default().to_owned(),
            stripped: loaded.object.stripped(),
        };
        meta::Target {
            pid: self.to.pid,
            exe: self.exe.clone(),
            launched,
            models: self.models.clone(),
            objects: self.objects.loaded.iter().map(describe).collect(),
            ggml_version: self.versions.0.clone(),
            llama_version: self.versions.1.clone(),
        }
    }

    /// Which of its programs are attached.
    pub(in crate::record) fn programs(&self) -> Vec<Program> {
        self.points.iter().map(|(point, _)| point.program).collect()
    }

    /// Its probes.
    pub(in crate::record) fn probes(&self) -> impl Iterator<Item = Probe> + '_ {
        let name = |index: &usize| self.objects.loaded.get(*index).map(|loaded| loaded.mapping.base_name());
        self.points.iter().map(move |(point, object)| Probe {
            purpose: point.program.purpose().to_owned(),
            symbol: point.symbol.clone(),
            object: name(object).unwrap_or_default(),
            offset: point.site.offset_in_function,
            instruction: point.site.instruction.clone(),
            emulated: point.site.emulated,
            on_return: point.program.on_return(),
        })
    }
}
