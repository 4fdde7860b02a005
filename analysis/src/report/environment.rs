//! Where and how a trace was recorded, and what is uncertain about it, in words.

use crate::Trace;
use crate::explain::Explanation;
use crate::summary::Summary;
use crate::text::{bytes, count, duration, plural, three};
use jiff::Timestamp;
use llmtrace_format::meta::{Ceilings, Level, Quantity, Recording};

/// One line: which file, program and machine.
pub(super) fn line(trace: &Trace, name: &str) -> String {
    let mut parts = vec![name.to_owned()];
    if let Some(recording) = &trace.file.recording {
        parts.push(format!("{} on {}", recording.target.exe, recording.host.cpu_model));
    }
    parts.push(format!("recorded {}", started(trace)));
    parts.join(" · ")
}

fn started(trace: &Trace) -> String {
    let time = Timestamp::from_nanosecond(trace.file.header.start_unix_nanos.into());
    time.map_or_else(
        |_| "at an unknown time".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// Names and values; what is not known is empty.
pub(super) fn pairs(trace: &Trace, name: &str) -> Vec<(&'static str, String)> {
    let header = &trace.file.header;
    let version = format!("{}, format {}.{}", bytes(trace.file.len()), header.major, header.minor);
    let mut pairs = vec![
        ("file", format!("{name}, {version}")),
        ("recorded", format!("{}, {}", started(trace), duration(trace.range().nanos() as f64))),
    ];
    let Some(recording) = &trace.file.recording else {
        pairs.push(("recording", "the file does not say".to_owned()));
        return pairs;
    };
    let (host, target) = (&recording.host, &recording.target);
    let objects = target.objects.iter().map(|object| match object.build_id.as_str() {
        "" => object.name.clone(),
        id => format!("{} ({})", object.name, id.get(..12).unwrap_or(id)),
    });
    let versions = [("llama", &target.llama_version), ("ggml", &target.ggml_version)];
    let versions: Vec<String> =
        versions.iter().filter(|(_, is)| !is.is_empty()).map(|(of, is)| format!("{of} {is}")).collect();
    let backends: Vec<String> = recording
        .backends
        .iter()
        .map(|backend| match backend.description.as_str() {
            "" => backend.name.clone(),
            what => format!("{} ({what})", backend.name),
        })
        .collect();
    pairs.extend([
        ("host", host.name.clone()),
        ("CPU", format!("{}, {}", host.cpu_model, plural(host.cpus.into(), "CPU", "CPUs"))),
        ("memory", bytes(host.memory_bytes)),
        ("kernel", format!("{} {}", host.kernel, host.arch)),
        ("program", target.exe.clone()),
        ("models", target.models.join(", ")),
        ("versions", versions.join(", ")),
        ("objects", objects.collect::<Vec<_>>().join(", ")),
        ("backends", backends.join(", ")),
        ("level", level(recording)),
        ("recorder", recording.recorder_version.clone()),
        ("ceilings", recording.ceilings.as_ref().map_or_else(|| "not measured".to_owned(), ceilings)),
        ("ended", trace.file.ending.as_ref().map_or_else(|| "not closed".to_owned(), |it| it.reason.clone())),
    ]);
    pairs
}

fn level(recording: &Recording) -> String {
    let mut text = recording.level.name().to_owned();
    if recording.level != recording.level_asked {
        text += &format!(", {} was asked for", recording.level_asked.name());
    }
    text
}

fn ceilings(found: &Ceilings) -> String {
    let best = |quantity| {
        let rates = found.rates.iter().filter(|rate| rate.quantity == quantity);
        rates.map(|rate| rate.highest).max()
    };
    let rate = |quantity, unit: &str| Some(format!("{} {unit}", three(best(quantity)? as f64 / 1e9)));
    let rates = [
        rate(Quantity::ReadBytes, "GB/s read"),
        rate(Quantity::F32Ops, "Gop/s of f32"),
        rate(Quantity::Int8Ops, "Gop/s of int8"),
    ];
    let rates: Vec<String> = rates.into_iter().flatten().collect();
    format!("{} ({})", rates.join(", "), found.simd)
}

/// What makes numbers of this trace less than certain or less than whole.
pub(super) fn caveats(trace: &Trace, summary: &Summary, found: &Explanation) -> Vec<String> {
    let mut lines = summary.warnings.clone();
    if summary.lost_events > 0 {
        let lost = plural(summary.lost_events, "event was", "events were");
        lines.push(format!("{lost} lost while recording: times near them may be wrong"));
    }
    if trace.file.ending.is_none() && summary.warnings.is_empty() {
        lines.push("the file was not closed: it may end early".to_owned());
    }
    if let Some(recording) = &trace.file.recording {
        if !recording.level_reason.is_empty() {
            lines.push(format!("recorded at level {}: {}", recording.level.name(), recording.level_reason));
        }
        if recording.level < Level::Thread {
            let level = recording.level.name();
            lines.push(format!("level {level} tells no waits at barriers: time and wait are not told apart"));
        }
        if recording.window > 1 {
            lines
                .push(format!("operators were recorded for one token in {}", count(recording.window.into())));
        }
        if recording.ceilings.is_none() {
            lines.push("ceilings of the host were not measured: verdicts are less sure".to_owned());
        }
        let missing = recording.counters_missing.iter().filter(|it| !it.recorded);
        lines.extend(missing.map(|it| format!("{} was not counted: {}", it.name, it.reason)));
    }
    if !trace.level_changes.is_empty() {
        let changes = plural(trace.level_changes.len() as u64, "time", "times");
        lines.push(format!(
            "what was recorded changed {changes}, to keep within the budget or as probes settled"
        ));
    }
    if summary.failed_calls > 0 {
        let failed = plural(summary.failed_calls, "call", "calls");
        lines.push(format!("{failed} failed; they count nowhere"));
    }
    for answer in found.phases.iter().filter(|answer| answer.unattributed_share > 0.02) {
        let share = crate::text::percent(answer.unattributed_share);
        lines.push(format!(
            "{share} of the time inside {} calls is explained by no event",
            answer.phase.name()
        ));
    }
    if summary.decode.probe_ms_per_token.is_none() && summary.decode.phase.calls > 0 {
        lines.push("what recording cost was not measured, and is in all times".to_owned());
    }
    if summary.inference.has_tokens {
        lines.push(
            "the trace has ids of tokens: prompts and answers can be read from it, not from this page"
                .to_owned(),
        );
    }
    lines
}
