//! A QR code for a terminal: two modules a character, by Unicode's half blocks.

use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules on every side. The standard asks for four; phones read two, and a terminal is
/// narrow.
const QUIET: usize = 2;

/// Draws `text`; `None` if it is too long for any QR code.
///
/// Light modules are drawn, dark ones left empty: with light text on a dark background the code is
/// the right way round.
#[must_use]
pub fn render(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = code.width();
    let modules = code.to_colors();
    let light = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|&at| at < width);
        let module = inside(x).zip(inside(y)).and_then(|(x, y)| modules.get(y * width + x));
        module.is_none_or(|&module| module == Color::Light)
    };

    let side = width + 2 * QUIET;
    let mut drawn = String::with_capacity(side * side * 2);
    for y in (0..side).step_by(2) {
        for x in 0..side {
            // Below an odd side's last row there is nothing to draw.
            drawn.push(match (light(x, y), y + 1 < side && light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push('\n');
    }
    Some(drawn)
}

/// Draws `text` as an SVG element, dark on light whatever the colour scheme: apps read it so. Empty
/// if it is too long for any QR code.
#[must_use]
pub fn svg(text: &str) -> Zeroizing<String> {
    let Ok(code) = QrCode::new(text) else { return Zeroizing::default() };
    let drawn = code
        .render::<svg::Color<'_>>()
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .quiet_zone(true)
        .build();
    let drawn = Zeroizing::new(drawn);
    // An element within a page has no XML declaration; what stands around it names it.
    let start = drawn.find("<svg").map_or(0, |at| at.saturating_add(4));
    Zeroizing::new(format!("<svg aria-hidden=\"true\"{}", drawn.get(start..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_module_by_module() {
        let text = "otpauth://totp/wg-mfa:alice?secret=JBSWY3DPEHPK3PXP&issuer=wg-mfa";
        let drawn = render(text).unwrap();
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let rows: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
        for y in 0..code.width() {
            for x in 0..code.width() {
                let (row, column) = (y + QUIET, x + QUIET);
                let drawn_light = match rows[row / 2][column] {
                    '█' => true,
                    '▀' => row % 2 == 0,
                    '▄' => row % 2 == 1,
                    _ => false,
                };
                assert_eq!(drawn_light, code[(x, y)] == Color::Light, "module {x},{y}");
            }
        }
    }

    /// The picture as a person sees it; a change here must be looked at with a phone.
    #[test]
    fn the_picture_is_the_one_that_phones_read() {
        let drawn = render("WG").unwrap();
        assert_eq!(drawn, SNAPSHOT);
    }

    #[test]
    fn a_text_that_no_code_holds_is_refused() {
        assert_eq!(render(&"x".repeat(3000)), None);
    }

    const SNAPSHOT: &str = "\
█████████████████████████
██ ▄▄▄▄▄ ███▄█ █ ▄▄▄▄▄ ██
██ █   █ █▄█▄█▀█ █   █ ██
██ █▄▄▄█ ██ ▀ ▄█ █▄▄▄█ ██
██▄▄▄▄▄▄▄█ █ █▄█▄▄▄▄▄▄▄██
██   ▀▄▄▄  ▀ ▀▄ ▄▀█▀▄▀███
██▄ █▄▄▀▄  ▄▀ ▀ ▄ ▀▀▄█ ██
██▄▄▄███▄▄▀ ▀▄█▄ ▄██ ████
██ ▄▄▄▄▄ █  ▄█▄█▀█▄█▀▄▄██
██ █   █ █▄  ▀▄▀▄▀▄▀▄▀▄██
██ █▄▄▄█ █  ▄ ▀ ▄ ▀ ▄▀ ██
██▄▄▄▄▄▄▄█▄██▄█▄▄▄█▄▄█▄██
▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀
";
}
