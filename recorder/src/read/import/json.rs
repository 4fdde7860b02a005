//! Reads JSON text in one pass, as far as events need it: most of their time goes
//! here. Lenient: what is skipped need not be well-formed, only balanced.

use memchr::memchr2;
use std::borrow::Cow;

/// A place in a text. Its functions give `None` when something else is there, or
/// when the text ends.
pub(super) struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Hands out the names of an object's members as they are written; `each`
    /// reads the value.
    pub(super) fn members(&mut self, mut each: impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let (name, _) = self.raw_string()?;
            self.take(b':')?;
            each(name, self)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b'}'),
            }
        }
    }

    /// A string.
    pub(super) fn string(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let begin = self.at;
        match self.raw_string()? {
            (text, false) => std::str::from_utf8(text).ok().map(Cow::Borrowed),
            (_, true) => serde_json::from_slice(self.text.get(begin..self.at)?).ok().map(Cow::Owned),
        }
    }

    /// A string between its quotes, and whether something in it is escaped.
    fn raw_string(&mut self) -> Option<(&'a [u8], bool)> {
        self.take(b'"')?;
        let begin = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..)?;
            // Most are names of members, shorter than it takes to call `memchr2`.
            let near = rest.iter().take(8).position(|byte| matches!(byte, b'"' | b'\\'));
            let found = self.at + near.or_else(|| memchr2(b'"', b'\\', rest))?;
            if self.text.get(found) == Some(&b'"') {
                self.at = found + 1;
                return Some((self.text.get(begin..found)?, escaped));
            }
            escaped = true;
            self.at = found + 2;
        }
    }

    /// A number.
    pub(super) fn number(&mut self) -> Option<f64> {
        self.peek()?;
        let begin = self.at;
        let (mut mantissa, mut decimals, mut digits, mut point) = (0u64, 0usize, 0u32, false);
        let negative = self.text.get(begin) == Some(&b'-');
        self.at += usize::from(negative);
        let plain = loop {
            match *self.text.get(self.at)? {
                byte @ b'0'..=b'9' => {
                    mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                    digits += 1;
                    decimals += usize::from(point);
                }
                b'.' if !point => point = true,
                b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' => break true,
                _ => break false,
            }
            self.at += 1;
        };
        // With so few digits, one division rounds as it should.
        if let Some(scale) = POWERS.get(decimals).filter(|_| plain && (1..=15).contains(&digits)) {
            let value = mantissa as f64 / scale;
            return Some(if negative { -value } else { value });
        }
        if !plain {
            self.skip()?;
        }
        std::str::from_utf8(self.text.get(begin..self.at)?).ok()?.parse().ok()
    }

    /// Goes behind the value that is here, or behind what is left of a number.
    /// Brackets must match, so that it never runs into what follows the event.
    pub(super) fn skip(&mut self) -> Option<()> {
        // A bit for each open bracket, the innermost lowest: whether it is a brace.
        let (mut open, mut depth) = (0u128, 0u32);
        loop {
            let byte = self.peek()?;
            match byte {
                b'"' => drop(self.raw_string()?),
                b'{' | b'[' => {
                    depth = Some(depth + 1).filter(|depth| *depth <= u128::BITS)?;
                    open = open << 1 | u128::from(byte == b'{');
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    (open & 1 == u128::from(byte == b'}')).then_some(())?;
                    open >>= 1;
                    self.at += 1;
                }
                b',' | b':' => {
                    (depth > 0).then_some(())?;
                    self.at += 1;
                    continue;
                }
                _ => {
                    let rest = self.text.get(self.at..)?;
                    self.at += rest.iter().position(|byte| b",:}]\" \n\r\t".contains(byte))?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// Powers of ten that a `f64` holds exactly, as far as [`Json::number`] needs them.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for text in [
            "0",
            "-1",
            "1.5",
            "123456789.123",
            "-0.001",
            "1e3",
            "-2.5E-2",
            "12345678901234567890",
            "0.1234567890123456789",
        ] {
            let object = format!("[{text}]");
            let mut json = Json::new(&object.as_bytes()[1..]);
            assert_eq!(json.number(), Some(text.parse().unwrap()), "{text}");
            assert_eq!(json.peek(), Some(b']'), "{text}");
        }
        for text in ["x]", "-]", "1.2.3]", "", "12", "tru"] {
            assert_eq!(Json::new(text.as_bytes()).number(), None, "{text}");
        }
    }

    #[test]
    fn values_are_skipped_whole() {
        for text in [r#""a\"}""#, "1.5e3", "null", "[]", r#"{"a":[1,{"b":"]"}],"c":{}}"#, "[ 1 , 2 ]"] {
            let object = format!(" {text},");
            let mut json = Json::new(object.as_bytes());
            assert_eq!(json.skip(), Some(()), "{text}");
            assert_eq!(json.position(), text.len() + 1, "{text}");
        }
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for text in ["", ",", "}", "[1", r#""a"#, r#""a\"#, "{\"a\":", "[{]}", "[[}]", &deep] {
            assert_eq!(Json::new(text.as_bytes()).skip(), None, "{text}");
        }
    }

    #[test]
    fn strings_lose_their_escapes() {
        assert_eq!(Json::new(br#" "a\n\u00e9\\" "#).string().as_deref(), Some("a\né\\"));
        assert_eq!(Json::new(b"\"plain\"").string(), Some(Cow::Borrowed("plain")));
        assert_eq!(Json::new(b"\"\xff\"").string(), None);
        assert_eq!(Json::new(br#""\q""#).string(), None);
    }
}
