//! The status line while recording.

use super::rows::Counts;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(500);

/// Draws one line over and over, on a terminal only.
pub(super) struct StatusLine {
    enabled: bool,
    begin: Instant,
    last: Instant,
    last_events: u64,
}

impl StatusLine {
    pub(super) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self { enabled: !quiet && std::io::stderr().is_terminal(), begin: now, last: now, last_events: 0 }
    }

    pub(super) fn update(&mut self, counts: &Counts, lost: u64, output: impl FnOnce() -> String) {
        let since = self.last.elapsed();
        if !self.enabled || since < EVERY {
            return;
        }
        let rate = (counts.events - self.last_events) as f64 / since.as_secs_f64();
        self.last = Instant::now();
        self.last_events = counts.events;
        let line = line(self.begin.elapsed(), counts, rate, lost, &output());
        // \x1b[K clears what a longer line left behind.
        let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
    }

    /// Removes the line, so that other output starts clean.
    pub(super) fn clear(&self) {
        if self.enabled {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(elapsed: Duration, counts: &Counts, events_per_second: f64, lost: u64, output: &str) -> String {
    let tokens = counts.prefill_tokens + counts.decode_tokens;
    let speed = if counts.decode_nanos == 0 {
        "–".to_owned()
    } else {
        format!("{:.1}", counts.decode_tokens as f64 / (counts.decode_nanos as f64 / 1e9))
    };
    format!(
        "recording {:.0} s · {tokens} tokens · decode {speed} tokens/s · {:.0}k events/s · {lost} lost · {output}",
        elapsed.as_secs_f64(),
        events_per_second / 1e3,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_happens() {
        let counts =
            Counts { prefill_tokens: 10, decode_tokens: 5, decode_nanos: 100_000_000, ..Counts::default() };
        let text = line(Duration::from_secs(3), &counts, 45_600.0, 0, "1.5 MB");
        assert_eq!(text, "recording 3 s · 15 tokens · decode 50.0 tokens/s · 46k events/s · 0 lost · 1.5 MB");
    }
}
