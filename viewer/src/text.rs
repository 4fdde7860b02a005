//! Numbers as people read them.

/// A duration with three digits: `850 ns`, `12.3 µs`, `4.06 ms`, `1.20 s`.
pub fn nanos(nanos: u64) -> String {
    nanos_f64(nanos as f64)
}

/// The same for a computed duration.
pub fn nanos_f64(nanos: f64) -> String {
    let (value, unit) = match nanos.abs() {
        n if n < 999.5 => return format!("{} ns", trim(nanos)),
        n if n < 999_500.0 => (nanos / 1e3, "µs"),
        n if n < 999_500_000.0 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    format!("{} {unit}", trim(value))
}

/// Milliseconds as the summary gives them.
pub fn millis(millis: f64) -> String {
    nanos_f64(millis * 1e6)
}

/// Three significant digits.
pub fn trim(value: f64) -> String {
    match value.abs() {
        v if v < 0.000_5 => "0".into(),
        v if v >= 99.95 => grouped(value.round()),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with its thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            // A thin space.
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    out
}

fn grouped(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}", count(value.abs() as u64))
}

/// Bytes in binary units.
pub fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", trim(value / 1024.0)),
        1_048_576..1_073_741_824 => format!("{} MiB", trim(value / 1_048_576.0)),
        _ => format!("{} GiB", trim(value / 1_073_741_824.0)),
    }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.1 => "<0.1 %".into(),
        p => format!("{p:.1} %"),
    }
}

/// A time of the trace with the precision of a ruler whose marks are `step`
/// nanoseconds apart: `1 234.5 ms`.
pub fn time_at_step(time: i64, step: u64) -> String {
    let (unit, name) = match step {
        1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        1_000.. => (1_000, "µs"),
        _ => (1, "ns"),
    };
    let sign = if time < 0 { "−" } else { "" };
    format!("{sign}{} {name}", count(time.unsigned_abs() / unit))
}

/// Text of the analysis as the app's fonts can show it: they have no arrow with a shaft.
pub fn arrows(text: &str) -> String {
    text.replace('→', "⏵")
}

/// `text`, cut to `max` characters.
pub fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let head: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (value, text) in [
            (0, "0 ns"),
            (850, "850 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_600, "1.00 ms"),
            (4_060_000, "4.06 ms"),
            (1_200_000_000, "1.20 s"),
            (125_000_000_000, "125 s"),
        ] {
            assert_eq!(nanos(value), text);
        }
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(count(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(count(999), "999");
    }

    #[test]
    fn ruler_times_use_the_unit_of_the_step() {
        assert_eq!(time_at_step(1_500_000, 500_000), "1\u{2009}500 µs");
        assert_eq!(time_at_step(2_000_000_000, 1_000_000_000), "2 s");
        assert_eq!(time_at_step(-40, 20), "−40 ns");
    }

    #[test]
    fn shares_and_sizes() {
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(percent(0.0004), "<0.1 %");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(shorten("abcdef", 4), "abc…");
    }
}
