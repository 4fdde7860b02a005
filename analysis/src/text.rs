//! Text for people, wherever it is shown: numbers, and strings from files, which are made safe: a
//! terminal obeys control characters, and marks that turn the direction of text can make one name
//! look like another.

/// `1,234,567`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.23 MB`, in powers of a thousand.
pub fn bytes(number: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| number as f64 >= *size) {
        Some((unit, size)) => format!("{} {unit}", three(number as f64 / size)),
        None => format!("{number} B"),
    }
}

/// A duration in the unit that suits it: `15.1 ms`.
pub fn duration(nanos: f64) -> String {
    let units = [("s", 1e9), ("ms", 1e6), ("µs", 1e3)];
    match units.iter().find(|(_, size)| nanos >= *size) {
        Some((unit, size)) => format!("{} {unit}", three(nanos / size)),
        None => format!("{} ns", nanos.round()),
    }
}

/// Three digits that matter: `1.23`, `12.3`, `123`, `1,234`.
pub fn three(number: f64) -> String {
    match number.abs() {
        magnitude if magnitude >= 999.5 => count(number.round() as u64),
        magnitude if magnitude >= 99.95 => format!("{number:.0}"),
        magnitude if magnitude >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// `12.3 %`
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A value, or `–` for what a recording does not tell.
pub fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// `1 event`, `2 events`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

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

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(12), bytes(1_234), bytes(1_900_000)], ["12 B", "1.23 kB", "1.90 MB"]);
        assert_eq!(
            [duration(950.0), duration(15_123_000.0), duration(2.5e9)],
            ["950 ns", "15.1 ms", "2.50 s"]
        );
        assert_eq!([three(9.996), three(99.96), three(999.6), three(0.0)], ["10.0", "100", "1,000", "0.00"]);
    }

    #[test]
    fn strings_from_files_cannot_steer_a_terminal() {
        assert_eq!(clean("ffn_up-7 µ"), "ffn_up-7 µ");
        assert_eq!(clean("a\x1b[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c");
    }
}
