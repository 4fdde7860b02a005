//! Texts of a trace, made safe once when it is opened: they are shown in a hundred places.

use llmtrace_analysis::Trace;
use llmtrace_analysis::text::{clean, hides};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Makes every text of a trace safe to show: names, and all descriptions.
pub(crate) fn clean_texts(trace: &mut Trace) {
    let file = &mut trace.file;
    for text in file.strings.iter_mut().filter(|text| text.contains(hides)) {
        *text = clean(text);
    }
    file.recording = file.recording.take().map(cleaned);
    file.ending = file.ending.take().map(cleaned);
}

/// A description with all its texts cleaned.
fn cleaned<T: Serialize + DeserializeOwned>(description: T) -> T {
    let Ok(mut value) = serde_json::to_value(&description) else { return description };
    clean_value(&mut value);
    serde_json::from_value(value).unwrap_or(description)
}

fn clean_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(all) => all.iter_mut().for_each(clean_value),
        Value::Object(members) => members.values_mut().for_each(clean_value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::format::meta::{Host, Recording};

    #[test]
    fn descriptions_keep_everything_else() {
        let host = Host { name: "bo\u{7}x".into(), cpus: 7, memory_bytes: u64::MAX, ..Host::default() };
        let before = Recording { host, window: 3, ..Recording::default() };
        let after = cleaned(before.clone());
        assert_eq!(after.host.name, "bo\\u{7}x");
        let name = before.host.name.clone();
        assert_eq!(Recording { host: Host { name, ..after.host.clone() }, ..after }, before);
    }
}
