//! A second factor buys a session and its pre-shared key: `cargo run --example embed_mfa`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::{SystemTime, UNIX_EPOCH};

use wg_mfa::mfa_core::budget::{GuessBudget, Lane};
use wg_mfa::mfa_core::challenge::{
    Access, Answer, Challenge, Evidence, Question, Standing, Subject, TotpEvidence,
};
use wg_mfa::mfa_core::connect::Session;
use wg_mfa::mfa_core::factor::{CodeKey, totp::TotpSecret};
use wg_mfa::mfa_core::id::{DeviceId, LocationId, UserId};
use wg_mfa::mfa_core::{method::Method, policy::LocationPolicy, time::Timestamp, token::Token};
use wg_mfa::wg_types::PresharedKey;

fn main() -> anyhow::Result<()> {
    // What you store: the user's secret, the location's policy, and a key for digests of codes.
    let secret = TotpSecret::from_bytes(rand::random());
    let policy = LocationPolicy::recommended();
    let key = CodeKey::from_bytes(rand::random());
    println!("scan: {}", *secret.expose_uri("Acme VPN", "alice"));

    // Start: the client gets the token's text, you keep the challenge under its digest.
    let (alice, laptop, office) = (UserId::new(1), DeviceId::new(1), LocationId::new(1));
    let subject = Subject { user: alice, device: laptop, location: office };
    let standing =
        Standing { access: Access::Granted, policy: &policy, enabled: Method::Totp.into() };
    let token = Token::from_random(rand::random()).digest();
    let mut challenge =
        Challenge::start(token, subject, Lane::Proven, Question::Totp, &standing, now()?)?;

    // Finish, first transaction: count the try, and commit before the code is looked at.
    let typed = secret.code_at(now()?).expose_text(); // in earnest, from the user
    let mut budget = GuessBudget::new(challenge.guess_key());
    let answer = Answer::parse(challenge.method(), &typed)?;
    let attempt = challenge.count_try(answer, &mut budget, now()?)?;

    // Finish, second transaction: read everything again, verify, mark the proof as used.
    let totp = Some(TotpEvidence { secret: &secret, last_step: None });
    let evidence = Evidence { key: &key, totp, recovery: &[] };
    let verified = challenge.verify(&attempt, &subject, &evidence, &standing, now()?)?;
    budget.success(verified.charge());
    println!("proved: {:?} at {:?}", verified.proof(), verified.at());

    let psk = PresharedKey::from_bytes(rand::random());
    let session = Session::authorize(verified, &policy, psk, now()?);
    println!("{}, until {:?}", session.state().code(), session.lifetime_ends());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an embedder owns the clock")]
fn now() -> anyhow::Result<Timestamp> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Timestamp::from_unix_millis(millis.try_into()?))
}
