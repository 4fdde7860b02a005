//! Every colour and size of the app.
//!
//! Operators have one colour per class, the same in every view. The hues are
//! after Okabe and Ito; a second palette keeps all of them apart to people who lack a kind of cone.

use egui::{Color32, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Theme, Visuals};
use llmtrace_analysis::format::machine::State;
use serde::{Deserialize, Serialize};

/// Height of the minimap.
pub const MINIMAP_HEIGHT: f32 = 52.0;
/// Height of the ruler of tokens.
pub const TOKEN_RULER_HEIGHT: f32 = 18.0;
/// Height of the time ruler.
pub const RULER_HEIGHT: f32 = 22.0;
/// Width of the column of lane names.
pub const GUTTER_WIDTH: f32 = 84.0;
/// Height of the lane of tokens.
pub const TOKENS_HEIGHT: f32 = 26.0;
/// Height of the lane of graph computations.
pub const GRAPHS_HEIGHT: f32 = 18.0;
/// Height of a lane of a sequence.
pub const SEQUENCE_HEIGHT: f32 = 20.0;
/// Height of the lane of KV cells, for each context.
pub const CELLS_HEIGHT: f32 = 26.0;
/// Height of the lane of what was recorded.
pub const LEVELS_HEIGHT: f32 = 14.0;
/// Height of the strip of states under a thread's lane.
pub const STATES_HEIGHT: f32 = 9.0;
/// Height of the lane of page faults and reads.
pub const FAULTS_HEIGHT: f32 = 22.0;
/// Height of the lane of a backend.
pub const BACKEND_HEIGHT: f32 = 34.0;
/// Height of a lane of a counter.
pub const COUNTER_HEIGHT: f32 = 40.0;
/// Height of the lane of experts.
pub const EXPERTS_HEIGHT: f32 = 104.0;
/// The same when it is folded.
pub const EXPERTS_FOLDED_HEIGHT: f32 = 22.0;
/// Least height of a thread's lane.
pub const LANE_MIN_HEIGHT: f32 = 20.0;
/// Greatest height of a thread's lane.
pub const LANE_MAX_HEIGHT: f32 = 130.0;
/// Space between lanes.
pub const LANE_GAP: f32 = 5.0;
/// Narrowest bar that may carry text.
pub const MIN_TEXT_BAR: f32 = 24.0;
/// Bars merge until they are this wide.
pub const MIN_BAR: f32 = 1.5;
/// Least distance between two marks of the ruler.
pub const RULER_STEP: f32 = 110.0;
/// Width of the details panel when the app starts.
pub const DETAILS_WIDTH: f32 = 360.0;
/// Size of labels inside bars.
pub const BAR_TEXT: f32 = 11.5;

/// What an operator does, as far as colours tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpClass {
    /// Matrix multiplication.
    Matmul,
    /// Attention and its softmax.
    Attention,
    /// Normalisation.
    Norm,
    /// Positional encoding.
    Position,
    /// One element at a time.
    Elementwise,
    /// Moves rows or copies.
    Copy,
    /// Sorts and picks (routing of experts, sampling).
    Routing,
    /// State-space and convolution.
    Recurrent,
    /// Anything else.
    #[default]
    Other,
}

impl OpClass {
    /// All classes, in the order of the legend.
    pub const ALL: [Self; 9] = [
        Self::Matmul,
        Self::Attention,
        Self::Norm,
        Self::Position,
        Self::Elementwise,
        Self::Copy,
        Self::Routing,
        Self::Recurrent,
        Self::Other,
    ];

    /// The class of an operator's name, such as `MUL_MAT` or `RMS_NORM+MUL`.
    pub fn of(op: &str) -> Self {
        let first = op.split('+').next().unwrap_or(op);
        match first {
            "OUT_PROD" => Self::Matmul,
            "SOFT_MAX" | "SOFT_MAX_BACK" | "DIAG_MASK_INF" | "DIAG_MASK_ZERO" => Self::Attention,
            "CPY" | "CONT" | "DUP" | "GET_ROWS" | "SET_ROWS" | "CONCAT" | "PAD" | "REPEAT" | "VIEW"
            | "RESHAPE" | "PERMUTE" | "TRANSPOSE" | "SET" | "ROLL" | "FILL" => Self::Copy,
            "ARGSORT" | "ARGMAX" | "TOP_K" | "SUM_ROWS" | "CUMSUM" | "COUNT_EQUAL" => Self::Routing,
            "ADD" | "ADD1" | "ADD_ID" | "SUB" | "MUL" | "DIV" | "SCALE" | "SQR" | "SQRT" | "LOG" | "SIN"
            | "COS" | "SUM" | "MEAN" | "CLAMP" | "UNARY" | "GLU" | "EXP" | "TANH" | "ABS" | "SGN" | "NEG"
            | "STEP" | "ELU" | "SIGMOID" | "HARDSWISH" | "HARDSIGMOID" | "SOFTPLUS" | "ACC" | "XIELU" => {
                Self::Elementwise
            }
            _ if first.starts_with("MUL_MAT") => Self::Matmul,
            _ if first.starts_with("FLASH_ATTN") => Self::Attention,
            _ if first.ends_with("NORM") => Self::Norm,
            _ if first.starts_with("ROPE") => Self::Position,
            _ if first.ends_with("LU") || first.contains("GLU") || first.starts_with("GELU") => {
                Self::Elementwise
            }
            _ if ["SSM", "CONV", "RWKV", "GATED", "WKV", "POOL", "IM2COL"]
                .iter()
                .any(|p| first.starts_with(p)) =>
            {
                Self::Recurrent
            }
            _ => Self::Other,
        }
    }

