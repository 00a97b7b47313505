//! Core on servers that are not ours: PostgreSQL for its state, aiosmtpd with TLS for its mail.

use demo::lab::{Service, run};

use super::*;

/// Where the two servers listen. Mail to loopback would go without TLS.
const POSTGRES: &str = "postgres://postgres@127.0.0.1:5433/postgres";
const SMTP: &str = "smtp://10.77.0.1:2526";

#[test]
fn the_journey_on_postgresql_with_mail_over_tls() -> Result<()> {
    demo::lab::within("independent::the_journey_on_postgresql_with_mail_over_tls", |lab| {
        let _database = postgres(lab)?;
        let mail = smtp(lab)?;
        let mut site = Site::in_lab(lab);
        let certificate = lab.directory().join("mail.pem").display().to_string();
        for (name, value) in [
            ("WGMFA_DATABASE__URL", POSTGRES),
            ("WGMFA_SMTP__URL", SMTP),
            ("WGMFA_SMTP__CA", &certificate),
        ] {
            site.environment.push((name.into(), value.into()));
        }
        let office = Office::at(lab, site, &["--mfa", "on"])?;
        let laptop = &office.laptop;
        office.connect_with_totp(0)?;
        ensure!(laptop.host().ping(SERVER)?);
        laptop.client(&["disconnect", "office"])?;
        refused(office.connect_with_totp(0), "code")?;

        let code = |seen: usize| -> Result<String> {
            let mut found = String::new();
            eventually("the code is in the mail", || {
                let mails = mail.log();
                let newer = mails.get(seen..).unwrap_or_default();
                let is_code =
                    |word: &&str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit());
                newer.split_whitespace().find(is_code).unwrap_or_default().clone_into(&mut found);
                Ok(!found.is_empty())
            })?;
            Ok(found)
        };
        let seen = mail.log().len();
        laptop.client(&["mfa", "setup", "email", "--begin"])?;
        laptop.client(&["mfa", "setup", "email", "--code", &code(seen)?])?;
        let seen = mail.log().len();
        laptop.connect_with("office", "email", &mut || code(seen))?;
        ensure!(laptop.host().ping(SERVER)?);
        let log = office.company.admin(&["audit", "verify"])?;
        ensure!(log.get("whole").and_then(Value::as_bool) == Some(true), "{log}");
        Ok(())
    })
}

/// Starts PostgreSQL in the lab, as its own user: it refuses to run as root.
fn postgres(lab: &Lab) -> Result<Service> {
    let directory = lab.directory().join("postgres").display().to_string();
    run("chmod", ["711", &lab.directory().display().to_string()])?;
    run("install", ["-d", "-o", "postgres", &directory])?;
    let bin = run("sh", ["-c", "ls -d /usr/lib/postgresql/*/bin | tail -n 1"])?;
    let bin = bin.trim();
    let start = format!(
        "cd / && exec setpriv --reuid postgres --regid postgres --clear-groups sh -c \
         '{bin}/initdb -D {directory}/data -A trust -N >/dev/null && exec {bin}/postgres \
         -D {directory}/data -p 5433 -k {directory} -c listen_addresses=127.0.0.1'"
    );
    let host = demo::lab::Host::core(lab.directory());
    let service = host.spawn("postgres", host.command("sh").args(["-c", &start]))?;
    within(Duration::from_secs(60), "PostgreSQL answers", || {
        let ready = ["-c", "exec \"$0\"/pg_isready -q -h 127.0.0.1 -p 5433", bin];
        Ok(run("sh", ready).is_ok())
    })?;
    Ok(service)
}

/// Starts a mail server that asks for STARTTLS and prints what it takes.
fn smtp(lab: &Lab) -> Result<Service> {
    let path = |name: &str| lab.directory().join(name).display().to_string();
    let (certificate, key) = (path("mail-server.pem"), path("mail-server.key"));
    let make = format!(
        "set -e; new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
         openssl req -x509 $new -days 2 -subj /CN=ca -keyout {ca}.key -out {ca}
         openssl req $new -subj /CN=mail -keyout {key} -out {certificate}.csr
         echo subjectAltName=IP:10.77.0.1 > {certificate}.ext
         openssl x509 -req -days 2 -in {certificate}.csr -CA {ca} -CAkey {ca}.key -CAcreateserial \
             -extfile {certificate}.ext -out {certificate}",
        ca = path("mail.pem"),
    );
    run("sh", ["-c", &make])?;
    let host = demo::lab::Host::core(lab.directory());
    let mut command = host.command("aiosmtpd");
    command.args(["--nosetuid", "--listen", "10.77.0.1:2526", "--tlscert", &certificate]);
    command.args(["--tlskey", &key, "--class", "aiosmtpd.handlers.Debugging", "stdout"]);
    command.env("PYTHONUNBUFFERED", "1");
    let service = host.spawn("smtp", &mut command)?;
    eventually("the mail server answers", || {
        Ok(std::net::TcpStream::connect("10.77.0.1:2526").is_ok())
    })?;
    Ok(service)
}
