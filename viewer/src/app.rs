//! The app: receives, draws, applies.

mod second;

use crate::answers::Answers;
use crate::bars::{banners_ui, bar_frame, drop_ui, hint_ui, saving_ui};
use crate::command::{self, Command, Effect};
use crate::compare::{ComparePage, Second};
use crate::copy::{self, Copying, Pages};
use crate::counters::CountersPage;
use crate::details::Details;
use crate::dialog::{Dialog, Purpose};
use crate::experts::ExpertsPage;
use crate::find::FindPanel;
use crate::graph::GraphPage;
use crate::keys_window::KeysWindow;
use crate::live::{Follower, News};
use crate::loader::{Loader, Message};
use crate::memo::Jobs;
use crate::operators::OperatorsPage;
use crate::overview::Overview;
use crate::palette::Palette;
use crate::panel::Cx;
use crate::recent::{Settings, Store};
use crate::roofline::Roofline;
use crate::save::{self, Saver, Saving};
use crate::seek::Seeking;
use crate::state::{Document, Live, Open, Page, State, file_name};
use crate::theme::{self, Colors, DETAILS_WIDTH};
use crate::timeline::Timeline;
use crate::{menu, pages};
use crossbeam_channel::{Receiver, bounded};
use egui::{CentralPanel, Context, Frame, Margin, Panel, Ui};
use llmtrace_analysis::fetch::Fetcher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time that one frame receives messages.
const RECEIVE_BUDGET: Duration = Duration::from_millis(2);

/// The window's contents.
pub struct ViewerApp {
    /// What it knows.
    pub state: State,
    store: Store,
    jobs: Jobs,
    loader: Option<Loader>,
    dialog: Option<Dialog>,
    fetcher: Option<Fetcher>,
    seeking: Option<Seeking>,
    saver: Option<Saver>,
    copying: Option<Copying>,
    follower: Option<Follower>,
    /// A picture that was asked for, and where to save it.
    picture: Option<(PathBuf, Receiver<Arc<egui::ColorImage>>)>,
    second: Second,
    commands: Vec<Command>,
    answers: Answers,
    overview: Overview,
    roofline: Roofline,
    experts: ExpertsPage,
    counters: CountersPage,
    operators: OperatorsPage,
    graph: GraphPage,
    timeline: Timeline,
    compare: ComparePage,
    details: Details,
    find: FindPanel,
    palette: Palette,
    keys: KeysWindow,
    title: String,
}

impl ViewerApp {
    /// An app with nothing open.
    pub fn new(context: &Context, store: Store, jobs: Jobs) -> Self {
        // Ours, which are remembered.
        context.options_mut(|options| options.zoom_with_keyboard = false);
        let state = State { settings: store.load(), ..State::default() };
        show_settings(context, &state.settings);
        Self {
            state,
            store,
            jobs,
            loader: None,
            dialog: None,
            fetcher: None,
            seeking: None,
            saver: None,
            copying: None,
            follower: None,
            picture: None,
            second: Second::default(),
            commands: Vec::new(),
            answers: Answers::default(),
            overview: Overview::default(),
            roofline: Roofline::default(),
            experts: ExpertsPage::default(),
            counters: CountersPage::default(),
            operators: OperatorsPage::default(),
            graph: GraphPage::default(),
            timeline: Timeline::default(),
            compare: ComparePage::default(),
            details: Details::default(),
            find: FindPanel::default(),
            palette: Palette::default(),
            keys: KeysWindow::default(),
            title: String::new(),
        }
    }

    /// Starts to open a file.
    pub fn open(&mut self, context: &Context, path: PathBuf) {
        self.apply(context, Command::OpenPath(path));
    }

    /// Chooses a row of the comparison by a piece of its name, once it is there.
    pub fn choose_compared(&mut self, name: &str) {
        self.compare.choose(name);
    }

