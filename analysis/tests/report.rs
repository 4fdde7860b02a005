//! Reports as a browser sees them. Needs a Chromium: `.ci/browser.sh` looks for one.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use llmtrace_analysis::Trace;
use llmtrace_analysis::format::Source;
use llmtrace_analysis::report::html;
use std::fs::File;
use std::path::Path;
use std::process::Command;

fn sample() -> Trace {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces/gemma3-270m-2t.llmtrace");
    Trace::open(Source::from_file(File::open(path).unwrap()), &mut |_| true).unwrap()
}

/// What the page is once the browser has read it.
fn dom(folder: &Path, page: &str) -> String {
    let file = folder.join("report.html");
    std::fs::write(&file, page).unwrap();
    let chromium = std::env::var("LLMTRACE_TEST_CHROMIUM").expect("LLMTRACE_TEST_CHROMIUM names a Chromium");
    let mut command = Command::new(chromium);
    // A sandbox needs privileges of its own, and what is opened is ours.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    let output = command
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn elements(dom: &str, name: &str) -> usize {
    dom.match_indices(&format!("<{name}"))
        .filter(|(at, found)| dom[at + found.len()..].starts_with([' ', '>', '/']))
        .count()
}

#[test]
#[ignore = "needs a Chromium"]
fn a_browser_reads_a_report_as_it_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let page = html(&sample(), "gemma3-270m-2t.llmtrace", &|_| true).unwrap();
    let dom = dom(folder.path(), &page);
    assert_eq!(elements(&dom, "section"), elements(&page, "section"));
    for name in ["table", "tr", "td", "polyline", "rect", "h2"] {
        assert!(elements(&page, name) > 0, "{name}");
        assert_eq!(elements(&dom, name), elements(&page, name), "{name}: the parser had to repair something");
    }
    assert!(dom.contains("MUL_MAT"));
}

#[test]
#[ignore = "needs a Chromium"]
fn a_browser_finds_no_markup_in_the_strings_of_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = sample();
    let hostile = "</title></style></p><script>document.title='run'</script>\
                   <img src=x onerror=\"document.title='run'\">'><svg onload=document.title='run'>";
    trace.file.strings.iter_mut().for_each(|text| *text = hostile.to_owned());
    let recording = trace.file.recording.as_mut().unwrap();
    recording.target.models = vec![hostile.to_owned()];
    recording.target.exe = hostile.to_owned();
    recording.host.cpu_model = hostile.to_owned();
    let page = html(&trace, hostile, &|_| true).unwrap();
    // Without the policy, so that it is not what keeps scripts from running.
    let (before, rest) = page.split_once("<meta http-equiv=Content-Security-Policy").unwrap();
    let page = format!("{before}{}", rest.split_once(">\n").unwrap().1);
    let dom = dom(folder.path(), &page);
    assert_eq!((elements(&dom, "script"), elements(&dom, "img")), (0, 0));
    assert_eq!(elements(&dom, "svg"), elements(&page, "svg"));
    assert!(dom.contains("<title>&lt;/title&gt;"), "the title is the text");
}
