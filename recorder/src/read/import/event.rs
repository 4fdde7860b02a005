//! One event of Chrome trace JSON, and what it means to us.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The members that matter; others are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) cat: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) ph: Cow<'a, str>,
    pub(super) ts: Number,
    pub(super) dur: Number,
    pub(super) pid: Number,
    pub(super) tid: Number,
    #[serde(borrow)]
    pub(super) args: Args<'a>,
}

/// A number; `None` for what is none. A text stands for its checksum, so that
/// threads may have names for ids.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub(super) Option<f64>);

impl Number {
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

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    WaitUs,
    #[serde(alias = "n_tokens")]
    Tokens,
    Sequences,
    Result,
    Cpu,
    Name,
    Phase,
    #[serde(other)]
    Other,
}

/// Anything but what is looked for: nothing.
macro_rules! nothing_else {
    () => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Number;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a number")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(Some(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(Some(value as f64)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(Some(value as f64)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                let hash =
                    text.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
                Ok(Number(text.parse().ok().or(Some(f64::from(hash)))))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }

            nothing_else!();
        }
        from.deserialize_any(Numbers)
    }
}

/// A text, or nothing for any other value.
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Any value that is no string; only metadata and our own phases come here.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any<'a> {
            Text(#[serde(borrow)] Cow<'a, str>),
            Other(IgnoredAny),
        }
        Ok(Self(match Any::deserialize(from)? {
            Any::Text(text) => Some(text),
            Any::Other(_) => None,
        }))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Args<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Args<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("arguments")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Args<'de>, A::Error> {
                let mut args = Args::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::WaitUs => args.wait = map.next_value()?,
                        Key::Tokens => args.tokens = map.next_value()?,
                        Key::Sequences => args.sequences = map.next_value()?,
                        Key::Result => args.result = map.next_value()?,
                        Key::Cpu => args.cpu = map.next_value()?,
                        Key::Name => args.name = map.next_value::<Text<'de>>()?.0,
                        Key::Phase => args.phase = map.next_value::<Text<'de>>()?.0,
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(args)
            }

            fn visit_str<E>(self, _: &str) -> Result<Args<'de>, E> {
                Ok(Args::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Args<'de>, E> {
                Ok(Args::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Args<'de>, E> {
                Ok(Args::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Args<'de>, E> {
                Ok(Args::default())
            }

            nothing_else!();
        }
        from.deserialize_any(Members)
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
        let event: Event<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((event.name.as_ref(), event.ts.nanos(), event.dur.nanos()), ("a\n", Some(12_500), None));
        assert_ne!(event.tid.id(), 0);
        let text = r#"{"args":{"wait_us":1.5,"tokens":{},"name":7,"phase":"decode"}}"#;
        let event: Event<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((event.args.wait.nanos(), event.args.tokens.count()), (Some(1500), None));
        assert_eq!((event.args.name, event.args.phase.as_deref()), (None, Some("decode")));
    }
}
