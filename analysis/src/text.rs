//! Text from files, safe to show: a terminal obeys control characters, and marks that turn the
//! direction of text can make one name look like another.

/// Whether a character is shown as its code: control characters, and those that cannot be seen or
/// move what can.
pub fn hides(c: char) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let evil = "a\u{1b}[2J\u{202e}b\u{0}\u{200b}é漢";
        assert_eq!(clean(evil), "a\\u{1b}[2J\\u{202e}b\\u{0}\\u{200b}é漢");
        assert_eq!(clean("blk.0.ffn_up.weight (view)"), "blk.0.ffn_up.weight (view)");
    }
}
