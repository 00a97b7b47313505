//! Mail, as an SMTP server receives it.

use core_bin::config::Smtp;
use core_bin::mail::{self, CodeMail, CodePurpose, Mailer, Transport};
use mfa_core::time::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An SMTP server for one connection, without STARTTLS. Returns its port; the task gives all that
/// the client said. The first `refusals` recipients are told to come back later.
async fn server(refusals: usize) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut said, mut left) = (String::new(), refusals);
        while !said.contains("\r\n.\r\n") {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read);
            let mut data = false;
            write.write_all(b"220 sink\r\n").await.unwrap();
            loop {
                let mut line = String::new();
                if lines.read_line(&mut line).await.unwrap_or(0) == 0 {
                    break;
                }
                said.push_str(&line);
                let answer: &[u8] = match line.split_whitespace().next().unwrap_or_default() {
                    "." if data => {
                        data = false;
                        b"250 taken\r\n"
                    }
                    _ if data => continue,
                    "DATA" => {
                        data = true;
                        b"354 go on\r\n"
                    }
                    "RCPT" if left > 0 => {
                        left -= 1;
                        b"451 later\r\n"
                    }
                    "QUIT" => break,
                    _ => b"250 ok\r\n",
                };
                if write.write_all(answer).await.is_err() || said.contains("\r\n.\r\n") {
                    break;
                }
            }
        }
        said
    });
    (port, task)
}

fn settings(url: &str) -> Smtp {
    toml::from_str(&format!("url = \"{url}\"\nfrom = \"VPN <vpn@example.com>\"")).unwrap()
}

fn code_mail() -> mail::Mail {
    let purpose = CodePurpose::Connect { location: "paris".to_owned() };
    CodeMail {
        instance: "Example",
        purpose: &purpose,
        device: Some("laptop"),
        asked: Timestamp::from_unix_millis(1_795_478_400_000),
        minutes: 10,
        contact: "",
    }
    .write("ada@example.com".parse().unwrap(), "01234567")
}

#[tokio::test]
async fn a_mail_that_is_put_off_is_sent_again() {
    let (port, server) = server(1).await;
    let transport = Transport::new(&settings(&format!("smtp://127.0.0.1:{port}"))).unwrap();
    let (mailer, mails) = Mailer::through(Some(transport.into()));
    let delivery = tokio::spawn(mail::deliver(mailer.route(), mails));
    mailer.reserve().unwrap().send(code_mail());
    drop(mailer);
    let said = server.await.unwrap();
    assert!(said.contains("RCPT TO:<ada@example.com>"), "{said}");
    assert!(said.contains("From: VPN <vpn@example.com>"), "{said}");
    assert!(said.contains("01234567"), "{said}");
    delivery.await.unwrap();
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing_where_tls_is_required() {
    let (port, server) = server(0).await;
    let url = format!("smtp://127.0.0.1:{port}?tls=required");
    let transport = Transport::new(&settings(&url)).unwrap();
    let error = transport.send(&code_mail()).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("starttls"), "{error}");
    server.abort();
}

#[tokio::test]
async fn nobody_there_is_said_in_words() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let transport = Transport::new(&settings(&format!("smtp://127.0.0.1:{free}"))).unwrap();
    let error = transport.send(&code_mail()).await.unwrap_err();
    assert!(error.may_pass());
    assert!(error.to_string().contains("refused"), "{error}");
}
