//! `core-bin session show` and `core-bin session delays`: ends, as they reached the gateways.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use mfa_core::id::SessionId;
use mfa_core::time::Timestamp;
use serde_json::{Value, json};

use super::super::answer::{bytes, table, time};
use super::super::{AdminError, Answer, Desk};
use super::{Named, describe, name};
use crate::flows::session::SessionError;
use crate::view::{self, Delays, StepView, TrailStep};

/// Upper bounds of the histogram, in milliseconds.
const BUCKETS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 30_000, 120_000];

pub(super) async fn show(desk: &Desk, number: i64) -> Result<Answer, AdminError> {
    let id = SessionId::new(number);
    let found = desk
        .store
        .read(move |view| {
            let Some(info) = view.session(id)? else { return Ok(None) };
            Ok::<_, mfa_store::StoreError>(Some((name(view, info)?, view::trail(view, id)?)))
        })
        .await?;
    let Some((session, trail)) = found else {
        return Err(SessionError::NotFound(number).into());
    };
    let decided = session.info.ended.map(|(at, _)| at);
    let rows: Vec<Vec<String>> = trail
        .iter()
        .map(|step| {
            let last = step.last.map_or_else(
                || "not known".to_owned(),
                |(rx, tx)| format!("{} / {}", bytes(rx), bytes(tx)),
            );
            let times = [step.committed, step.sent, step.applied, step.verified];
            let mut row = vec![step.gateway.clone()];
            row.extend(times.map(|at| after(decided, at)));
            row.push(last);
            row
        })
        .collect();
    let headings = ["gateway", "committed", "sent", "applied", "verified", "last received / sent"];
    let none = "No gateway has acknowledged an end.";
    let text = format!("{}\n\n{}", sentence(&session), table(&headings, &rows, none));
    let mut answer = describe(&session);
    if let Value::Object(fields) = &mut answer {
        let steps = trail.iter().map(|step| described(step, decided)).collect();
        fields.insert("trail".to_owned(), Value::Array(steps));
    }
    Ok(Answer::new(answer, text))
}

pub(super) async fn delays(desk: &Desk, prometheus: bool) -> Result<Answer, AdminError> {
    let delays = desk.store.read(mfa_store::Snapshot::end_delays).await?;
    let sum = Delays::of(&delays);
    let text = if prometheus {
        histogram(&delays)
    } else if let Some(longest) = sum.longest_millis {
        format!(
            "{} ends on gateways: half within {} ms, 99 % within {} ms, the longest {longest} ms",
            sum.count,
            sum.p50_millis.unwrap_or_default(),
            sum.p99_millis.unwrap_or_default()
        )
    } else {
        "No end is on record that a gateway has acknowledged.".to_owned()
    };
    Ok(Answer::new(json!(sum), text))
}

fn sentence(session: &Named) -> String {
    let Named { info, user, device, location } = session;
    let state = match info.ended {
        None => "lives".to_owned(),
        Some((at, reason)) => {
            let at = time(Some(at)).as_str().unwrap_or_default().to_owned();
            format!("ended at {at}: {}", reason.code())
        }
    };
    format!("Session {} of {user} with {device} at {location} {state}.", info.id)
}

/// A step for programs. Its times are whole seconds, so it says too how long after the decision each was.
fn described(step: &TrailStep, decided: Option<Timestamp>) -> Value {
    let mut described = json!(StepView::from(step));
    if let Value::Object(fields) = &mut described {
        for (name, at) in [
            ("committed", step.committed),
            ("sent", step.sent),
            ("applied", step.applied),
            ("verified", step.verified),
        ] {
            fields.insert(format!("{name}_after_millis"), json!(millis(decided, at)));
        }
    }
    described
}

fn after(decided: Option<Timestamp>, at: Timestamp) -> String {
    millis(decided, at).map_or_else(String::new, |millis| format!("+{millis} ms"))
}

fn millis(decided: Option<Timestamp>, at: Timestamp) -> Option<u64> {
    decided.map(|decided| at.as_unix_millis().saturating_sub(decided.as_unix_millis()))
}

fn histogram(delays: &BTreeMap<u64, u64>) -> String {
    const NAME: &str = "wgmfa_session_end_seconds";
    let mut text = format!(
        "# HELP {NAME} From the decision to end a session to the kernel's dump that showed it.\n\
         # TYPE {NAME} histogram\n"
    );
    let seconds = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
    for bound in BUCKETS {
        let within: u64 = delays.range(..=bound).map(|(_, count)| count).sum();
        let _ = writeln!(text, "{NAME}_bucket{{le=\"{}\"}} {within}", seconds(bound));
    }
    let count: u64 = delays.values().sum();
    let sum = delays
        .iter()
        .fold(0_u64, |sum, (delay, count)| sum.saturating_add(delay.saturating_mul(*count)));
    let _ = writeln!(text, "{NAME}_bucket{{le=\"+Inf\"}} {count}");
    let _ = write!(text, "{NAME}_sum {}\n{NAME}_count {count}", seconds(sum));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_end_once_and_below_every_bound() {
        let delays = BTreeMap::from([(4, 2), (100, 1), (200_000, 1)]);
        let text = histogram(&delays);
        for line in [
            "wgmfa_session_end_seconds_bucket{le=\"0.005\"} 2",
            "wgmfa_session_end_seconds_bucket{le=\"0.100\"} 3",
            "wgmfa_session_end_seconds_bucket{le=\"120.000\"} 3",
            "wgmfa_session_end_seconds_bucket{le=\"+Inf\"} 4",
            "wgmfa_session_end_seconds_sum 200.108",
            "wgmfa_session_end_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
