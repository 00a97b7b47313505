//! `core-bin audit …`

use clap::Subcommand;
use mfa_store::{AuditEntry, AuditVerdict};
use serde_json::{Value, json};

use super::answer::{table, time};
use super::{AdminError, Answer, Desk};

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the newest entries, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Only entries before this number, to go on where a list ended.
        #[arg(long, value_name = "NUMBER")]
        before: Option<i64>,
    },
    /// Print entries as JSON, one a line, oldest first, to be kept elsewhere.
    #[command(after_help = "Example, to go on where the last export ended:\n  \
        core-bin audit export --after \"$(tail -n 1 audit.jsonl | jq .seq)\" >> audit.jsonl")]
    Export {
        /// Only entries after this number: the last one that is kept already.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: i64,
        /// How many at most.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
        limit: i64,
    },
    /// Walk the whole chain and tell whether an entry was changed or removed.
    Verify,
}

pub(super) async fn run(desk: &Desk, command: AuditCommand) -> Result<Answer, AdminError> {
    match command {
        AuditCommand::List { limit, before } => {
            let entries = desk.store.read(move |view| view.audit_entries(before, limit)).await?;
            let rows: Vec<Vec<String>> = entries
                .iter()
                .map(|entry| {
                    vec![
                        entry.seq.to_string(),
                        crate::text::utc(entry.at),
                        entry.actor.clone(),
                        entry.action.clone(),
                        entry.subject.clone(),
                        entry.detail.clone(),
                    ]
                })
                .collect();
            let headings = ["number", "when", "who", "what", "to", "more"];
            let json = entries.iter().map(describe).collect();
            Ok(Answer::new(json, table(&headings, &rows, "Nothing was changed yet.")))
        }
        AuditCommand::Export { after, limit } => {
            let entries =
                desk.store.read(move |view| view.audit_entries_after(after, limit)).await?;
            let entries: Vec<Value> = entries.iter().map(chained).collect();
            let mut lines = entries.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
            if !lines.is_empty() {
                lines.push('\n');
            }
            Ok(Answer::new(entries.into(), lines))
        }
        AuditCommand::Verify => {
            let root = desk.store.root().clone();
            let verdict = desk.store.read(move |view| view.verify_audit(&root)).await?;
            judge(verdict)
        }
    }
}

fn judge(verdict: AuditVerdict) -> Result<Answer, AdminError> {
    match verdict {
        AuditVerdict::Whole { entries } => Ok(Answer::new(
            json!({ "whole": true, "entries": entries }),
            format!("The log is whole: {entries} entries, none changed, none missing."),
        )),
        AuditVerdict::Broken { seq } => Err(AdminError::LogBroken(format!(
            "the log is broken: entry {seq} is missing or was changed. Somebody wrote to the \
             database past this program; compare it with a backup"
        ))),
        AuditVerdict::CutShort { last, .. } => Err(AdminError::LogBroken(format!(
            "the log is cut short: it ends at entry {last}, before its recorded end. Somebody \
             removed the newest entries; compare it with a backup"
        ))),
    }
}

fn describe(entry: &AuditEntry) -> Value {
    let detail = serde_json::from_str(&entry.detail).unwrap_or(Value::Null);
    json!({
        "seq": entry.seq,
        "at": time(Some(entry.at)),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": detail,
    })
}

/// An entry with its place in the chain.
fn chained(entry: &AuditEntry) -> Value {
    let mut json = describe(entry);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("hash".to_owned(), data_encoding::HEXLOWER.encode(&entry.hash).into());
    }
    json
}
