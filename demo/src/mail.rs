//! A mail server that takes every message and shows it: SMTP (RFC 5321) without relaying.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Messages received, newest last.
#[derive(Clone, Debug, Default)]
pub struct Mailbox(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Mailbox {
    /// How many messages have come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a mail with a code of `digits` digits among those after the first `seen`.
    /// Returns the mail and the code.
    ///
    /// # Errors
    ///
    /// If none comes within ten seconds.
    pub fn wait_for_code(&self, seen: usize, digits: usize) -> Result<(String, String)> {
        let found = |mails: &[String]| {
            let newer = mails.get(seen..).unwrap_or_default();
            newer.iter().find_map(|mail| Some((mail.clone(), code(mail, digits)?)))
        };
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Duration::from_secs(10);
        let (guard, _) = self
            .0
            .1
            .wait_timeout_while(guard, patience, |mails| found(mails).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        found(&guard).context("no mail with a code came within ten seconds")
    }

    fn push(&self, mail: String) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        self.0.1.notify_all();
    }
}

/// Finds the code of `digits` digits that stands alone on a line or between blanks.
fn code(mail: &str, digits: usize) -> Option<String> {
    let body = mail.split_once("\r\n\r\n").map_or(mail, |(_, body)| body);
    body.split_whitespace()
        .find(|word| word.len() == digits && word.bytes().all(|byte| byte.is_ascii_digit()))
        .map(str::to_owned)
}

/// Serves for ever.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve(listener: TcpListener, mailbox: Mailbox) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mailbox = mailbox.clone();
        tokio::spawn(async move {
            // A client that breaks off has nobody to complain to.
            let _ = converse(stream, &mailbox).await;
        });
    }
}

async fn converse(stream: TcpStream, mailbox: &Mailbox) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 demo.example ESMTP\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" | "HELO" => b"250 demo.example\r\n",
            "MAIL" | "RCPT" | "RSET" | "NOOP" => b"250 OK\r\n",
            "QUIT" => {
                write.write_all(b"221 Bye\r\n").await?;
                return Ok(());
            }
            "DATA" => {
                write.write_all(b"354 End with a dot\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.push_str("\r\n");
                }
                mailbox.push(mail);
                b"250 Taken\r\n"
            }
            _ => b"502 Not here\r\n",
        };
        write.write_all(answer).await?;
    }
    Ok(())
}
