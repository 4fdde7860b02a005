//! What was recorded, where and how.

use crate::panel::Cx;
use crate::text;
use egui::{Grid, Ui};
use llmtrace_analysis::format::meta::Recording;

pub(crate) fn recording_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    let file = &cx.open.trace.file;
    Grid::new("recording").num_columns(2).spacing([14.0, 4.0]).show(ui, |ui| {
        let mut row = |name: &str, value: String| {
            if !value.is_empty() {
                ui.weak(name);
                ui.add(egui::Label::new(value).truncate());
                ui.end_row();
            }
        };
        if let Some(recording) = &file.recording {
            rows(recording, &mut row);
        }
        let size = text::bytes(file.len());
        let each = cx.open.summary.bytes_per_op_span;
        let each = each.map_or_else(String::new, |bytes| format!(", {} bytes an op span", text::trim(bytes)));
        row("file", format!("{}, {size}{each}", cx.open.file_name()));
        if let Some(ending) = &file.ending {
            let code = ending.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
            row("ended", format!("{}{code}", ending.reason));
        }
    });
    if file.recording.is_none() {
        ui.weak("the file does not say how it was recorded");
    }
}

fn rows(recording: &Recording, row: &mut impl FnMut(&str, String)) {
    let target = &recording.target;
    row("model", target.models.join(", "));
    let how = if target.launched { "launched" } else { "attached" };
    row("program", format!("{}, pid {}, {how}", target.exe, target.pid));
    let versions = [("llama.cpp", &target.llama_version), ("ggml", &target.ggml_version)];
    let versions: Vec<String> = versions
        .iter()
        .filter(|(_, version)| !version.is_empty())
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    row("engine", versions.join(", "));
    let host = &recording.host;
    row("host", format!("{}, {} {}", host.name, host.arch, host.kernel));
    row("cpu", format!("{}, {} CPUs, {}", host.cpu_model, host.cpus, text::bytes(host.memory_bytes)));
    row("level", recording.level.name().to_owned());
    if recording.level != recording.level_asked || !recording.level_reason.is_empty() {
        row("", format!("asked for {}: {}", recording.level_asked.name(), recording.level_reason));
    }
    let (there, missing): (Vec<_>, Vec<_>) = recording.sources.iter().partition(|source| source.recorded);
    row("also", there.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", "));
    let missing = missing.iter().map(|source| format!("{} ({})", source.name, source.reason));
    row("not", missing.collect::<Vec<_>>().join(", "));
    let stepped = recording.probes.iter().filter(|probe| !probe.emulated && !probe.on_return).count();
    let stepped = if stepped > 0 { format!(", {stepped} single-stepped") } else { String::new() };
    row("probes", format!("{}{stepped}", recording.probes.len()));
    row("recorder", format!("llmtrace {}", recording.recorder_version));
}
