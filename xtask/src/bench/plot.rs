//! Plots as SVG, drawn by hand: bars on a logarithmic scale, and lines.

use std::fmt::Write as _;

use super::figures::{FLOOR, Figures, digits};

const WIDTH: f64 = 760.0;
/// Where bars and lines begin; the names are left of it.
const LEFT: f64 = 230.0;
/// Room for the figure right of the longest bar.
const RIGHT: f64 = 70.0;
const ROW: f64 = 26.0;
const TOP: f64 = 48.0;
const OURS: &str = "#1f7a4d";
const THEIRS: &str = "#8a93a0";
const BELOW: &str = "#c9ced6";

/// What an operation costs each contender, at the largest number of peers that each was measured
/// with.
pub(super) fn bars(figures: &Figures, operation: &str) -> String {
    let rows: Vec<(&String, u64, f64)> = figures
        .contenders()
        .iter()
        .filter_map(|contender| {
            figures.sizes().rev().find_map(|size| {
                figures.cost(operation, contender, size).map(|cost| (contender, size, cost))
            })
        })
        .collect();
    let least = rows.iter().map(|(_, _, cost)| *cost).fold(f64::INFINITY, f64::min) / 2.0;
    let most = rows.iter().map(|(_, _, cost)| *cost).fold(0.0, f64::max);
    let scale = |cost: f64| (cost / least).ln() / (most / least).ln() * (WIDTH - LEFT - RIGHT);

    let mut drawing = String::new();
    let mut y = TOP;
    for (contender, size, cost) in rows {
        let colour = match contender.as_str() {
            "wg-netlink" => OURS,
            FLOOR => BELOW,
            _ => THEIRS,
        };
        let name = format!("{contender} ({size})");
        text(&mut drawing, LEFT - 8.0, y + 16.0, "end", &name);
        let width = scale(cost);
        let _ = writeln!(
            drawing,
            r#"<rect x="{LEFT}" y="{}" width="{width:.1}" height="{}" fill="{colour}"/>"#,
            y + 3.0,
            ROW - 6.0
        );
        text(&mut drawing, LEFT + width + 6.0, y + 16.0, "start", &digits(cost));
        y += ROW;
    }
    let title = format!("{operation}: µs a peer, logarithmic (in brackets: peers)");
    frame(&title, y + 12.0, &drawing)
}

/// What each operation costs one contender by the number of peers, as times the least: flat lines
/// are good.
pub(super) fn scale(figures: &Figures, contender: &str) -> String {
    let sizes: Vec<u64> = figures.sizes().collect();
    let height = 240.0;
    let mut drawing = String::new();
    let mut columns = Vec::new();
    let mut x = LEFT;
    let gaps = f64::from(u32::try_from(sizes.len()).unwrap_or(u32::MAX).saturating_sub(1).max(1));
    for size in &sizes {
        columns.push((*size, x));
        text(&mut drawing, x, TOP + height + 20.0, "middle", &size.to_string());
        x += (WIDTH - LEFT - RIGHT) / gaps;
    }
    // From 0.9 to 2 times the least.
    let place = |times: f64| (times.min(2.0) - 0.9).mul_add(-height / 1.1, TOP + height);
    for times in [1.0, 1.15, 1.5, 2.0] {
        let y = place(times);
        text(&mut drawing, LEFT - 60.0, y + 4.0, "end", &format!("× {times}"));
        let _ = writeln!(
            drawing,
            r##"<line x1="{}" y1="{y:.1}" x2="{}" y2="{y:.1}" stroke="#dfe3e8"/>"##,
            LEFT - 50.0,
            WIDTH - RIGHT + 20.0
        );
    }
    let mut label = TOP + 8.0;
    for (operation, colour) in figures.operations().iter().zip(COLOURS) {
        let points: Vec<(f64, f64)> = columns
            .iter()
            .filter_map(|(size, x)| {
                figures.cost(operation, contender, *size).map(|cost| (*x, cost))
            })
            .collect();
        let least = points.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min);
        let line: Vec<String> =
            points.iter().map(|(x, cost)| format!("{x:.1},{:.1}", place(cost / least))).collect();
        let _ = writeln!(
            drawing,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            line.join(" ")
        );
        let _ = writeln!(drawing, r#"<text x="8" y="{label}" fill="{colour}">{operation}</text>"#);
        label += 18.0;
    }
    let title = format!("{contender}: cost of a peer by the number of peers, × the least");
    frame(&title, TOP + height + 32.0, &drawing)
}

const COLOURS: [&str; 8] =
    ["#1f7a4d", "#b3541e", "#2b5fa8", "#8a2be2", "#6b6f76", "#c2185b", "#00838f", "#9e7b00"];

fn text(drawing: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ =
        writeln!(drawing, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn frame(title: &str, height: f64, drawing: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="8" y="26" font-size="15" font-weight="bold">{title}</text>
{drawing}</svg>
"##
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::some;
    use super::{bars, scale};

    #[test]
    fn every_contender_has_a_bar() {
        let plot = bars(&some(), "psk");
        assert_eq!(plot.matches("<rect x").count(), 3);
        assert!(plot.contains("wg-netlink (100)") && plot.contains(">174<"), "{plot}");
        assert!(!plot.contains("NaN"), "{plot}");
    }

    #[test]
    fn every_operation_has_a_line() {
        let plot = scale(&some(), "wg-netlink");
        assert_eq!(plot.matches("<polyline").count(), 1);
        assert!(!plot.contains("NaN"), "{plot}");
    }
}
