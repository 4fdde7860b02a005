//! Starts the app, or draws a picture of it.

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::screenshot::{self, Shot};
use llmtrace_viewer::state::Page;
use llmtrace_viewer::theme::ThemeChoice;
use std::path::PathBuf;
use std::process::ExitCode;

/// The icon of the window.
const ICON: &[u8] = include_bytes!("../desktop/icons/128/llmtrace-viewer.png");

/// Opens .llmtrace files.
#[derive(Parser)]
#[command(name = "llmtrace-viewer", version)]
struct Args {
    /// Trace to open
    file: Option<PathBuf>,
    /// Trace to compare it with
    second: Option<PathBuf>,
    /// Page to show first
    #[arg(long, value_enum)]
    view: Option<Page>,
    /// Theme, for this run
    #[arg(long, value_enum)]
    theme: Option<ThemeChoice>,
    /// Draw a picture of the window into this PNG file instead, without a display
    #[arg(long, value_name = "OUT.png", requires = "file")]
    screenshot: Option<PathBuf>,
    /// Size of the picture in points
    #[arg(long, value_name = "WxH", default_value = "1600x900", value_parser = parse_size)]
    size: [u32; 2],
    /// Pixels per point of the picture
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f32,
    /// Part of the timeline in the picture: A..B with s, ms, us or ns, or token:N, prefill, all
    #[arg(long, value_name = "RANGE")]
    range: Option<String>,
    /// Print the manual: pages, mouse and keys
    #[arg(long)]
    manual: bool,
    /// Print the glossary: what words and numbers mean
    #[arg(long)]
    glossary: bool,
    /// Node to select in the picture, by a piece of its name; of a comparison, a row
    #[arg(long, value_name = "NAME")]
    select: Option<String>,
}

fn parse_size(text: &str) -> Result<[u32; 2]> {
    screenshot::parse_size(text)
}

fn parse_scale(text: &str) -> Result<f32> {
    let scale: f32 = text.parse().context("not a number")?;
    if (0.5..=4.0).contains(&scale) { Ok(scale) } else { Err(anyhow!("between 0.5 and 4")) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.glossary {
        print!("{}", llmtrace_analysis::glossary::markdown());
        return ExitCode::SUCCESS;
    }
    if args.manual {
        print!("{}", llmtrace_viewer::command::manual());
        return ExitCode::SUCCESS;
    }
    let result = match &args.screenshot {
        Some(out) => write_screenshot(&args, out.clone()),
        None => run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llmtrace-viewer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_screenshot(args: &Args, out: PathBuf) -> Result<()> {
    let file = args.file.as_ref().context("a picture needs a trace")?;
    let timeline = args.range.is_some() || args.select.is_some();
    let shot = Shot {
        page: args.view.unwrap_or(match (&args.second, timeline) {
            (Some(_), _) => Page::Compare,
            (None, true) => Page::Timeline,
            (None, false) => Page::Overview,
        }),
        size: args.size,
        scale: args.scale,
        theme: args.theme.unwrap_or(ThemeChoice::Light),
        range: args.range.clone(),
        select: args.select.clone(),
    };
    let image = screenshot::render_pair(file, args.second.as_deref(), &shot)?;
    image
        .save_with_format(&out, image::ImageFormat::Png)
        .with_context(|| format!("cannot write the picture: {}", out.display()))
}

fn run(args: Args) -> Result<()> {
    let store = Store::of_user();
    let settings = store.load();
    let size = settings.window.unwrap_or([1360.0, 820.0]);
    let viewport = egui::ViewportBuilder::default()
        .with_title("llmtrace")
        .with_app_id("llmtrace-viewer")
        .with_inner_size(size)
        .with_maximized(settings.maximized)
        .with_min_inner_size([640.0, 400.0])
        .with_drag_and_drop(true);
    // Desktops without our menu entry take the icon from here.
    let viewport = match eframe::icon_data::from_png_bytes(ICON) {
        Ok(icon) => viewport.with_icon(icon),
        Err(_) => viewport,
    };
    let options = eframe::NativeOptions { viewport, ..eframe::NativeOptions::default() };
    let start = move |creation: &eframe::CreationContext<'_>| {
        let mut app = ViewerApp::new(&creation.egui_ctx, store, Jobs::Threads);
        app.state.samples = llmtrace_viewer::samples::find();
        if let Some(page) = args.view {
            app.state.page = page;
        }
        if let Some(theme) = args.theme {
            creation.egui_ctx.set_theme(egui::ThemePreference::from(theme));
        }
        if let Some(file) = args.file {
            app.open(&creation.egui_ctx, file);
        }
        if let Some(second) = args.second {
            app.apply(&creation.egui_ctx, Command::CompareWithPath(second));
            app.state.page = args.view.unwrap_or(Page::Compare);
        }
        Ok(Box::new(app) as Box<dyn eframe::App>)
    };
    eframe::run_native("llmtrace-viewer", options, Box::new(start)).map_err(|error| {
        anyhow!("cannot open a window: {error}\nWithout a display, use --screenshot OUT.png")
    })
}
