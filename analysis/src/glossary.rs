//! What the words and numbers mean: the one place that says so. Tooltips of the app, the terms at
//! the end of a report and `docs/glossary.md` come from here.

mod terms;

pub use terms::TERMS;

use std::fmt::Write as _;

/// A word or a number that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The word.
    pub name: &'static str,
    /// What it means.
    pub is: &'static str,
    /// How it is computed, with its unit; empty for what is only counted or named.
    pub formula: &'static str,
    /// Under which heading of the glossary it stands.
    pub topic: Topic,
    /// Whether a report explains it.
    pub in_report: bool,
}

/// A heading of the glossary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What is recorded.
    Recording,
    /// How fast.
    Speed,
    /// Times of operators.
    Operators,
    /// Where a call's time goes.
    Parts,
    /// What limits.
    Limits,
    /// Requests, the KV cache, experts, backends.
    Around,
    /// What the kernel and the processor say.
    Machine,
    /// Of a comparison.
    Comparison,
}

impl Topic {
    /// All, with their headings.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Recording, "What is recorded"),
        (Self::Speed, "Speed"),
        (Self::Operators, "Operators and their times"),
        (Self::Parts, "Where a call's time goes"),
        (Self::Limits, "What limits it"),
        (Self::Around, "Requests, cache, experts, backends"),
        (Self::Machine, "The machine"),
        (Self::Comparison, "Two runs"),
    ];
}

impl Term {
    /// Meaning and formula in one line.
    pub fn tooltip(&self) -> String {
        match self.formula {
            "" => self.is.to_owned(),
            formula => format!("{}\n= {formula}", self.is),
        }
    }
}

/// The term of a name.
pub fn term(name: &str) -> Option<&'static Term> {
    TERMS.iter().find(|term| term.name == name)
}

/// Meaning and formula of a name; empty when it is no term.
pub fn tooltip(name: &str) -> String {
    term(name).map(Term::tooltip).unwrap_or_default()
}

/// The glossary in Markdown: `docs/glossary.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Glossary\n\nThe words and numbers of the app, the command line and the report. This page is what \
         `llmtrace-viewer --glossary` prints; the app's tooltips say the same.\n",
    );
    for (topic, heading) in Topic::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n## {heading}\n\n| term | is | formula |\n|---|---|---|");
        for term in TERMS.iter().filter(|term| term.topic == topic) {
            let _ = writeln!(text, "| {} | {} | {} |", term.name, term.is, term.formula);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_term_is_defined_once_and_fits_a_table() {
        let mut seen = HashSet::new();
        for term in TERMS {
            assert!(seen.insert(term.name), "{} twice", term.name);
            assert!(!term.is.is_empty());
            let said = [term.name, term.is, term.formula].concat();
            assert!(!said.contains(['|', '\n']), "{}", term.name);
        }
        assert!(Topic::ALL.iter().all(|(topic, _)| TERMS.iter().any(|term| term.topic == *topic)));
    }

    #[test]
    fn every_part_and_verdict_is_a_term() {
        let parts = crate::attribution::Parts::default().named();
        assert_eq!(parts.iter().filter(|(name, _)| term(name).is_none()).count(), 0, "{parts:?}");
        use crate::verdict::Bound;
        for bound in [
            Bound::Memory,
            Bound::Compute,
            Bound::Synchronisation,
            Bound::Overhead,
            Bound::Io,
            Bound::Mixed,
            Bound::Unknown,
        ] {
            assert!(term(bound.name()).is_some(), "{}", bound.name());
        }
    }

    #[test]
    fn the_page_in_docs_says_the_same() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/glossary.md");
        if std::env::var_os("LLMTRACE_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == markdown(), "llmtrace-viewer --glossary > docs/glossary.md");
    }
}
