//! Options of long recordings: what is kept, and where it goes.

use anyhow::{Result, bail};
use std::time::Duration;

/// Seconds that a trigger saves without `--ring`.
const DEFAULT_RING: Duration = Duration::from_secs(10);
/// Less is little more than a footer.
const MIN_BYTES: u64 = 400_000;

/// What becomes of a recording that may take long.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Long recordings")]
pub(crate) struct Long {
    /// Keep the last SECONDS in memory and write only these, at the end
    ///
    /// At most 256 MB of compressed rows are kept; if that is less than SECONDS,
    /// the trace has a mark that says so. SIGUSR1 writes what is kept, and the second
    /// that follows, to NAME-1.llmtrace, NAME-2.llmtrace and so on; recording goes on.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["max_size", "rotate"])]
    pub(crate) ring: Option<Duration>,
    /// Save the last seconds whenever a decode call took longer than MS
    ///
    /// What led to it (as much as --ring says, or 10 seconds) and one second more
    /// goes to NAME-1.llmtrace, the next to NAME-2.llmtrace and so on, with a mark
    /// at the slow token. Slow tokens of that second are marked in the same file.
    /// Other endings write the last seconds to FILE.
    #[arg(long, value_name = "MS", value_parser = millis, conflicts_with_all = ["max_size", "rotate"])]
    pub(crate) trigger_tpot: Option<Duration>,
    /// With --ring or --trigger-tpot: end after this many saves [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) triggers: Option<u32>,
    /// End when the file has this many bytes: 500M, 2G (millions, billions)
    ///
    /// The file, its footer included, does not become larger.
    #[arg(long, value_name = "BYTES", value_parser = size, conflicts_with = "rotate")]
    pub(crate) max_size: Option<u64>,
    /// Begin a new file after so many bytes (500M, 2G) or seconds (60, 90s, 10min, 2h)
    ///
    /// The files are NAME-0001.llmtrace, NAME-0002.llmtrace and so on. Each is
    /// complete; times in all of them count from the same start. A new file begins
    /// between two calls of the engine, where there is such a moment.
    #[arg(long, value_name = "SIZE|TIME", value_parser = rotate)]
    pub(crate) rotate: Option<Rotate>,
    /// With --rotate: keep only the newest K files
    #[arg(long, value_name = "K", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
}

/// When a new file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotate {
    /// After so many bytes.
    Bytes(u64),
    /// After so much time.
    Every(Duration),
}

impl Long {
    /// How much a ring keeps, when there is one.
    pub(super) fn ring(&self) -> Option<Duration> {
        self.ring.or(self.trigger_tpot.map(|_| DEFAULT_RING))
    }

    /// Whether SIGUSR1 saves something.
    pub(crate) fn saves(&self) -> bool {
        self.ring().is_some()
    }

    /// Checks what clap cannot.
    pub(crate) fn check(&self) -> Result<()> {
        if self.triggers.is_some() && !self.saves() {
            bail!("--triggers counts saves: give --trigger-tpot or --ring, too");
        }
        Ok(())
    }
}

/// Seconds, with fractions.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a possible duration".to_owned())
}

fn millis(text: &str) -> Result<Duration, String> {
    let millis: f64 = text.parse().map_err(|_| "not a number of milliseconds".to_owned())?;
    Duration::try_from_secs_f64(millis / 1e3).map_err(|_| "not a possible duration".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_suffix('B').unwrap_or(&upper);
    let units = [("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)];
    let found = units.iter().find_map(|(unit, size)| Some((number.strip_suffix(unit)?, *size)));
    let (number, unit) = found.unwrap_or((number, 1.0));
    let number: f64 = number.trim().parse().map_err(|_| "not a size: write 500M or 2G".to_owned())?;
    let bytes = (number * unit) as u64;
    if bytes < MIN_BYTES {
        return Err("less than a recording takes: at least 400K".to_owned());
    }
    Ok(bytes)
}

fn rotate(text: &str) -> Result<Rotate, String> {
    let units = [("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    let timed = units.iter().find_map(|(unit, secs)| Some((text.strip_suffix(unit)?, *secs)));
    let (number, secs) = timed.unwrap_or((text, 1.0));
    let Ok(number) = number.trim().parse::<f64>() else {
        return size(text).map(Rotate::Bytes).map_err(|_| "neither 500M or 2G nor 60, 90s, 10min, 2h".into());
    };
    match Duration::try_from_secs_f64(number * secs) {
        Ok(every) if every >= Duration::from_secs(1) => Ok(Rotate::Every(every)),
        _ => Err("less than a second".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_apart() {
        assert_eq!(size("500M"), Ok(500_000_000));
        assert_eq!(size("2gb"), Ok(2_000_000_000));
        assert_eq!(size("1.5G"), Ok(1_500_000_000));
        assert_eq!(size("2000000"), Ok(2_000_000));
        for wrong in ["", "M", "-5M", "500X", "10", "NaN", "infM ", "1e3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rotate("100M"), Ok(Rotate::Bytes(100_000_000)));
        for (text, secs) in [("60", 60), ("90s", 90), ("10min", 600), ("2h", 7200)] {
            assert_eq!(rotate(text), Ok(Rotate::Every(Duration::from_secs(secs))));
        }
        for wrong in ["", "0", "0.5s", "-3", "5 parsecs", "10k", "1e400"] {
            assert!(rotate(wrong).is_err(), "{wrong}");
        }
    }
}
