//! The drawings of a report, as SVG inside of the page. Their size does not depend on the trace's.

use super::html::Html;
use crate::text::duration;
use crate::{Phase, Trace};

/// Most columns of the drawing of tokens: with more tokens, several share one.
const MOST_COLUMNS: usize = 400;
/// Left edge, top, width and height of what is drawn, in units of the drawing.
const PLOT: [f64; 4] = [64.0, 8.0, 880.0, 170.0];

/// A bar whose parts are `shares` (from 0 to 1) wide, in the colours of their places.
pub(super) fn bar(html: &mut Html, shares: &[f64]) {
    html.markup("<svg class=bar viewBox=\"0 0 1000 18\" preserveAspectRatio=none role=img aria-label=\"parts of a call\">");
    let mut left = 0.0;
    for (place, share) in shares.iter().enumerate() {
        let width = share.clamp(0.0, 1.0) * 1000.0;
        html.markup("<rect class=\"").text(color(place)).markup("\" x=\"").number(left);
        html.markup("\" width=\"").number(width).markup("\" height=\"18\"/>");
        left += width;
    }
    html.markup("</svg>\n");
}

/// The class of a part by its place: its colour.
pub(super) fn color(place: usize) -> &'static str {
    const COLORS: [&str; 9] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];
    COLORS.get(place).copied().unwrap_or("c8")
}

/// Consecutive tokens: the shortest, the longest and the mean, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    shortest: f64,
    longest: f64,
    mean: f64,
}

/// As many columns as fit, of as many tokens each.
fn columns(nanos: &[f64]) -> (usize, Vec<Column>) {
    let each = nanos.len().div_ceil(MOST_COLUMNS).max(1);
    let column = |tokens: &[f64]| Column {
        shortest: tokens.iter().copied().fold(f64::INFINITY, f64::min),
        longest: tokens.iter().copied().fold(0.0, f64::max),
        mean: tokens.iter().sum::<f64>() / tokens.len() as f64,
    };
    (each, nanos.chunks(each).map(column).collect())
}

/// How long each generated token took, one after the other, and the median in nanoseconds; says so
/// when there is none.
pub(super) fn tokens(html: &mut Html, trace: &Trace, median: Option<f64>) {
    let decoded = || trace.tokens.iter().filter(|token| token.phase == Phase::Decode);
    let nanos: Vec<f64> = decoded().map(|token| token.range.nanos() as f64).collect();
    let numbers = || decoded().map(|token| token.number);
    let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else {
        html.markup("<p class=weak>No token was generated during the recording.</p>\n");
        return;
    };
    let (each, columns) = columns(&nanos);
    let top = columns.iter().map(|column| column.longest).fold(1.0, f64::max) * 1.08;
    let [left, above, width, height] = PLOT;
    let x = |at: usize| left + (at as f64 + 0.5) * width / columns.len() as f64;
    let y = |nanos: f64| above + height * (1.0 - nanos / top);
    html.markup(
        "<svg class=plot viewBox=\"0 0 960 210\" role=img aria-label=\"time of each generated token\">",
    );
    for mark in marks(top) {
        html.markup("<line class=grid x1=\"64\" x2=\"944\" y1=\"").number(y(mark));
        html.markup("\" y2=\"").number(y(mark)).markup("\"/>");
        html.markup("<text class=end x=\"58\" y=\"").number(y(mark) + 4.0);
        html.around("\">", &duration(mark), "</text>");
    }
    if let Some(median) = median {
        html.markup("<line class=median x1=\"64\" x2=\"944\" y1=\"").number(y(median));
        html.markup("\" y2=\"").number(y(median)).markup("\"/>");
    }
    for (at, column) in columns.iter().enumerate().filter(|_| each > 1) {
        html.markup("<line class=spread x1=\"").number(x(at)).markup("\" x2=\"").number(x(at));
        html.markup("\" y1=\"").number(y(column.shortest)).markup("\" y2=\"").number(y(column.longest));
        html.markup("\"/>");
    }
    html.markup("<polyline class=line points=\"");
    for (at, column) in columns.iter().enumerate() {
        html.number(x(at)).markup(",").number(y(column.mean)).markup(" ");
    }
    html.markup("\"/><text x=\"64\" y=\"200\">d").text(&first.to_string());
    html.markup("</text><text class=end x=\"944\" y=\"200\">d").text(&last.to_string());
    html.markup("</text></svg>\n<p class=weak>The level line is the median of the calls, ");
    html.text(&crate::text::known(median, duration));
    if each > 1 {
        html.markup("; each column is ").text(&each.to_string());
        html.markup(" tokens, from the shortest to the longest, and the line is their mean");
    }
    html.markup(".</p>\n");
}

/// Round values up to `top`, a handful.
fn marks(top: f64) -> Vec<f64> {
    let rough = (top / 4.0).max(1.0);
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * magnitude).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=5).map(|at| f64::from(at) * step).filter(|mark| *mark <= top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_drawn_with_as_many_columns_as_a_short_one() {
        let nanos: Vec<f64> = (0..1_000_000).map(|at| f64::from(at % 7) + 1.0).collect();
        let (each, drawn) = columns(&nanos);
        assert_eq!((each, drawn.len()), (2500, 400));
        assert_eq!((drawn[0].shortest, drawn[0].longest), (1.0, 7.0));
        let (each, drawn) = columns(&[5.0, 3.0]);
        assert_eq!((each, drawn.len(), drawn[1]), (1, 2, Column { shortest: 3.0, longest: 3.0, mean: 3.0 }));
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(marks(18.0e6), [0.0, 5e6, 10e6, 15e6]);
        assert_eq!(marks(1.0), [0.0, 1.0]);
    }
}
