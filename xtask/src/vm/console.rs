//! What a machine's console tells: the exit code that its first process reported, or why there is
//! none.

use std::process::ExitStatus;

use anyhow::{Result, bail};

use crate::process;

/// The command's exit code.
///
/// # Errors
///
/// When the time of `limit` seconds was up, or the machine ended without reporting; the text holds
/// the end of the console.
pub(super) fn result(console: &str, status: ExitStatus, limit: u64) -> Result<u8> {
    if let Some(code) = exit_code(console) {
        return Ok(code);
    }
    if status.code() == Some(process::TIMED_OUT) {
        bail!(
            "the machine's time of {limit} s was up before the command ended (--timeout SECONDS)\
             {}",
            tail(console)
        );
    }
    bail!("the machine ended ({status}) without a result{}", tail(console))
}

/// The code that the machine's init reported.
fn exit_code(console: &str) -> Option<u8> {
    let line =
        console.lines().rev().find_map(|line| line.trim().strip_prefix("wg-mfa-vm: exit "))?;
    line.parse().ok()
}

/// The console's last lines, for an error's text.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    if last.is_empty() {
        String::new()
    } else {
        format!("; its console ended with\n{}", last.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::{exit_code, tail};

    #[test]
    fn the_exit_code_is_the_one_that_was_reported_last() {
        let console = "wg-mfa-vm: up after 2.1 s\r\nwg-mfa-vm: exit 7\r\n";

        assert_eq!(exit_code(console), Some(7));
        assert_eq!(exit_code("Kernel panic - not syncing"), None);
    }

    #[test]
    fn an_error_shows_the_end_of_a_long_console() {
        let console = (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");

        let tail = tail(&console);

        assert!(
            tail.contains("line 99") && tail.contains("line 80") && !tail.contains("line 79\n")
        );
    }
}
