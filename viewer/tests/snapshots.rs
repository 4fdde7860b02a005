//! Pictures of pages against those that are kept, made small so that only what people would notice
//! counts: a page that lost its contents, colours that changed. The rasteriser is our own, so that
//! they are the same on every machine. `LLMTRACE_BLESS=1 cargo test -p llmtrace-viewer --test
//! snapshots` keeps new ones; look at them.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbaImage};
use llmtrace_viewer::screenshot::{Shot, render_pair};
use llmtrace_viewer::state::Page;
use llmtrace_viewer::theme::ThemeChoice;
use std::path::{Path, PathBuf};

/// Size of what is kept.
const KEPT: (u32, u32) = (240, 135);
/// A pixel differs when a channel does by more than this.
const CHANNEL: u8 = 40;
/// Part of the pixels that may.
const DIFFERENT: f64 = 0.04;

struct Case {
    name: &'static str,
    sample: &'static str,
    page: Page,
    range: Option<&'static str>,
    select: Option<&'static str>,
}

const GEMMA: &str = "gemma3-270m-2t.llmtrace";
const MOE: &str = "qwen3moe-synthetic-2t.llmtrace";

/// What the page of two traces compares with.
const SECOND: &str = "gemma3-270m-preempted-2t.llmtrace";
const FIRST: &str = "gemma3-270m-undisturbed-2t.llmtrace";

const CASES: [Case; 8] = [
    Case { name: "timeline", sample: GEMMA, page: Page::Timeline, range: None, select: None },
    Case {
        name: "node",
        sample: GEMMA,
        page: Page::Timeline,
        range: Some("token:9"),
        select: Some("ffn_up-3"),
    },
    Case { name: "operators", sample: GEMMA, page: Page::Operators, range: None, select: None },
    Case { name: "graph", sample: GEMMA, page: Page::Graph, range: None, select: None },
    Case { name: "graph-node", sample: MOE, page: Page::Graph, range: None, select: Some("ffn_moe_gate-3") },
    Case { name: "roofline", sample: GEMMA, page: Page::Roofline, range: None, select: None },
    Case { name: "compare", sample: FIRST, page: Page::Compare, range: None, select: None },
    Case { name: "compare-row", sample: FIRST, page: Page::Compare, range: None, select: Some("ffn_up") },
];

fn small(case: &Case, theme: ThemeChoice) -> RgbaImage {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces");
    let (path, second) = (samples.join(case.sample), samples.join(SECOND));
    let second = (case.page == Page::Compare).then_some(second);
    let shot = Shot {
        page: case.page,
        size: [1280, 720],
        scale: 1.0,
        theme,
        range: case.range.map(str::to_owned),
        select: case.select.map(str::to_owned),
    };
    resize(&render_pair(&path, second.as_deref(), &shot).unwrap(), KEPT.0, KEPT.1, FilterType::Triangle)
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.png"))
}

/// Part of the pixels that differ.
fn difference(a: &RgbaImage, b: &RgbaImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let differs = |(a, b): &(&image::Rgba<u8>, &image::Rgba<u8>)| {
        a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > CHANNEL)
    };
    a.pixels().zip(b.pixels()).filter(differs).count() as f64 / f64::from(a.width() * a.height())
}

#[test]
fn pages_look_as_they_did() {
    let bless = std::env::var_os("LLMTRACE_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in &CASES {
        for (theme, suffix) in [(ThemeChoice::Light, "light"), (ThemeChoice::Dark, "dark")] {
            let name = format!("{}-{suffix}", case.name);
            let now = small(case, theme);
            if bless {
                std::fs::create_dir_all(kept(&name).parent().unwrap()).unwrap();
                now.save_with_format(kept(&name), ImageFormat::Png).unwrap();
                continue;
            }
            let before = image::load_from_memory(&std::fs::read(kept(&name)).unwrap()).unwrap().into_rgba8();
            let part = difference(&before, &now);
            if part > DIFFERENT {
                let new = std::env::temp_dir().join(format!("llmtrace-{name}.png"));
                now.save_with_format(&new, ImageFormat::Png).unwrap();
                wrong.push(format!("{name}: {:.1} % differ, see {}", part * 100.0, new.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn another_page_or_theme_would_be_noticed() {
    let image = |index: usize, theme| small(&CASES[index], theme);
    let timeline = image(0, ThemeChoice::Light);
    assert!(difference(&timeline, &image(0, ThemeChoice::Dark)) > DIFFERENT * 5.0);
    assert!(difference(&timeline, &image(2, ThemeChoice::Light)) > DIFFERENT);
    assert!(difference(&timeline, &image(3, ThemeChoice::Light)) > DIFFERENT);
    assert_eq!(difference(&timeline, &image(0, ThemeChoice::Light)), 0.0);
}