    /// Name for the legend.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matmul => "matmul",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Position => "position",
            Self::Elementwise => "elementwise",
            Self::Copy => "copy and rows",
            Self::Routing => "sort and pick",
            Self::Recurrent => "recurrent",
            Self::Other => "other",
        }
    }
}

/// What a thread does, as far as colours tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateClass {
    /// Runs.
    Running,
    /// Could run, but does not.
    Runnable,
    /// Sleeps in a page fault.
    Fault,
    /// Sleeps and cannot be interrupted.
    Disk,
    /// Sleeps.
    Asleep,
}

impl StateClass {
    /// All classes, in the order of the legend and from the bottom of a strip.
    pub const ALL: [Self; 5] = [Self::Running, Self::Runnable, Self::Fault, Self::Disk, Self::Asleep];

    /// The class of a state.
    pub fn of(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Preempted | State::Woken => Self::Runnable,
            State::Faulting => Self::Fault,
            State::Uninterruptible => Self::Disk,
            State::Sleeping | State::Unknown => Self::Asleep,
        }
    }

    /// Name for the legend.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "on a CPU",
            Self::Runnable => "runnable, but not on a CPU",
            Self::Fault => "asleep in a page fault",
            Self::Disk => "asleep, uninterruptible",
            Self::Asleep => "asleep",
        }
    }
}

