//! What a comparison comes to, in a sentence: the same on the command line and in the app.

use super::{Change, Diff, Outcome};
use crate::text::clean;

impl Diff {
    /// Which side is slower, by how much, and how sure that is.
    pub fn verdict(&self) -> String {
        let change = &self.change;
        let unit = self.unit.name();
        let percent = known(change.percent, |percent| format!("{:.1} %", percent.abs()));
        let from =
            format!("{:.3} → {:.3} ms a {unit} ({})", self.a.median_ms, self.b.median_ms, self.phase.name());
        let range = change.interval();
        match self.outcome {
            Outcome::Slower => format!("B is {percent} slower than A: {from}, {range}"),
            Outcome::Faster => format!("B is {percent} faster than A: {from}, {range}"),
            Outcome::Disturbed => {
                let way = if change.ms > 0.0 { "slower" } else { "faster" };
                let own = self.undisturbed.and_then(|own| own.percent);
                let own = known(own, |own| format!("{own:+.1} %"));
                let disturbed = self.disturbed();
                format!(
                    "B is {percent} {way} than A, but less than half of that in its own work ({own}): \
                     {disturbed}: {from}, {range}"
                )
            }
            Outcome::NoDifference => format!("no difference beyond chance: {from}, {range}"),
            Outcome::NotKnown => format!("too little to tell: {from}"),
        }
    }

    /// Which run was disturbed, as far as it is known, and by whom.
    fn disturbed(&self) -> String {
        let Some(lost) = self.preempted.filter(|lost| lost.significant) else {
            return "one of the runs was disturbed".to_owned();
        };
        let (name, side) = if lost.ms > 0.0 { ("B", &self.b) } else { ("A", &self.a) };
        let who = side.preempters.first();
        let by = who.map_or_else(String::new, |(who, _)| format!(", preempted by {}", clean(who)));
        let (ms, unit) = (lost.ms.abs(), self.unit.name());
        format!("threads of {name} had no CPU for {ms:.3} ms a {unit} more{by}")
    }
}

impl Change {
    /// Between what it lies.
    pub fn interval(&self) -> String {
        match self.percent_low.zip(self.percent_high) {
            Some((low, high)) => format!("change {low:+.1} to {high:+.1} % with 95 % confidence"),
            None => "no interval".to_owned(),
        }
    }
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}
