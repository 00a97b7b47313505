//! What a command answers: the same for a person and for a program.

use mfa_core::time::Timestamp;
use serde_json::Value;

/// A command's answer.
#[derive(Debug)]
pub struct Answer {
    /// For programs; its field names are kept from version to version.
    pub json: Value,
    /// For people.
    pub text: String,
}

impl Answer {
    /// Answers in both ways.
    #[must_use]
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into() }
    }
}

/// Columns, aligned, under their headings; `nothing` if there is no row.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>], nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let first: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells = core::iter::once(&first).chain(rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let lines = core::iter::once(&first).chain(rows).map(|row| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A time for a program, or null.
pub(super) fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| crate::text::rfc3339(at).into())
}

/// "42 seconds ago", "3 hours ago", "never".
pub(crate) fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return "never".to_owned() };
    let seconds = now.since(at).as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// Bytes as `wg show` prints them: "1.21 MiB".
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut hundredths = u128::from(number) * 100 / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        if hundredths < 102_400 {
            break;
        }
        hundredths /= 1024;
        unit = larger;
    }
    format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["1".into(), "alice".into()], vec!["10".into(), "bob".into()]];
        assert_eq!(table(&["id", "login"], &rows, "-"), "id  login\n1   alice\n10  bob");
        assert_eq!(table(&["id"], &[], "nobody"), "nobody");
    }

    #[test]
    fn bytes_read_as_in_wg() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(1_268_777), "1.21 MiB");
    }

    #[test]
    fn never_is_not_1970() {
        let now = Timestamp::from_unix_millis(10_000_000);
        assert_eq!(ago(None, now), "never");
        assert_eq!(ago(Some(Timestamp::from_unix_millis(9_999_000)), now), "1 second ago");
        assert_eq!(ago(Some(Timestamp::from_unix_millis(0)), now), "2 hours ago");
    }
}