/// The colours of one theme.
#[derive(Clone, Debug)]
pub struct Colors {
    /// Whether it is the dark theme.
    pub dark: bool,
    /// Behind panels.
    pub background: Color32,
    /// Behind lanes.
    pub lane: Color32,
    /// Behind cards and headers.
    pub card: Color32,
    /// Fine lines.
    pub line: Color32,
    /// Text.
    pub text: Color32,
    /// Secondary text.
    pub weak: Color32,
    /// Selection and links.
    pub accent: Color32,
    /// Prefill.
    pub prefill: Color32,
    /// Decoded tokens, alternating.
    pub decode: [Color32; 2],
    /// Graph computations.
    pub graph: Color32,
    /// Losses and errors.
    pub loss: Color32,
    /// Warnings.
    pub warning: Color32,
    /// Ends of scales: little, and much.
    pub scale: [Color32; 2],
    ops: [Color32; OpClass::ALL.len()],
    states: [Color32; StateClass::ALL.len()],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// The dark theme.
pub static DARK: Colors = DARK_COLORS;
/// The light theme.
pub static LIGHT: Colors = LIGHT_COLORS;
/// The dark theme with colours that people tell apart who lack a kind of cone.
pub static DARK_SAFE: Colors = Colors {
    accent: rgb(0x56b4e9),
    loss: rgb(0xff7b39),
    warning: rgb(0xf0e442),
    scale: [rgb(0x2f6fb8), rgb(0xf2c53d)],
    // The least difference of two, to each kind of eyes, is fifteen times that of the usual ones.
    ops: [
        rgb(0x5647b6),
        rgb(0xe7b054),
        rgb(0x14938d),
        rgb(0x8ebbd3),
        rgb(0x95fafa),
        rgb(0x83352e),
        rgb(0xe64b14),
        rgb(0xfaf840),
        rgb(0xb669fa),
    ],
    states: [rgb(0x2a7ab8), rgb(0xf0e442), rgb(0xe64b14), rgb(0xc9a4f0), rgb(0x39404a)],
    ..DARK_COLORS
};
/// The same in light.
pub static LIGHT_SAFE: Colors = Colors {
    accent: rgb(0x0072b2),
    loss: rgb(0xc04000),
    warning: rgb(0x7a5200),
    scale: [rgb(0x7fb2e5), rgb(0xa33b00)],
    ops: [
        rgb(0x1430fa),
        rgb(0xfaba14),
        rgb(0x3eaa97),
        rgb(0x5f3589),
        rgb(0x4dd6eb),
        rgb(0x5a141d),
        rgb(0xb44017),
        rgb(0xe57415),
        rgb(0xb47cfa),
    ],
    states: [rgb(0x6fb0e0), rgb(0xb08a00), rgb(0xb44017), rgb(0x4a2570), rgb(0xd8dee5)],
    ..LIGHT_COLORS
};

const DARK_COLORS: Colors = Colors {
    dark: true,
    background: rgb(0x17191d),
    lane: rgb(0x1e2126),
    card: rgb(0x23272d),
    line: rgb(0x3a4049),
    text: rgb(0xe3e6ea),
    weak: rgb(0x9aa3ae),
    accent: rgb(0x6cb6ff),
    prefill: rgb(0x8a7bd8),
    decode: [rgb(0x4b5563), rgb(0x5f6b7b)],
    graph: rgb(0x39434f),
    loss: rgb(0xff6b6b),
    warning: rgb(0xf0b429),
    scale: [rgb(0x35a97f), rgb(0xe8983a)],
    ops: [
        rgb(0x4a90d9),
        rgb(0xe8983a),
        rgb(0x35a97f),
        rgb(0xb07fd6),
        rgb(0x7fa3a8),
        rgb(0xa98660),
        rgb(0xd9739f),
        rgb(0xd6c84a),
        rgb(0x7d8590),
    ],
    states: [rgb(0x2f6f5b), rgb(0xf0b429), rgb(0xe0559a), rgb(0x8f7fe0), rgb(0x39404a)],
};

const LIGHT_COLORS: Colors = Colors {
    dark: false,
    background: rgb(0xf7f8fa),
    lane: rgb(0xeceff3),
    card: rgb(0xffffff),
    line: rgb(0xd2d8df),
    text: rgb(0x1d2229),
    weak: rgb(0x5f6b78),
    accent: rgb(0x0b63c5),
    prefill: rgb(0xa99ce8),
    decode: [rgb(0xc3ccd6), rgb(0xaeb9c5)],
    graph: rgb(0xd5dce4),
    loss: rgb(0xc81e1e),
    warning: rgb(0x9a6700),
    scale: [rgb(0x1f9a70), rgb(0xe08a1e)],
    ops: [
        rgb(0x2f7bc8),
        rgb(0xe08a1e),
        rgb(0x1f9a70),
        rgb(0x9a62c7),
        rgb(0x6d959b),
        rgb(0x94714a),
        rgb(0xc75a8a),
        rgb(0xb3a324),
        rgb(0x8b949e),
    ],
    states: [rgb(0x8fcdb6), rgb(0xd97706), rgb(0xbe2f7a), rgb(0x6a5acd), rgb(0xcfd6de)],
};

impl Colors {
    /// The colours in force for `ui`: visuals carry the accent, by which palettes are told apart.
    pub fn of(visuals: &Visuals) -> &'static Self {
        let safe = |colors: &Self| visuals.hyperlink_color == colors.accent;
        match visuals.dark_mode {
            true if safe(&DARK_SAFE) => &DARK_SAFE,
            true => &DARK,
            false if safe(&LIGHT_SAFE) => &LIGHT_SAFE,
            false => &LIGHT,
        }
    }

    /// A colour from little (0) to much (1).
    pub fn scaled(&self, share: f32) -> Color32 {
        self.scale[0].lerp_to_gamma(self.scale[1], share.clamp(0.0, 1.0))
    }

    /// The colour of a class of operators.
    pub fn op(&self, class: OpClass) -> Color32 {
        let index = OpClass::ALL.iter().position(|&known| known == class).unwrap_or(OpClass::ALL.len() - 1);
        self.ops[index]
    }

    /// The colour of an expert, by its number. There are more experts than colours that can be
    /// told apart: neighbours in number are far apart in hue.
    pub fn expert(&self, expert: u16) -> Color32 {
        let hue = (f32::from(expert) * 0.618_034).fract();
        let step = f32::from(expert % 3) * 0.12;
        let (saturation, value) = if self.dark { (0.74, 0.42 + step) } else { (0.72, 0.46 + step) };
        egui::epaint::Hsva::new(hue, saturation, value, 1.0).into()
    }

    /// The colour of what a thread does.
    pub fn state(&self, class: StateClass) -> Color32 {
        let index = StateClass::ALL.iter().position(|&known| known == class).unwrap_or(0);
        self.states[index]
    }

    /// The colour of a class of operators, for time spent waiting.
    pub fn waiting(&self, class: OpClass) -> Color32 {
        self.lane.lerp_to_gamma(self.op(class), if self.dark { 0.30 } else { 0.26 })
    }

