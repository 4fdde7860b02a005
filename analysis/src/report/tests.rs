//! Reports of real samples, and of a trace whose strings want to be markup.

use super::html;
use crate::Trace;
use llmtrace_format::Source;

fn sample(name: &str) -> Trace {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
}

#[test]
fn a_report_has_its_sections_and_the_numbers_of_summary() {
    let trace = sample("gemma3-270m-2t");
    let page = html(&trace, "gemma.llmtrace", &|_| true).unwrap();
    for id in ["limits", "parts", "tokens", "findings", "operators", "environment", "terms"] {
        assert!(page.contains(&format!("<section id={id}")), "{id}");
    }
    let found = crate::summary::summary(&trace);
    assert!(page.contains(&crate::text::three(found.decode.phase.tokens_per_second.unwrap())));
    assert!(page.contains(&found.operators[0].op));
    // Nothing from elsewhere, nothing that runs.
    for active in ["<script", "http://", "https://", "url(", "@import", "<img", "<iframe", "<link"] {
        assert!(!page.contains(active), "{active}");
    }
}

#[test]
fn strings_of_a_trace_stay_text() {
    let mut trace = sample("gemma3-270m-2t");
    let hostile = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u{202e}\u{1b}[2J";
    for text in &mut trace.file.strings {
        *text = hostile.to_owned();
    }
    let recording = trace.file.recording.as_mut().unwrap();
    recording.target.models = vec![hostile.to_owned()];
    recording.target.exe = hostile.to_owned();
    recording.host.cpu_model = hostile.to_owned();
    recording.level_reason = hostile.to_owned();
    let page = html(&trace, hostile, &|_| true).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the name is shown");
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(!page.contains(['\u{202e}', '\u{1b}']), "control characters are written out");
    // Only our own elements: each `<` begins one of these.
    let known = [
        "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "div",
        "span", "b>", "section", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "i ", "svg",
        "rect", "line", "text", "polyline", "details", "summary", "dl", "dt", "dd", "footer",
    ];
    for (at, _) in page.match_indices('<') {
        let rest = page[at + 1..].trim_start_matches('/');
        assert!(known.iter().any(|name| rest.starts_with(name)) || rest.starts_with("i>"), "{}", &rest[..20]);
    }
}

#[test]
fn a_trace_without_operators_says_so() {
    let trace = sample("gemma3-270m-2t");
    assert!(matches!(html(&trace, "x", &|_| false), Err(llmtrace_format::Error::Cancelled)));
}
