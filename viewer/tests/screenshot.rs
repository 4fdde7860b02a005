//! Pictures drawn without a display show what they should.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use image::RgbaImage;
use llmtrace_analysis::synth::{Options, bytes};
use llmtrace_viewer::screenshot::{Shot, render};
use llmtrace_viewer::state::Page;
use llmtrace_viewer::theme::{DARK, LIGHT, OpClass, ThemeChoice};
use std::collections::HashSet;

fn shot(page: Page, theme: ThemeChoice) -> Shot {
    Shot { page, size: [1000, 600], scale: 1.0, theme, range: None, select: None }
}

fn trace(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("synthetic.llmtrace");
    std::fs::write(&path, bytes(&Options::new(60_000, 2, 1)).unwrap()).unwrap();
    path
}

fn pixels_of(image: &RgbaImage, color: egui::Color32) -> usize {
    image.pixels().filter(|pixel| pixel.0 == color.to_array()).count()
}

#[test]
fn both_themes_and_pages_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace(folder.path());
    for (theme, colors) in [(ThemeChoice::Light, &LIGHT), (ThemeChoice::Dark, &DARK)] {
        for page in [Page::Overview, Page::Timeline, Page::Operators, Page::Graph, Page::Roofline] {
            let image = render(&path, &shot(page, theme)).unwrap();
            assert_eq!(image.dimensions(), (1000, 600));
            assert!(pixels_of(&image, colors.background) > 20_000);
            let (seen, least) = match page {
                Page::Overview => (pixels_of(&image, colors.card), 20_000),
                // The sample has none, and the page says so.
                Page::Experts | Page::Counters | Page::Compare => {
                    (pixels_of(&image, colors.background), 20_000)
                }
                Page::Timeline => (pixels_of(&image, colors.op(OpClass::Matmul)), 20_000),
                Page::Graph => (pixels_of(&image, colors.lane), 20_000),
                Page::Operators => (pixels_of(&image, colors.op(OpClass::Matmul)), 1_000),
                // A point.
                Page::Roofline => (pixels_of(&image, colors.op(OpClass::Matmul)), 40),
            };
            assert!(seen > least, "{page:?} {theme:?}: {seen}");
            let distinct: HashSet<[u8; 4]> = image.pixels().map(|pixel| pixel.0).collect();
            assert!(distinct.len() > 200, "text is smooth");
        }
    }
}

#[test]
fn scale_doubles_the_pixels_and_range_zooms() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace(folder.path());
    let mut wanted = shot(Page::Timeline, ThemeChoice::Light);
    let whole = render(&path, &wanted).unwrap();
    wanted.scale = 2.0;
    wanted.range = Some("token:5".into());
    wanted.select = Some("ffn_up-3".into());
    let token = render(&path, &wanted).unwrap();
    assert_eq!(token.dimensions(), (2000, 1200));
    assert!(pixels_of(&whole, LIGHT.prefill) > 500);
    assert!(pixels_of(&token, LIGHT.prefill) < 100);
}

#[test]
fn what_cannot_be_drawn_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace(folder.path());
    for range in ["token:9999", "token:x", "5", "9s..1s", "1..2"] {
        let wanted = Shot { range: Some(range.into()), ..shot(Page::Timeline, ThemeChoice::Light) };
        assert!(render(&path, &wanted).is_err(), "{range}");
    }
    let wanted = Shot { select: Some("no such node".into()), ..shot(Page::Timeline, ThemeChoice::Light) };
    assert!(render(&path, &wanted).is_err());
    let missing = render(&folder.path().join("missing"), &shot(Page::Overview, ThemeChoice::Dark));
    assert!(missing.is_err_and(|error| error.to_string().contains("missing")));
}
