//! A QR code for a terminal: two modules a character, by Unicode's half blocks.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules on every side. The standard asks for four; phones read two, and a terminal is
/// narrow.
const QUIET: usize = 2;

/// Draws `text`; `None` if it is too long for any QR code.
///
/// Light modules are drawn, dark ones left empty: on the usual light-on-dark terminal the code is
/// the right way round. `invert` is for terminals with a light background.
#[must_use]
pub fn render(text: &str, background: Background) -> Option<String> {
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
            let (upper, lower) = (light(x, y), y + 1 < side && light(x, y + 1));
            drawn.push(match (upper, lower, background) {
                (true, true, Background::Dark) | (false, false, Background::Light) => '█',
                (true, false, Background::Dark) | (false, true, Background::Light) => '▀',
                (false, true, Background::Dark) | (true, false, Background::Light) => '▄',
                (false, false, Background::Dark) | (true, true, Background::Light) => ' ',
            });
        }
        drawn.push('\n');
    }
    Some(drawn)
}

/// What the terminal's background looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Background {
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_module_by_module() {
        let text = "otpauth://totp/wg-mfa:alice?secret=JBSWY3DPEHPK3PXP&issuer=wg-mfa";
        let drawn = render(text, Background::Dark).unwrap();
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
        let drawn = render("WG", Background::Dark).unwrap();
        assert_eq!(drawn, SNAPSHOT);
        let inverted = render("WG", Background::Light).unwrap();
        assert_eq!(inverted.chars().count(), drawn.chars().count());
    }

    #[test]
    fn a_text_that_no_code_holds_is_refused() {
        assert_eq!(render(&"x".repeat(3000), Background::Dark), None);
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