    /// The stripes over it.
    pub fn stripes(&self, class: OpClass) -> Color32 {
        self.lane.lerp_to_gamma(self.op(class), if self.dark { 0.62 } else { 0.58 })
    }

    /// What takes longer than before.
    pub fn slower(&self) -> Color32 {
        if self.dark { rgb(0xf0744f) } else { rgb(0xcb4318) }
    }

    /// What takes less time than before; far from the other for people who do not see red and green
    /// alike.
    pub fn faster(&self) -> Color32 {
        if self.dark { rgb(0x58b4f0) } else { rgb(0x1a72b8) }
    }

    /// The colour of a side of a comparison.
    pub fn side(&self, second: bool) -> Color32 {
        self.op(if second { OpClass::Position } else { OpClass::Norm })
    }

    /// Black or white, whichever reads better on `background`.
    pub fn text_on(&self, background: Color32) -> Color32 {
        let [r, g, b, _] = background.to_array().map(f32::from);
        if 0.299 * r + 0.587 * g + 0.114 * b > 128.0 { rgb(0x10141a) } else { Color32::WHITE }
    }

    /// The accent colour as a veil.
    pub fn veil(&self) -> Color32 {
        self.accent.gamma_multiply(if self.dark { 0.22 } else { 0.18 })
    }
}

/// Which theme to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ThemeChoice {
    /// As the system says.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl ThemeChoice {
    /// All, with what they are called.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::System, "Theme of the system"), (Self::Light, "Light theme"), (Self::Dark, "Dark theme")];
}

impl From<ThemeChoice> for egui::ThemePreference {
    fn from(choice: ThemeChoice) -> Self {
        match choice {
            ThemeChoice::System => Self::System,
            ThemeChoice::Light => Self::Light,
            ThemeChoice::Dark => Self::Dark,
        }
    }
}

/// Which colours things have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaletteChoice {
    /// The usual ones.
    #[default]
    Usual,
    /// Those that people tell apart who lack a kind of cone.
    ColourBlindSafe,
}

impl PaletteChoice {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Usual, "Usual colours"), (Self::ColourBlindSafe, "Safe for colour-blind eyes")];
}

/// Gives a context our looks, in both themes.
pub fn install(context: &egui::Context, palette: PaletteChoice) {
    let [dark, light] = match palette {
        PaletteChoice::Usual => [&DARK, &LIGHT],
        PaletteChoice::ColourBlindSafe => [&DARK_SAFE, &LIGHT_SAFE],
    };
    for (theme, colors) in [(Theme::Dark, dark), (Theme::Light, light)] {
        context.style_mut_of(theme, |style| {
            style.visuals = visuals(colors);
            style.text_styles = [
                (TextStyle::Small, FontId::new(11.0, FontFamily::Proportional)),
                (TextStyle::Body, FontId::new(13.0, FontFamily::Proportional)),
                (TextStyle::Button, FontId::new(13.0, FontFamily::Proportional)),
                (TextStyle::Heading, FontId::new(18.0, FontFamily::Proportional)),
                (TextStyle::Monospace, FontId::new(12.5, FontFamily::Monospace)),
            ]
            .into();
            style.spacing.item_spacing = egui::vec2(8.0, 5.0);
            style.spacing.button_padding = egui::vec2(8.0, 3.0);
            style.interaction.tooltip_delay = 0.15;
        });
    }
}

fn visuals(colors: &Colors) -> Visuals {
    let mut visuals = if colors.dark { Visuals::dark() } else { Visuals::light() };
    visuals.panel_fill = colors.background;
    visuals.window_fill = colors.card;
    visuals.extreme_bg_color = if colors.dark { rgb(0x101215) } else { Color32::WHITE };
    visuals.faint_bg_color = if colors.dark { rgb(0x1c1f24) } else { rgb(0xf0f2f5) };
    visuals.window_stroke = Stroke::new(1.0, colors.line);
    visuals.widgets.noninteractive.bg_stroke = Stroke::new(1.0, colors.line);
    visuals.widgets.noninteractive.fg_stroke = Stroke::new(1.0, colors.text);
    visuals.weak_text_color = Some(colors.weak);
    visuals.hyperlink_color = colors.accent;
    visuals.selection.bg_fill = if colors.dark { rgb(0x24507a) } else { rgb(0xbcd9f7) };
    visuals.selection.stroke = Stroke::new(1.0, if colors.dark { Color32::WHITE } else { rgb(0x0a3f7d) });
    visuals.warn_fg_color = colors.warning;
    visuals.error_fg_color = colors.loss;
    visuals.window_corner_radius = CornerRadius::same(6);
    visuals.menu_corner_radius = CornerRadius::same(6);
    visuals
}

#[cfg(test)]
mod tests;
