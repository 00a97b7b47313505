//! The figures of a benchmark: read, and as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The contender that others are compared with: what the kernel itself takes.
pub(super) const FLOOR: &str = "floor";

/// One figure of the benchmark of the kernel, as it prints it.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Figure {
    contender: String,
    operation: String,
    interface_peers: u64,
    measured_peers: u32,
    nanoseconds: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Figures {
    all: Vec<Figure>,
    operations: Vec<String>,
    contenders: Vec<String>,
    sizes: BTreeSet<u64>,
    /// Microseconds a peer, of operation, contender and size.
    cells: BTreeMap<(String, String, u64), f64>,
}

impl Figures {
    /// Reads lines of JSON, and skips what else there is.
    ///
    /// # Errors
    ///
    /// When a line is no figure.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let figure: Figure =
                serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
            figures.add(figure);
        }
        Ok(figures)
    }

    /// The operations, in the order in which they were measured.
    pub(super) fn operations(&self) -> &[String] {
        &self.operations
    }

    /// The contenders, in the order in which they were measured.
    pub(super) fn contenders(&self) -> &[String] {
        &self.contenders
    }

    /// The numbers of peers, ascending.
    pub(super) fn sizes(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.sizes.iter().copied()
    }

    /// Microseconds a peer.
    pub(super) fn cost(&self, operation: &str, contender: &str, size: u64) -> Option<f64> {
        self.cells.get(&(operation.to_owned(), contender.to_owned(), size)).copied()
    }

    /// All figures as one JSON document.
    ///
    /// # Errors
    ///
    /// None that can happen: there is nothing in them that JSON lacks.
    pub(super) fn json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(&self.all)?;
        text.push('\n');
        Ok(text)
    }

    /// A table for each operation, in Markdown.
    pub(super) fn tables(&self) -> String {
        let tables: Vec<_> =
            self.operations.iter().map(|operation| self.table(operation)).collect();
        tables.join("\n\n")
    }

    /// One table: microseconds a peer, and how many times the floor that is.
    pub(super) fn table(&self, operation: &str) -> String {
        let heads: Vec<String> =
            self.sizes.iter().map(|size| format!(" {size} peers | × floor |")).collect();
        let mut lines = vec![
            format!("| {operation}, µs a peer |{}", heads.concat()),
            format!("|---|{}", "---:|---:|".repeat(self.sizes.len())),
        ];
        for contender in &self.contenders {
            let cost = |size: &u64| self.cost(operation, contender, *size);
            if self.sizes.iter().all(|size| cost(size).is_none()) {
                continue;
            }
            let row: Vec<String> = self
                .sizes
                .iter()
                .map(|size| cell(cost(size), self.cost(operation, FLOOR, *size)))
                .collect();
            lines.push(format!("| {contender} |{}", row.concat()));
        }
        lines.join("\n")
    }

    fn add(&mut self, figure: Figure) {
        if !self.operations.contains(&figure.operation) {
            self.operations.push(figure.operation.clone());
        }
        if !self.contenders.contains(&figure.contender) {
            self.contenders.push(figure.contender.clone());
        }
        self.sizes.insert(figure.interface_peers);
        let all = Duration::from_nanos(figure.nanoseconds).as_secs_f64();
        let each = all * 1e6 / f64::from(figure.measured_peers.max(1));
        let key = (figure.operation.clone(), figure.contender.clone(), figure.interface_peers);
        self.cells.insert(key, each);
        self.all.push(figure);
    }
}

fn cell(cost: Option<f64>, floor: Option<f64>) -> String {
    let text = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), digits);
    let times = cost.zip(floor).map(|(cost, floor)| cost / floor);
    format!(" {} | {} |", text(cost), text(times))
}

/// Three significant digits, as far as there are any after the point.
pub(super) fn digits(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Figures;

    pub(crate) fn some() -> Figures {
        let figure = |contender: &str, size: u32, nanoseconds: u32| {
            serde_json::json!({
                "contender": contender, "operation": "psk", "interface_peers": size,
                "measured_peers": size, "nanoseconds": nanoseconds,
            })
            .to_string()
        };
        let lines = [
            figure("floor", 10, 15_600),
            figure("wg-netlink", 10, 16_400),
            figure("tool", 10, 1_740_000),
            "up after 2 s".to_owned(),
            figure("wg-netlink", 100, 164_000),
        ];
        Figures::read(&lines.join("\r\n")).unwrap()
    }

    #[test]
    fn figures_become_a_table_for_each_operation() {
        let expected = "\
            | psk, µs a peer | 10 peers | × floor | 100 peers | × floor |\n\
            |---|---:|---:|---:|---:|\n\
            | floor | 1.56 | 1.00 | — | — |\n\
            | wg-netlink | 1.64 | 1.05 | 1.64 | — |\n\
            | tool | 174 | 112 | — | — |";
        assert_eq!(some().tables(), expected);
    }

    #[test]
    fn a_line_that_is_no_figure_is_an_error() {
        assert!(Figures::read("{\"contender\":1}").is_err());
    }
}
