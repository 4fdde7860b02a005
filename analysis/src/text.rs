//! Text from files, safe to show: a terminal obeys control characters, and marks that turn the
//! direction of text can make one name look like another.

use crate::Trace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whether a character is shown as its code: control characters, and those that cannot be seen or
/// move what can.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

/// A text of anybody, safe to show.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

impl Trace {
    /// Makes every text of the trace safe to show, for who shows many: names, and all descriptions.
    pub fn clean_texts(&mut self) {
        for text in self.file.strings.iter_mut().filter(|text| text.contains(hides)) {
            *text = clean(text);
        }
        self.file.recording = self.file.recording.take().map(cleaned);
        self.file.ending = self.file.ending.take().map(cleaned);
    }
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
    use llmtrace_format::meta::{Host, Recording};

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let evil = "a\u{1b}[2J\u{202e}b\u{0}\u{200b}é漢";
        assert_eq!(clean(evil), "a\\u{1b}[2J\\u{202e}b\\u{0}\\u{200b}é漢");
        assert_eq!(clean("blk.0.ffn_up.weight (view)"), "blk.0.ffn_up.weight (view)");
    }

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
