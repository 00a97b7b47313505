//! Charts, drawn on the server as SVG: classes for colours, so that light and dark are the style
//! sheet's; a sentence for those who do not see them; no text but what is escaped here.

use core::fmt::Write as _;
use core::time::Duration;

use mfa_core::time::Timestamp;

/// Columns of a chart.
pub(super) const COLUMNS: usize = 60;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const BOTTOM: f64 = 30.0;
/// Room for the topmost number, which stands on its line.
const TOP: f64 = 28.0;

/// The time that a chart shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) length: Duration,
}

/// One line of numbers over time, with the name of its class and for people.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) values: Vec<f64>,
}

/// Puts values with times into the columns of a span, added up.
pub(super) fn columns(span: Span, points: impl Iterator<Item = (Timestamp, f64)>) -> Vec<f64> {
    let mut columns = vec![0.0; COLUMNS];
    let width = span.length.as_millis().max(1);
    for (at, value) in points {
        if at < span.from {
            continue;
        }
        let offset = at.since(span.from).as_millis();
        let place = offset.saturating_mul(60).checked_div(width).unwrap_or(0);
        let place = usize::try_from(place).unwrap_or(usize::MAX).min(COLUMNS.saturating_sub(1));
        if let Some(column) = columns.get_mut(place) {
            *column += value;
        }
    }
    columns
}

/// Draws lines with the area below each, the largest scale first; `unit` writes a number.
pub(super) fn areas(
    title: &str,
    span: Span,
    series: &[Series],
    unit: impl Fn(f64) -> String,
) -> String {
    let top = ceiling(series.iter().flat_map(|one| one.values.iter().copied()));
    let mut svg = open(title, span, series, top, &unit);
    let step = WIDTH / steps();
    for one in series {
        let mut line = String::new();
        let mut x = 0.0;
        for value in &one.values {
            let _ = write!(line, "{x:.1},{:.1} ", y(*value, top));
            x += step;
        }
        let base = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            "<polygon class=\"area {0}\" points=\"0,{base} {line}{1:.1},{base}\"/>\
             <polyline class=\"line {0}\" points=\"{line}\"/>",
            one.class,
            x - step,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Draws stacked columns.
pub(super) fn bars(title: &str, span: Span, series: &[Series]) -> String {
    let sum = |place: usize| series.iter().filter_map(|one| one.values.get(place)).sum::<f64>();
    let top = ceiling((0..COLUMNS).map(sum)).max(4.0);
    let mut svg = open(title, span, series, top, &|value| format!("{value:.0}"));
    let step = WIDTH / (steps() + 1.0);
    let mut x = 0.0;
    for place in 0..COLUMNS {
        let mut below = 0.0;
        for one in series {
            let value = one.values.get(place).copied().unwrap_or(0.0);
            if value > 0.0 {
                let (high, low) = (y(below + value, top), y(below, top));
                let _ = write!(
                    svg,
                    "<rect class=\"bar {}\" x=\"{:.1}\" y=\"{high:.1}\" width=\"{:.1}\" \
                     height=\"{:.1}\" rx=\"1\"><title>{value:.0} {}</title></rect>",
                    one.class,
                    x + 1.0,
                    step - 2.0,
                    low - high,
                    one.name,
                );
                below += value;
            }
        }
        x += step;
    }
    svg.push_str("</svg>");
    svg
}

/// Draws what one peer carried of late.
pub(super) fn sparkline(samples: impl ExactSizeIterator<Item = u64>) -> String {
    const W: f64 = 90.0;
    const H: f64 = 22.0;
    if samples.len() < 2 {
        return "<span class=\"faint\">–</span>".to_owned();
    }
    let values: Vec<f64> = samples.map(float).collect();
    let top = ceiling(values.iter().copied());
    let step = W / float(u64::try_from(values.len().saturating_sub(1)).unwrap_or(1));
    let mut points = String::new();
    let mut x = 0.0;
    for value in values {
        let _ = write!(points, "{x:.1},{:.1} ", H - 2.0 - (value / top) * (H - 4.0));
        x += step;
    }
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {W} {H}\" role=\"img\" aria-label=\"Traffic of late\">\
         <polyline class=\"line rx\" points=\"{points}\"/></svg>"
    )
}

fn open(
    title: &str,
    span: Span,
    series: &[Series],
    top: f64,
    unit: &dyn Fn(f64) -> String,
) -> String {
    let total = |one: &Series| {
        format!("{} at most {}", one.name, { unit(one.values.iter().copied().fold(0.0, f64::max)) })
    };
    let words: Vec<String> = series.iter().map(total).collect();
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}: {}\">",
        words.join(", ")
    );
    for quarter in 0..=4_u32 {
        let part = f64::from(quarter) / 4.0;
        let height = y(top * part, top);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{height:.1}\" \
             y2=\"{height:.1}\"/>"
        );
        // Nothing needs no number.
        if matches!(quarter, 2 | 4) {
            let _ = write!(
                svg,
                "<text class=\"tick-y\" x=\"2\" y=\"{:.1}\">{}</text>",
                height - 5.0,
                unit(top * part),
            );
        }
    }
    for part in 0..=4_u32 {
        let at = span.from.saturating_add(span.length.saturating_mul(part) / 4);
        let text = clock(at, span.length);
        let anchor = match part {
            0 => "start",
            4 => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            "<text class=\"tick-x\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.0}\">{text}</text>",
            WIDTH * f64::from(part) / 4.0,
            HEIGHT - 6.0,
        );
    }
    svg
}

fn clock(at: Timestamp, length: Duration) -> String {
    let text = crate::text::rfc3339(at);
    let (day, time) = (text.get(5..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    if length > Duration::from_secs(86_400) { day.to_owned() } else { time.to_owned() }
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP)
}

/// The next number of one digit, which is 1, 2, 4 or 8, with noughts behind it: half of it is a plain
/// number, too.
fn ceiling(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0, f64::max);
    let mut unit = 1.0;
    // More than any counter can count.
    while unit < 1e20 {
        for digit in [1.0, 2.0, 4.0, 8.0] {
            if digit * unit >= largest {
                return digit * unit;
            }
        }
        unit *= 10.0;
    }
    largest
}

fn steps() -> f64 {
    float(u64::try_from(COLUMNS.saturating_sub(1)).unwrap_or(1))
}

/// Widens a number; a chart needs no more than 53 bits of it.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a chart is no ledger")]
pub(super) const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_plain_number() {
        for (largest, top) in [(0.0, 1.0), (1.0, 1.0), (3.0, 4.0), (9.0, 10.0), (8_100.0, 10_000.0)]
        {
            assert!((ceiling([0.5, largest].into_iter()) - top).abs() < 1e-9, "{largest}");
        }
    }

    #[test]
    fn values_fall_into_the_columns_of_their_times() {
        let from = Timestamp::from_unix_millis(1_000_000);
        let span = Span { from, length: Duration::from_secs(3600) };
        let at = |secs| from.saturating_add(Duration::from_secs(secs));
        let points = [(at(0), 1.0), (at(59), 1.0), (at(60), 5.0), (at(3600), 7.0)];
        let early = (from.saturating_sub(Duration::from_secs(1)), 9.0);
        let columns = columns(span, points.into_iter().chain([early]));
        assert_eq!((columns[0], columns[1], columns[59]), (2.0, 5.0, 7.0));
    }
}
