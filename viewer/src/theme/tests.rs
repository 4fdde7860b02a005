//! Colours are told apart, by all eyes.

use super::*;

#[test]
fn operators_have_their_class() {
    for (op, class) in [
        ("MUL_MAT", OpClass::Matmul),
        ("MUL_MAT_ID", OpClass::Matmul),
        ("FLASH_ATTN_EXT", OpClass::Attention),
        ("RMS_NORM+MUL", OpClass::Norm),
        ("L2_NORM", OpClass::Norm),
        ("ROPE", OpClass::Position),
        ("MUL", OpClass::Elementwise),
        ("GEGLU", OpClass::Elementwise),
        ("SILU", OpClass::Elementwise),
        ("GELU_QUICK", OpClass::Elementwise),
        ("GET_ROWS", OpClass::Copy),
        ("ARGSORT", OpClass::Routing),
        ("SSM_SCAN", OpClass::Recurrent),
        ("SOMETHING_NEW", OpClass::Other),
    ] {
        assert_eq!(OpClass::of(op), class, "{op}");
    }
}

#[test]
fn text_contrasts_with_every_bar() {
    let luminance = |color: Color32| {
        let linear = |c: u8| (f32::from(c) / 255.0).powf(2.2);
        0.2126 * linear(color.r()) + 0.7152 * linear(color.g()) + 0.0722 * linear(color.b())
    };
    for colors in [&DARK, &LIGHT, &DARK_SAFE, &LIGHT_SAFE] {
        for class in OpClass::ALL {
            let (bar, text) = (luminance(colors.op(class)), luminance(colors.text_on(colors.op(class))));
            let contrast = (bar.max(text) + 0.05) / (bar.min(text) + 0.05);
            assert!(contrast > 3.2, "{} {contrast}", class.name());
        }
    }
}

/// What a colour looks like to people without red, green or blue cones (Machado, Oliveira and
/// Fernandes 2009), or with all three, in linear light.
const EYES: [[[f32; 3]; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
];

fn oklab(color: Color32, eyes: &[[f32; 3]; 3]) -> [f32; 3] {
    let linear = [color.r(), color.g(), color.b()].map(|c| {
        let c = f32::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    let times = |m: &[[f32; 3]; 3], v: [f32; 3]| m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
    let seen = times(eyes, linear).map(|c| c.clamp(0.0, 1.0));
    let lms = times(
        &[
            [0.412_221_5, 0.536_332_5, 0.051_446],
            [0.211_903_5, 0.680_699_5, 0.107_396_9],
            [0.088_302_5, 0.281_718_8, 0.629_978_7],
        ],
        seen,
    );
    times(
        &[
            [0.210_454_3, 0.793_617_8, -0.004_072],
            [1.977_998_5, -2.428_592_2, 0.450_593_7],
            [0.025_904, 0.782_771_8, -0.808_675_8],
        ],
        lms.map(f32::cbrt),
    )
}

/// The least difference of two classes to any eyes, in OKLab.
fn least_difference(colors: &[Color32]) -> f32 {
    let mut least = f32::INFINITY;
    for eyes in &EYES {
        let seen: Vec<[f32; 3]> = colors.iter().map(|color| oklab(*color, eyes)).collect();
        for (at, a) in seen.iter().enumerate() {
            for b in &seen[..at] {
                let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
                least = least.min(square.sqrt());
            }
        }
    }
    least
}

#[test]
fn safe_colours_differ_to_all_eyes() {
    for colors in [&DARK_SAFE, &LIGHT_SAFE] {
        assert!(least_difference(&colors.ops) > 0.12, "{}", least_difference(&colors.ops));
        assert!(least_difference(&colors.scale) > 0.2, "{}", least_difference(&colors.scale));
        // States are drawn side by side.
        assert!(least_difference(&colors.states) > 0.08, "{}", least_difference(&colors.states));
    }
    assert!(least_difference(&DARK.ops) < least_difference(&DARK_SAFE.ops));
}

#[test]
fn the_palette_in_force_is_found_again() {
    let context = egui::Context::default();
    for (palette, dark, light) in
        [(PaletteChoice::ColourBlindSafe, &DARK_SAFE, &LIGHT_SAFE), (PaletteChoice::Usual, &DARK, &LIGHT)]
    {
        install(&context, palette);
        for (theme, colors) in [(Theme::Dark, dark), (Theme::Light, light)] {
            let visuals = context.style_of(theme).visuals.clone();
            assert!(std::ptr::eq(Colors::of(&visuals), colors));
        }
    }
}
