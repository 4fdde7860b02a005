//! A trace as one page of HTML to send around: overview, where the time goes, findings with their
//! evidence, operators, environment, and what is uncertain. It needs nothing from elsewhere and
//! runs nothing; strings of the trace are text in it, whatever they say.

mod chart;
mod environment;
mod html;

use crate::explain::{Explanation, PhaseAnswer, explain};
use crate::findings::Finding;
use crate::summary::{PhaseSummary, Summary, summary};
use crate::text::{bytes, count, duration, known, percent, plural, three};
use crate::trace::LoadProgress;
use crate::verdict::Verdict;
use crate::{Trace, glossary};
use html::Html;
use llmtrace_format::Result;

/// Most operators on the page.
const MOST_OPERATORS: usize = 20;

/// The page of a trace; `name` is that of its file. Goes through all op spans once.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn html(trace: &Trace, name: &str, progress: LoadProgress<'_>) -> Result<String> {
    trace.load_nodes(&|part| progress(part / 2.0))?;
    let found = explain(trace, &|part| progress(0.5 + part / 2.0))?;
    let summary = summary(trace);
    let title = summary.models.first().map_or(name, String::as_str);
    let mut page = Html::default();
    page.markup(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=referrer content=no-referrer>\n<title>",
    );
    page.text(title).markup(" – llmtrace</title>\n<style>\n").markup(include_str!("style.css"));
    page.markup("</style></head>\n<body><main>\n");
    page.around("<h1>", title, "</h1>\n");
    page.around("<p class=weak>", &environment::line(trace, name), "</p>\n");
    figures(&mut page, &summary);
    caveats(&mut page, &environment::caveats(trace, &summary, &found));
    limits(&mut page, &found);
    parts(&mut page, &found);
    page.markup("<section id=tokens><h2>Time per token</h2>\n");
    let median = summary.decode.tpot_ms.map(|tpot| tpot.p50 * 1e6);
    chart::tokens(&mut page, trace, median);
    page.markup("</section>\n");
    findings(&mut page, &found.findings);
    operators(&mut page, &summary);
    page.markup("<section id=environment class=long><h2>Environment</h2>\n");
    page.pairs(&environment::pairs(trace, name));
    page.markup("</section>\n");
    terms(&mut page);
    page.markup("<footer>Made by llmtrace ").text(env!("CARGO_PKG_VERSION"));
    page.markup(" from ").text(name).markup(".</footer>\n</main></body></html>\n");
    Ok(page.into_string())
}

fn figures(page: &mut Html, found: &Summary) {
    let speed = |phase: &PhaseSummary| (known(phase.tokens_per_second, three), tokens_of(phase));
    let millis = |ms: f64| duration(ms * 1e6);
    let decode = &found.decode;
    let tpot = decode.tpot_ms;
    let (decode_speed, decode_tokens) = speed(&decode.phase);
    let (prefill_speed, prefill_tokens) = speed(&found.prefill);
    let probes = decode.probe_ms_per_token;
    let without = decode.tokens_per_second_corrected;
    let figures = [
        ("decode, tokens/s", decode_speed, decode_tokens),
        (
            "time per token, median",
            known(tpot, |tpot| millis(tpot.p50)),
            tpot.map_or_else(String::new, |tpot| {
                format!("95 % within {}, longest {}", millis(tpot.p95), millis(tpot.max))
            }),
        ),
        ("prefill, tokens/s", prefill_speed, prefill_tokens),
        (
            "recorded",
            duration(found.duration_s * 1e9),
            format!("{}, {}", plural(found.graph_runs, "graph run", "graph runs"), bytes(found.file_bytes)),
        ),
        (
            "threads",
            known(found.threads, |threads| count(threads.into())),
            found.level.map_or_else(String::new, |level| format!("level {}", level.name())),
        ),
        (
            "recording cost a token",
            known(probes, millis),
            without.map_or_else(String::new, |speed| format!("{} tokens/s without", three(speed))),
        ),
    ];
    page.markup("<div class=figures>\n");
    for (name, value, more) in figures {
        page.around("<div><span>", name, "</span>").around("<b>", &value, "</b>");
        page.around("<span>", &more, "</span></div>\n");
    }
    page.markup("</div>\n");
}

fn tokens_of(phase: &PhaseSummary) -> String {
    if phase.calls == 0 {
        return "no call was recorded".to_owned();
    }
    let tokens = phase.tokens.map_or_else(|| "unknown tokens".to_owned(), |it| plural(it, "token", "tokens"));
    format!("{tokens} in {}", known(phase.ms, |ms| duration(ms * 1e6)))
}

fn caveats(page: &mut Html, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.markup("<section id=caveats class=caveats><h2>Caveats</h2><ul>\n");
    for line in lines {
        page.around("<li>", line, "</li>\n");
    }
    page.markup("</ul></section>\n");
}

