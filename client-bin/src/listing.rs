//! Lists: of factors for programs, of locations for people.

use mfa_wire::http::{MethodStatus, MfaList};
use serde_json::{Value, json};

use crate::status::LocationView;

/// The user's factors, for programs.
pub(crate) fn factors_json(list: &MfaList) -> Value {
    let methods: Vec<_> = list
        .methods
        .iter()
        .map(|status| {
            json!({
                "method": status.method.word(),
                "set_up": status.set_up,
                "unavailable": status.unavailable,
                "sent_to": status.sent_to,
                "locations": status.locations,
            })
        })
        .collect();
    json!({ "methods": methods, "recovery_codes_left": list.recovery_codes_left })
}

/// The methods that open a location for this user.
pub(crate) fn methods_at(list: &MfaList, location: i64) -> Vec<&'static str> {
    let opens = |status: &&MethodStatus| {
        let refused =
            status.locations.iter().any(|at| at.location_id == location && at.refused.is_some());
        status.set_up && status.unavailable.is_none() && !refused
    };
    list.methods.iter().filter(opens).map(|status| status.method.word()).collect()
}

/// The name of a state, as `status --json` has it.
pub(crate) fn state_name(view: &LocationView) -> Value {
    let state = serde_json::to_value(&view.state).ok();
    state.and_then(|state| state.get("state").cloned()).unwrap_or(Value::Null)
}

/// The locations, for people.
pub(crate) fn table(rows: &[Value]) -> String {
    let heads = ["ID", "NAME", "CODE", "METHODS", "ENDPOINT", "STATE"];
    let cell = |row: &Value, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            if items.is_empty() { "none".to_owned() } else { items.join(",") }
        }
        Some(Value::Null) | None => "?".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let fields = ["id", "name", "mfa", "methods", "endpoint", "state"];
        lines.push(fields.map(|name| cell(row, name)).to_vec());
    }
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max()
    };
    let widths: Vec<_> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    let drawn: Vec<_> = lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    drawn.join("\n")
}
