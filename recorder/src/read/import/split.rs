//! Finds the events of Chrome trace JSON in a stream, without a tree in memory.
//!
//! The events are the objects of a list: the whole document, or the member
//! `traceEvents` of the object that it is. A list may end with the file: tools
//! that are killed leave out the closing bracket.

use anyhow::{Result, bail};
use std::io::Read;

const CHUNK: usize = 1 << 20;
/// Longest event; real ones have a few hundred bytes.
const MAX_EVENT: usize = 16 << 20;

/// The events of a stream.
pub(super) struct Events<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where unread bytes begin and end in `buffer`.
    at: usize,
    end: usize,
    /// Bytes of the stream before `buffer`.
    before: u64,
    started: bool,
}

/// What comes next.
pub(super) enum Next<T> {
    Event(T),
    /// An object that is no event.
    Malformed,
    End,
}

impl<R: Read> Events<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; 2 * CHUNK], at: 0, end: 0, before: 0, started: false }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    /// Reads the next event. `read` gets text that begins with it and gives its
    /// value and length, or `None` when it is not well-formed or not all there.
    pub(super) fn next<T>(&mut self, read: impl FnMut(&[u8]) -> Option<(T, usize)>) -> Result<Next<T>> {
        if !self.started {
            self.started = true;
            self.find_list()?;
        }
        loop {
            match self.peek()? {
                Some(b'{') => return self.event(read),
                Some(b',' | b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b']') | None => return Ok(Next::End),
                Some(_) => bail!("byte {}: no event begins here", self.position()),
            }
        }
    }

    fn event<T>(&mut self, mut read: impl FnMut(&[u8]) -> Option<(T, usize)>) -> Result<Next<T>> {
        // Nearly every event is in the buffer: one pass over its text is enough.
        let unread = self.buffer.get(self.at..self.end).unwrap_or_default();
        if let Some((value, len)) = read(unread) {
            self.at += len;
            return Ok(Next::Event(value));
        }
        let len = self.object()?;
        let event = self.buffer.get(self.at..self.at + len).unwrap_or_default();
        let value = read(event);
        self.at += len;
        Ok(value.map_or(Next::Malformed, |(value, _)| Next::Event(value)))
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        if self.at == self.end && !self.fill()? {
            return Ok(None);
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Reads more; unread bytes move to the front.
    fn fill(&mut self) -> Result<bool> {
        if self.at > 0 {
            self.buffer.copy_within(self.at..self.end, 0);
            self.before += self.at as u64;
            self.end -= self.at;
            self.at = 0;
        }
        if self.end + CHUNK > self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let Some(room) = self.buffer.get_mut(self.end..) else { return Ok(false) };
        loop {
            match self.reader.read(room) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => {
                    let read = read?;
                    self.end += read;
                    return Ok(read > 0);
                }
            }
        }
    }

    /// Length of the object that begins here; it is in the buffer then.
    fn object(&mut self) -> Result<usize> {
        let (mut len, mut depth, mut text, mut escaped) = (0, 0u32, false, false);
        loop {
            for &byte in self.buffer.get(self.at + len..self.end).unwrap_or_default() {
                len += 1;
                if text {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => text = false,
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => text = true,
                    b'{' => depth += 1,
                    b'}' if depth == 1 => return Ok(len),
                    b'}' => depth -= 1,
                    _ => {}
                }
            }
            if len > MAX_EVENT {
                bail!("byte {}: an event of more than {MAX_EVENT} bytes", self.position());
            }
            if !self.fill()? {
                bail!("byte {}: the file ends inside an event", self.position());
            }
        }
    }

    /// Goes to the list of events.
    fn find_list(&mut self) -> Result<()> {
        const NO_LIST: &str = "no Chrome trace JSON: it has no list of events";
        let mut depth = 0u32;
        // The string read last, at depth 1, while it may be a name.
        let mut name: Vec<u8> = Vec::new();
        let mut named = false;
        while let Some(byte) = self.peek()? {
            match byte {
                b'[' if depth == 0 || (depth == 1 && named && name == b"traceEvents") => {
                    self.at += 1;
                    return Ok(());
                }
                b'"' => {
                    self.at += 1;
                    name.clear();
                    self.string(&mut name)?;
                    named = depth == 1;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => match depth.checked_sub(1) {
                    Some(less) if less > 0 => depth = less,
                    _ => bail!(NO_LIST),
                },
                b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                // A byte order mark may come first.
                0xEF | 0xBB | 0xBF if depth == 0 => {}
                _ if depth == 0 => bail!(NO_LIST),
                _ => named = false,
            }
            self.at += 1;
        }
        bail!(NO_LIST)
    }

    /// The rest of a string, without its quotes; only the first bytes are kept.
    fn string(&mut self, into: &mut Vec<u8>) -> Result<()> {
        while let Some(byte) = self.peek()? {
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    self.peek()?;
                    self.at = (self.at + 1).min(self.end);
                }
                _ if into.len() < 64 => into.push(byte),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Json;
    use super::*;

    /// Gives one byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let Some((&first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn events(text: &str) -> Result<Vec<String>> {
        let all = |mut events: Events<Box<dyn Read + '_>>| -> Result<Vec<String>> {
            let mut found = Vec::new();
            let text = |text: &[u8]| {
                let mut json = Json::new(text);
                json.skip()?;
                Some((String::from_utf8(text[..json.position()].to_vec()).ok()?, json.position()))
            };
            while let Next::Event(event) = events.next(text)? {
                found.push(event);
            }
            Ok(found)
        };
        let whole = all(Events::new(Box::new(text.as_bytes())));
        let drops = all(Events::new(Box::new(Drops(text.as_bytes()))));
        assert_eq!(whole.as_ref().ok(), drops.as_ref().ok());
        whole
    }

    #[test]
    fn lists_and_objects_hold_events() {
        let two = [r#"{"a":"}\"{","b":{"c":1}}"#, r#"{"d":"\\"}"#];
        let list = two.join(" ,\n");
        assert_eq!(events(&format!("[{list}]")).unwrap(), two);
        assert_eq!(events(&format!("\u{feff} [{list},")).unwrap(), two);
        let object =
            format!(r#"{{"x":{{"traceEvents":[1]}},"y":"traceEvents","traceEvents" : [{list}],"z":[]}}"#);
        assert_eq!(events(&object).unwrap(), two);
        assert_eq!(events("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn other_files_are_refused() {
        for text in
            ["", "LLMTRACE", "{}", r#"{"events":[]}"#, r#"{"traceEvents":{}}"#, "[1]", r#"[{"a":"#, "]["]
        {
            assert!(events(text).is_err(), "{text}");
        }
    }
}