fn limits(page: &mut Html, found: &Explanation) {
    page.markup("<section id=limits><h2>What limits it</h2>\n<div class=wide>");
    let row = |of: &str, verdict: &Verdict| {
        let (bound, confidence) = (verdict.bound.name(), verdict.confidence.name());
        vec![of.to_owned(), bound.to_owned(), confidence.to_owned(), verdict.evidence.join(", ")]
    };
    let mut rows = vec![row("run", &found.run)];
    rows.extend(found.phases.iter().map(|answer| row(answer.phase.name(), &answer.verdict)));
    page.table(&["of", "verdict", "confidence", "evidence"], 4, &rows);
    page.markup("</div>\n");
    for missing in &found.run.missing {
        page.around("<p class=weak>Not known: ", missing, "</p>\n");
    }
    page.markup("</section>\n");
}

fn parts(page: &mut Html, found: &Explanation) {
    page.markup("<section id=parts><h2>Where the time of a call goes</h2>\n");
    if found.phases.is_empty() {
        page.markup("<p class=weak>No call was recorded.</p>\n");
    }
    for answer in &found.phases {
        phase_parts(page, answer);
    }
    page.markup("</section>\n");
}

fn phase_parts(page: &mut Html, answer: &PhaseAnswer) {
    let wall = answer.parts.wall().max(1) as f64;
    let each = |nanos: u64| duration(nanos as f64 / answer.calls.max(1) as f64);
    page.around("<h3>", answer.phase.name(), ": ").text(&plural(answer.calls, "call", "calls"));
    page.around(" of ", &each(answer.parts.wall()), " on average</h3>\n");
    let named = answer.parts.named();
    chart::bar(page, &named.map(|(_, nanos)| nanos.unwrap_or(0) as f64 / wall));
    page.markup(
        "<table><thead><tr><th>part</th><th class=n>a call</th><th class=n>share</th></tr></thead><tbody>\n",
    );
    for (place, (name, nanos)) in named.into_iter().enumerate() {
        page.markup("<tr><td><i class=").text(chart::color(place)).markup("></i>").text(name);
        let time = nanos.map_or_else(|| "not recorded".to_owned(), each);
        page.around("</td><td class=n>", &time, "</td>");
        page.around("<td class=n>", &known(nanos, |nanos| percent(nanos as f64 / wall)), "</td></tr>\n");
    }
    page.markup("</tbody></table>\n");
}

fn findings(page: &mut Html, findings: &[Finding]) {
    page.markup("<section id=findings class=long><h2>Findings about generating, the dearest first</h2>\n");
    if findings.is_empty() {
        page.markup("<p class=weak>Nothing costs more than a hundredth of a token.</p>\n");
    }
    for finding in findings {
        page.around("<div class=finding><h3>", &finding.title, "</h3>\n");
        match finding.ms_per_token.zip(finding.share) {
            Some((ms, share)) => {
                page.around("<p><span class=cost>", &duration(ms * 1e6), " a token</span>, ");
                page.text(&percent(share)).markup("</p><ul>\n");
            }
            None => {
                page.markup("<p class=weak>No cost by itself</p><ul>\n");
            }
        }
        for line in &finding.evidence {
            page.around("<li>", line, "</li>\n");
        }
        page.around("</ul><p class=advice><b>Try:</b> ", &finding.advice, "</p></div>\n");
    }
    page.markup("</section>\n");
}

fn operators(page: &mut Html, found: &Summary) {
    page.markup("<section id=operators class=long><h2>Operators by time, summed over threads</h2>\n");
    if found.operators.is_empty() {
        page.markup("<p class=weak>No operators were recorded.</p></section>\n");
        return;
    }
    page.markup(
        "<div class=wide><table><thead><tr><th>operator</th><th class=n>time</th><th class=n>share</th><th></th>\
         <th class=n>wait</th><th class=n>wait share</th><th class=n>count</th></tr></thead><tbody>\n",
    );
    for operator in found.operators.iter().take(MOST_OPERATORS) {
        page.around("<tr><td>", &operator.op, "</td>");
        page.around("<td class=n>", &duration(operator.compute_nanos as f64), "</td>");
        page.around("<td class=n>", &percent(operator.share), "</td>");
        page.markup("<td><span class=share style=\"width:").number(operator.share.clamp(0.0, 1.0) * 120.0);
        page.markup("px\"></span></td>");
        let wait = known(operator.wait_nanos, |nanos| duration(nanos as f64));
        page.around("<td class=n>", &wait, "</td>");
        page.around("<td class=n>", &known(operator.wait_share, percent), "</td>");
        page.around("<td class=n>", &count(operator.count), "</td></tr>\n");
    }
    page.markup("</tbody></table></div>\n");
    if found.operators.len() > MOST_OPERATORS {
        page.around("<p class=weak>", &MOST_OPERATORS.to_string(), " of ");
        page.text(&found.operators.len().to_string()).markup(".</p>\n");
    }
    page.markup("</section>\n");
}

/// What the words of the page mean.
fn terms(page: &mut Html) {
    page.markup("<section id=terms class=long><details><summary>What the words mean</summary><dl>\n");
    for term in glossary::TERMS.iter().filter(|term| term.in_report) {
        page.around("<dt>", term.name, "</dt>").around("<dd>", &term.tooltip(), "</dd>\n");
    }
    page.markup("</dl></details></section>\n");
}

#[cfg(test)]
mod tests;
