//! One event of Chrome trace JSON, and what it means to us.

use super::json::Json;
use std::borrow::Cow;

/// The members that matter; others are skipped.
#[derive(Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) cat: Cow<'a, str>,
    pub(super) ph: Cow<'a, str>,
    pub(super) ts: Number,
    pub(super) dur: Number,
    pub(super) pid: Number,
    pub(super) tid: Number,
    pub(super) args: Args<'a>,
}

/// A number; `None` for what is none. A text stands for its checksum, so that
/// threads may have names for ids.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub(super) Option<f64>);

/// Arguments that our own export writes, and names in metadata.
#[derive(Debug, Default)]
pub(super) struct Args<'a> {
    pub(super) wait: Number,
    pub(super) tokens: Number,
    pub(super) sequences: Number,
    pub(super) result: Number,
    pub(super) cpu: Number,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) phase: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// The event with which a text begins, and its length; `None` when it is not
    /// well-formed, or not all there.
    pub(super) fn read(text: &'a [u8]) -> Option<(Self, usize)> {
        let mut json = Json::new(text);
        let mut event = Self::default();
        json.members(|name, json| {
            match name {
                b"name" => event.name = json.string()?,
                b"cat" => event.cat = json.string()?,
                b"ph" => event.ph = json.string()?,
                b"ts" => event.ts = Number::read(json)?,
                b"dur" => event.dur = Number::read(json)?,
                b"pid" => event.pid = Number::read(json)?,
                b"tid" => event.tid = Number::read(json)?,
                b"args" if json.peek()? == b'{' => event.args = Args::read(json)?,
                _ => json.skip()?,
            }
            Some(())
        })?;
        Some((event, json.position()))
    }
}

impl<'a> Args<'a> {
    fn read(json: &mut Json<'a>) -> Option<Self> {
        let mut args = Self::default();
        json.members(|name, json| {
            match name {
                b"wait_us" => args.wait = Number::read(json)?,
                b"tokens" | b"n_tokens" => args.tokens = Number::read(json)?,
                b"sequences" => args.sequences = Number::read(json)?,
                b"result" => args.result = Number::read(json)?,
                b"cpu" => args.cpu = Number::read(json)?,
                b"name" if json.peek()? == b'"' => args.name = Some(json.string()?),
                b"phase" if json.peek()? == b'"' => args.phase = Some(json.string()?),
                _ => json.skip()?,
            }
            Some(())
        })?;
        Some(args)
    }
}

impl Number {
    fn read(json: &mut Json<'_>) -> Option<Self> {
        Some(match json.peek()? {
            b'-' | b'0'..=b'9' => Self(Some(json.number()?)),
            b'"' => {
                let text = json.string()?;
                let sum = |sum: u32, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
                Self(Some(text.parse().unwrap_or_else(|_| f64::from(text.bytes().fold(0, sum)))))
            }
            _ => {
                json.skip()?;
                Self(None)
            }
        })
    }

    /// Microseconds as nanoseconds.
    pub(super) fn nanos(self) -> Option<i64> {
        self.0.map(|micros| (micros * 1000.0).round() as i64)
    }

    pub(super) fn id(self) -> i64 {
        self.0.unwrap_or(0.0) as i64
    }

    pub(super) fn count(self) -> Option<u32> {
        self.0.map(|number| number as u32)
    }
}

/// What a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Decode,
    Encode,
    Ubatch,
    Graph,
    Op,
}

/// What a slice is, by its category or else its name; `None` when it is nothing
/// that a trace holds.
pub(super) fn classify(name: &str, category: &str) -> Option<Class> {
    let encode = name.contains("encode");
    match category {
        "op" => return Some(Class::Op),
        "decode" => return Some(if encode { Class::Encode } else { Class::Decode }),
        "ubatch" => return Some(Class::Ubatch),
        "graph" => return Some(Class::Graph),
        // Of our own exports, named after tensors and the like.
        "scheduler" | "split" | "copy" | "wait" | "call" | "state" | "fault" | "read" => return None,
        _ => {}
    }
    let (head, _) = operator(name);
    let first = head.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
    let rest = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'+';
    if first && head.len() > 1 && head.bytes().all(rest) {
        return Some(Class::Op);
    }
    // C++ names come with and without their class.
    let name = name.rsplit("::").next().unwrap_or(name);
    match name {
        "llama_decode" | "decode" => Some(Class::Decode),
        "llama_encode" | "encode" => Some(Class::Encode),
        "process_ubatch" => Some(Class::Ubatch),
        _ if name.starts_with("graph_comp") || name.contains("graph_compute") => Some(Class::Graph),
        _ => None,
    }
}

/// Operator and tensor of a name such as `MUL_MAT-ffn_up-7` or `MUL_MAT ffn_up-7`.
pub(super) fn operator(name: &str) -> (&str, &str) {
    name.split_once(['-', ' ']).unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_known_by_category_or_name() {
        assert_eq!(classify("MUL_MAT-ffn_up-7", ""), Some(Class::Op));
        assert_eq!(classify("RMS_NORM+MUL-attn_norm-7", ""), Some(Class::Op));
        assert_eq!(classify("unknown", "op"), Some(Class::Op));
        assert_eq!(classify("KQ", "copy"), None);
        assert_eq!(classify("KQ", "fault"), None);
        assert_eq!(classify("KQ", ""), Some(Class::Op));
        assert_eq!(classify("graph_comp_cpu", "x"), Some(Class::Graph));
        assert_eq!(classify("llama_decode", ""), Some(Class::Decode));
        assert_eq!(classify("llama_context::decode", ""), Some(Class::Decode));
        assert_eq!(classify("llama_encode", "decode"), Some(Class::Encode));
        assert_eq!(classify("V8.Execute", ""), None);
        assert_eq!(classify("X", ""), None);
        assert_eq!(operator("MUL_MAT-ffn_up-7"), ("MUL_MAT", "ffn_up-7"));
    }

    #[test]
    fn odd_values_are_no_errors() {
        let text =
            r#"{"name":"a\n","ph":"X","ts":"12.5","dur":null,"tid":"main","pid":true,"args":[1],"x":{}}"#;
        let (event, len) = Event::read(text.as_bytes()).unwrap();
        assert_eq!(len, text.len());
        assert_eq!((event.name.as_ref(), event.ts.nanos(), event.dur.nanos()), ("a\n", Some(12_500), None));
        assert_ne!(event.tid.id(), 0);
        let text = r#"{"args":{"wait_us":1.5,"tokens":{},"name":7,"phase":"decode"}}"#;
        let (event, len) = Event::read(text.as_bytes()).unwrap();
        assert_eq!(len, text.len());
        assert_eq!((event.args.wait.nanos(), event.args.tokens.count()), (Some(1500), None));
        assert_eq!((event.args.name, event.args.phase.as_deref()), (None, Some("decode")));
    }
}
