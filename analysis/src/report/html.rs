//! Writes HTML. Markup is known when this is compiled; all else is text and gets escaped, so that
//! no string of a trace can become markup.

use crate::text::clean;

/// A piece of a page.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup: only what stands in this program.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, which may come from a trace; also inside of an attribute's quotes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in clean(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// A coordinate, in hundredths of a unit at most.
    pub(super) fn number(&mut self, number: f64) -> &mut Self {
        let number = if number.is_finite() { (number * 100.0).round() / 100.0 } else { 0.0 };
        self.0.push_str(&number.to_string());
        self
    }

    /// `open`, text, `close`.
    pub(super) fn around(&mut self, open: &'static str, text: &str, close: &'static str) -> &mut Self {
        self.markup(open).text(text).markup(close)
    }

    /// A table whose first `left` columns are text and whose others are numbers.
    pub(super) fn table(&mut self, headings: &[&str], left: usize, rows: &[Vec<String>]) {
        let cell = |html: &mut Self, index: usize, head: bool, text: &str| {
            let (open, close) = match (head, index < left) {
                (true, true) => ("<th>", "</th>"),
                (true, false) => ("<th class=n>", "</th>"),
                (false, true) => ("<td>", "</td>"),
                (false, false) => ("<td class=n>", "</td>"),
            };
            html.around(open, text, close);
        };
        self.markup("<table><thead><tr>");
        headings.iter().enumerate().for_each(|(index, text)| cell(self, index, true, text));
        self.markup("</tr></thead>\n<tbody>");
        for row in rows {
            self.markup("<tr>");
            row.iter().enumerate().for_each(|(index, text)| cell(self, index, false, text));
            self.markup("</tr>\n");
        }
        self.markup("</tbody></table>\n");
    }

    /// Names and values; empty values are left out.
    pub(super) fn pairs(&mut self, pairs: &[(&str, String)]) {
        self.markup("<table class=pairs><tbody>");
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            self.around("<tr><th>", name, "</th>").around("<td>", value, "</td></tr>\n");
        }
        self.markup("</tbody></table>\n");
    }

    /// What was written.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup_and_cannot_turn_the_page() {
        let mut html = Html::default();
        html.around("<p title=\"", "\"><script>'&\u{202e}\u{0}", "\">");
        assert_eq!(html.into_string(), "<p title=\"&quot;&gt;&lt;script&gt;&#39;&amp;\\u{202e}\\u{0}\">");
    }

    #[test]
    fn numbers_that_are_none_do_not_break_a_drawing() {
        let mut html = Html::default();
        html.number(1.0 / 3.0).markup(" ").number(f64::NAN).markup(" ").number(f64::INFINITY);
        assert_eq!(html.into_string(), "0.33 0 0");
    }
}