    /// Carries a command out.
    pub fn apply(&mut self, context: &Context, command: Command) {
        match command::apply(&mut self.state, command) {
            None => {}
            Some(Effect::AskForFile) => {
                self.dialog.get_or_insert_with(|| Dialog::ask(Purpose::Open, "", context.clone()));
            }
            Some(Effect::AskWhereToSave(range)) => {
                self.ask(context, Purpose::Save(range));
            }
            Some(Effect::Save(range, path)) => {
                if let Some(open) = self.state.open() {
                    let what = save::What::Range(Arc::clone(&open.trace), range);
                    self.saver = Some(Saver::start(what, path, self.jobs, context.clone()));
                }
            }
            Some(Effect::AskWhereToReport) => self.ask(context, Purpose::Report),
            Some(Effect::Report(path)) => {
                if let Some(open) = self.state.open() {
                    let what = save::What::Report(Arc::clone(&open.trace), open.file_name());
                    self.saver = Some(Saver::start(what, path, self.jobs, context.clone()));
                }
            }
            Some(Effect::AskWhereToPicture) => self.ask(context, Purpose::Picture),
            Some(Effect::Picture(path)) => {
                let (sender, picture) = bounded(1);
                let again = context.clone();
                let taken = egui::ScreenshotCallback::new(move |image| {
                    // Nobody waits for it any more when this fails.
                    let _ = sender.send(image);
                    again.request_repaint();
                });
                context.send_viewport_cmd(egui::ViewportCommand::Screenshot(taken));
                self.picture = Some((path, picture));
            }
            Some(Effect::Copy(what)) => self.copy(context, what),
            Some(Effect::Refresh) => self.forget_answers(),
            Some(Effect::EndSaving) => self.saver = None,
            Some(Effect::AskForSecond) => {
                let purpose = Purpose::Compare;
                self.dialog.get_or_insert_with(|| Dialog::ask(purpose, "", context.clone()));
            }
            Some(Effect::LoadSecond(path)) => {
                self.forget_second();
                self.second.loader = Some(Loader::start(path, self.jobs, context.clone()));
            }
            Some(Effect::StopSecond) => {
                self.forget_second();
                self.save_session();
            }
            Some(Effect::SwapSides) => self.swap_sides(),
            Some(Effect::Second(effect)) => self.second_effect(context, *effect),
            Some(Effect::Load(path)) => {
                self.forget_second();
                self.forget_panels();
                self.loader = Some(Loader::start(path, self.jobs, context.clone()));
            }
            Some(Effect::StopLoading) => {
                self.forget_second();
                self.forget_panels();
                self.loader = None;
            }
            Some(Effect::Seek(seek)) => {
                if let Some(open) = self.state.open() {
                    let trace = Arc::clone(&open.trace);
                    self.seeking = Some(Seeking::start(seek, trace, self.jobs, context.clone()));
                    self.receive_found(context);
                }
            }
            Some(Effect::SaveSession) => self.save_session(),
            Some(Effect::ExpandGraph(expand)) => self.graph.expand_all(expand),
            Some(Effect::SaveSettings) => {
                show_settings(context, &self.state.settings);
                // None: the user has just had them forgotten.
                if !self.state.settings.recent.is_empty() {
                    self.store.refresh_recent(&mut self.state.settings);
                }
                self.share_memory();
                self.store.save(&self.state.settings);
            }
            Some(Effect::Quit) => context.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    fn ask(&mut self, context: &Context, purpose: Purpose) {
        let name = self.state.open().map(Open::file_name).unwrap_or_default();
        self.dialog.get_or_insert_with(|| Dialog::ask(purpose, &name, context.clone()));
    }

    fn copy(&mut self, context: &Context, what: copy::What) {
        let Some(open) = self.state.open() else { return };
        let pages = Pages {
            operators: &self.operators,
            roofline: &self.roofline,
            experts: &self.experts,
            compare: (&self.compare, self.state.second.open()),
        };
        match what {
            copy::What::Selection => context.copy_text(copy::selection(open)),
            copy::What::CommandLine => {
                context.copy_text(copy::command_line(open, self.state.page, &pages));
            }
            copy::What::Table => {
                let make = copy::table(open, self.state.page, &pages);
                self.copying = Some(Copying::start(self.jobs, context.clone(), make));
                self.receive_copied(context);
            }
        }
    }

    /// Puts a text that is there on the clipboard.
    fn receive_copied(&mut self, context: &Context) {
        if let Some(text) = self.copying.as_ref().and_then(Copying::text) {
            self.copying = None;
            context.copy_text(text);
        }
    }

    /// Saves a picture that was taken.
    fn receive_picture(&mut self, context: &Context) {
        let Some(image) = self.picture.as_ref().and_then(|(_, image)| image.try_recv().ok()) else { return };
        if let Some((path, _)) = self.picture.take() {
            self.state.saving = Some((path.clone(), Saving::Progress(0.0)));
            let what = save::What::Picture(image);
            self.saver = Some(Saver::start(what, path, self.jobs, context.clone()));
        }
    }

    fn save_session(&self) {
        if let Some(open) = self.state.open() {
            self.store.save_session(&open.path, &open.session);
        }
    }

    /// Carries out what a search gave.
    fn receive_found(&mut self, context: &Context) {
        if let Some(answer) = self.seeking.as_ref().and_then(Seeking::answer) {
            self.seeking = None;
            if let Some(command) = answer {
                self.apply(context, command);
            }
        }
        if let Some(answer) = self.second.seeking.as_ref().and_then(Seeking::answer) {
            self.second.seeking = None;
            if let Some(command) = answer {
                self.apply(context, Command::Second(Box::new(command)));
            }
        }
    }

    /// Has decoded what the last frame lacked.
    fn fetch(&mut self, context: &Context) {
        let first = (self.state.document.open(), &self.fetcher);
        let second = (self.state.second.open(), &self.second.fetcher);
        for (open, fetcher) in [first, second] {
            let Some(open) = open else { continue };
            let wanted = open.wanted.take();
            match (self.jobs, fetcher) {
                (Jobs::Inline, _) => {
                    wanted.iter().for_each(|part| open.trace.decode(*part));
                    if !wanted.is_empty() {
                        context.request_repaint();
                    }
                }
                (Jobs::Threads, Some(fetcher)) => fetcher.want(&wanted),
                (Jobs::Threads, None) => {}
            }
        }
    }

    /// What was computed of a trace that has grown since. What the user chose on the pages of
    /// operators and of the roofline stays.
    fn forget_answers(&mut self) {
        self.answers = Answers::default();
        self.roofline.forget();
        self.experts = ExpertsPage::default();
        self.counters = CountersPage::default();
        self.operators.forget();
        self.timeline.forget();
        self.graph = GraphPage::default();
        self.details = Details::default();
    }

    /// Shows how far the recording of the open file has come.
    fn receive_news(&mut self, context: &Context) {
        let Some(news) = self.follower.as_mut().and_then(Follower::news) else { return };
        let Document::Open(open) = &mut self.state.document else { return };
        let (News::Grown(trace, summary) | News::Closed(trace, summary)) = news else {
            open.live = Live::Watched;
            self.follower = None;
            return;
        };
        // It may still be counting the nodes of the file as it was.
        self.loader = None;
        trace.set_cache_bytes(self.state.settings.cache_bytes());
        open.grow(Arc::clone(&trace), summary);
        let repaint = context.clone();
        self.fetcher = Some(Fetcher::new(trace, move || repaint.request_repaint()));
        if open.live == Live::Closed {
            self.follower = None;
            self.forget_answers();
        }
    }

    /// What panels remember belongs to the trace that they showed.
    fn forget_panels(&mut self) {
        self.fetcher = None;
        self.follower = None;
        self.seeking = None;
        self.copying = None;
        self.answers = Answers::default();
        self.overview = Overview::default();
        self.roofline = Roofline::default();
        self.experts = ExpertsPage::default();
        self.counters = CountersPage::default();
        self.operators = OperatorsPage::default();
        self.graph = GraphPage::default();
        self.timeline = Timeline::default();
        self.compare = ComparePage::default();
        self.details = Details::default();
        self.find = FindPanel::default();
        self.palette = Palette::default();
    }

    /// Receives from other threads and from the system.
    pub fn receive(&mut self, context: &Context) {
        let begin = Instant::now();
        while begin.elapsed() < RECEIVE_BUDGET {
            let message = self.loader.as_ref().and_then(|loader| loader.messages.try_recv().ok());
            let Some(message) = message else { break };
            self.receive_message(message, context);
        }
        self.receive_news(context);
        while begin.elapsed() < RECEIVE_BUDGET {
            let message = self.second.loader.as_ref().and_then(|loader| loader.messages.try_recv().ok());
            let Some(message) = message else { break };
            self.receive_second(message, context);
        }
        self.receive_found(context);
        self.receive_copied(context);
        self.receive_picture(context);
        if let Some(news) = self.saver.as_ref().and_then(|saver| saver.news.try_iter().last()) {
            if !matches!(news, Saving::Progress(_)) {
                self.saver = None;
            }
            self.state.saving = self.state.saving.take().map(|(path, _)| (path, news));
        }
        if let Some(dialog) = &self.dialog
            && let Some(answer) = dialog.answer()
        {
            let purpose = dialog.purpose;
            self.dialog = None;
            match (answer, purpose) {
                (Some(path), Purpose::Open) => self.open(context, path),
                (Some(path), Purpose::Compare) => self.apply(context, Command::CompareWithPath(path)),
                (Some(path), Purpose::Save(range)) => {
                    self.apply(context, Command::SaveRange(range, path));
                }
                (Some(path), Purpose::Report) => self.apply(context, Command::SaveReportTo(path)),
                (Some(path), Purpose::Picture) => self.apply(context, Command::SavePictureTo(path)),
                (None, _) => {}
            }
        }
        let dropped: Vec<PathBuf> = context.input(|input| {
            input.raw.dropped_files.iter().take(2).map(|file| file.path().to_owned()).collect()
        });
        let mut dropped = dropped.into_iter();
        if let Some(path) = dropped.next() {
            self.open(context, path);
        }
        if let Some(path) = dropped.next() {
            self.apply(context, Command::CompareWithPath(path));
        }
        self.set_title(context);
    }

    fn receive_message(&mut self, message: Message, context: &Context) {
        let opened = self.state.document.receive(message);
        let Some(open) = self.state.document.open_mut().filter(|_| opened) else { return };
        open.session = self.store.load_session(&open.path);
        let context_of_fetcher = context.clone();
        let arrived = move || context_of_fetcher.request_repaint();
        self.fetcher = Some(Fetcher::new(Arc::clone(&open.trace), arrived));
        let (path, compared) = (open.path.clone(), open.session.compared.clone());
        if open.trace.is_open_ended() {
            self.follower = Some(Follower::start(path.clone(), &open.trace, self.jobs, context.clone()));
        }
        self.store.refresh_recent(&mut self.state.settings);
        self.state.settings.add_recent(&path);
        self.store.save(&self.state.settings);
        self.share_memory();
        match compared {
            // As it was when it was closed, unless another one was asked for.
            Some(compared) if matches!(self.state.second, Document::Empty) && compared.path.exists() => {
                let page = self.state.page;
                self.apply(context, Command::CompareWithPath(compared.path));
                self.state.page = if page == Page::Overview { Page::Compare } else { page };
            }
            _ => self.pair_up(),
        }
    }

    fn set_title(&mut self, context: &Context) {
        let title = match &self.state.document {
            Document::Empty => "llmtrace".to_owned(),
            Document::Loading { path, .. } | Document::Failed { path, .. } => {
                format!("{} – llmtrace", file_name(path))
            }
            Document::Open(open) => match self.state.second.open() {
                Some(second) => format!("{} and {} – llmtrace", open.file_name(), second.file_name()),
                None => format!("{} – llmtrace", open.file_name()),
            },
        };
        if title != self.title {
            context.send_viewport_cmd(egui::ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    /// Draws the window and applies what was asked for.
    pub fn draw(&mut self, ui: &mut Ui) {
        if !self.keys.captures() {
            self.commands.extend(self.state.settings.keys.pressed(ui.ctx(), self.state.page));
        }
        let colors = Colors::of(ui.visuals());
        if self.state.page == Page::Compare {
            self.state.link();
        }
        let mut commands = std::mem::take(&mut self.commands);
        Panel::top("menu")
            .frame(bar_frame(colors))
            .show(ui, |ui| menu::bar_ui(ui, &self.state, &mut commands));
        if let Document::Open(open) = &self.state.document {
            banners_ui(ui, open, colors);
            if let Some((path, saving)) = &self.state.saving {
                saving_ui(ui, path, saving, colors, &mut commands);
            }
            let mut cx = Cx { open, colors, jobs: self.jobs, commands: &mut commands };
            match self.state.page {
                Page::Overview => {
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.overview.overview_ui(ui, &mut cx, &mut self.answers));
                }
                Page::Roofline => {
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.roofline.roofline_ui(ui, &mut cx, &mut self.answers));
                }
                Page::Counters => {
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.counters.counters_ui(ui, &mut cx));
                }
                Page::Compare => {
                    let pair = (&self.state.second, self.state.comparison.as_ref());
                    let answers = [&mut self.answers, &mut self.second.answers];
                    let recent = &self.state.settings.recent;
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.compare.compare_ui(ui, &mut cx, pair, answers, recent));
                }
                Page::Experts => {
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.experts.experts_ui(ui, &mut cx));
                }
                Page::Graph => {
                    let second = self.state.second.open();
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.graph.graph_ui(ui, &mut cx, &mut self.details, second));
                }
                Page::Operators => {
                    CentralPanel::default()
                        .frame(Frame::new().fill(colors.background))
                        .show(ui, |ui| self.operators.operators_ui(ui, &mut cx));
                }
                Page::Timeline => {
                    Panel::right("details")
                        .default_size(DETAILS_WIDTH)
                        .size_range(260.0..=640.0)
                        .resizable(true)
                        .frame(Frame::new().fill(colors.background).inner_margin(Margin {
                            left: 12,
                            right: 2,
                            top: 4,
                            bottom: 4,
                        }))
                        .show(ui, |ui| self.details.details_ui(ui, &mut cx, true));
                    hint_ui(ui, colors);
                    let frame =
                        Frame::new().fill(colors.background).inner_margin(Margin { top: 6, ..Margin::ZERO });
                    CentralPanel::default().frame(frame).show(ui, |ui| {
                        self.timeline.timeline_ui(ui, &mut cx, self.state.settings.keys.held());
                        if self.state.find.visible {
                            self.find.find_ui(ui, &self.state.find, &mut cx);
                        }
                    });
                }
            }
        } else {
            CentralPanel::default()
                .frame(Frame::new().fill(colors.background))
                .show(ui, |ui| pages::page_ui(ui, &self.state, &mut commands));
        }
        if self.state.palette_visible {
            self.palette.palette_ui(ui, &self.state, &mut commands);
        }
        if self.state.glossary_visible {
            menu::glossary_ui(ui, &mut commands);
        }
        if self.state.keys_visible {
            self.keys.keys_ui(ui, &self.state, &mut commands);
        }
        drop_ui(ui, colors);
        self.state.find.wants_focus = false;
        self.fetch(ui.ctx());
        if !commands.is_empty() {
            ui.ctx().request_repaint();
        }
        for command in commands.drain(..) {
            self.apply(ui.ctx(), command);
        }
        self.commands = commands;
    }
}

impl eframe::App for ViewerApp {
    fn logic(&mut self, context: &Context, _frame: &mut eframe::Frame) {
        self.receive(context);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.draw(ui);
        let (size, maximized) = ui.ctx().input(|input| {
            let viewport = input.viewport();
            let size = viewport.inner_rect.map(|rect| [rect.width(), rect.height()]);
            (size, viewport.maximized == Some(true) || viewport.fullscreen == Some(true))
        });
        self.state.settings.maximized = maximized;
        if size.is_some() && !maximized {
            self.state.settings.window = size;
        }
    }

    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        self.store.refresh_recent(&mut self.state.settings);
        self.store.save(&self.state.settings);
    }
}

/// Time in which things glide into place, unless the user wants none of that.
const ANIMATION_SECS: f32 = 1.0 / 12.0;

fn show_settings(context: &Context, settings: &Settings) {
    theme::install(context, settings.palette);
    context.set_theme(egui::ThemePreference::from(settings.theme));
    context.set_zoom_factor(settings.scale_percent.clamp(50, 300) as f32 / 100.0);
    let seconds = if settings.reduced_motion { 0.0 } else { ANIMATION_SECS };
    context.all_styles_mut(|style| style.animation_time = seconds);
}
