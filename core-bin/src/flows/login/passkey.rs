//! A passkey in the place of a code: added by who is signed in, used by who has the password.

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mfa_core::token::Token;
use mfa_store::Passkey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::password::tell;
use super::{LoginError, SignedIn, find, open};
use crate::app::App;
use crate::passkey::{self, EDDSA, ES256, Made, PasskeyError, Relying, Signed};

/// For how long the browser may ask the person.
const PATIENCE: Duration = Duration::from_secs(120);
/// Passkeys of a user at most.
const MOST: usize = 20;

/// Why browsers make no passkeys for this server; `None`: they do.
#[must_use]
pub fn unavailable(app: &App) -> Option<&'static str> {
    Relying::of(&app.site.url).is_none().then_some(
        "passkeys need a server with a name: core's public.url is an IP address or has no TLS",
    )
}

/// Lets a browser be asked for a signature of one of the user's passkeys. Returns the options for
/// `navigator.credentials.get`.
///
/// # Errors
///
/// [`LoginError`].
pub async fn ask(app: &Arc<App>, token: &str) -> Result<Value, LoginError> {
    let site = site(app)?;
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let (now, challenge) = (app.clock.now(), *app.rng.bytes::<32>());
    let known = app
        .store
        .write(move |tx| {
            let (session, user) = find(tx, &digest, now)?.ok_or(LoginError::Over)?;
            tx.set_web_challenge(session.id, &challenge, now.saturating_add(PATIENCE))?;
            Ok::<_, LoginError>(tx.passkeys(user.id)?)
        })
        .await?;
    if known.is_empty() {
        return Err(PasskeyError::Unknown.into());
    }
    Ok(json!({
        "challenge": encode(&challenge),
        "rpId": site.id,
        "allowCredentials": described(&known),
        "userVerification": "preferred",
        "timeout": millis(),
    }))
}

/// Proves a passkey: a sign-in becomes a signed-in browser, and one that is signed in is fresh
/// again. Returns the new token; the old one is worth nothing.
///
/// # Errors
///
/// [`LoginError`].
pub async fn prove(app: &Arc<App>, token: &str, signed: Signed) -> Result<Token, LoginError> {
    let site = site(app)?;
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let now = app.clock.now();
    let new = Token::from_random(*app.rng.bytes());
    let fresh = new.digest();
    let proved = app
        .store
        .write(move |tx| {
            let (session, user) = find(tx, &digest, now)?.ok_or(LoginError::Over)?;
            let by = App::by_user(user.id, now);
            let challenge = tx.take_web_challenge(session.id, now)?;
            let known = tx.passkeys(user.id)?.into_iter().find(|one| one.credential == signed.id);
            let judged = challenge.ok_or(PasskeyError::Challenge).and_then(|challenge| {
                let known = known.ok_or(PasskeyError::Unknown)?;
                Ok((passkey::verify(&site, &challenge, &known, &signed)?, known))
            });
            let (count, known) = match judged {
                Ok(judged) => judged,
                Err(refused) => {
                    let detail = json!({ "method": "passkey", "why": refused.to_string() });
                    tx.audit(by, "mfa.refuse", format_args!("user:{}", user.id), &detail)?;
                    return Ok(Err(refused));
                }
            };
            tx.use_passkey(by, &known, count)?;
            open(tx, &user, &session, &fresh, now)?;
            Ok::<_, LoginError>(Ok(()))
        })
        .await?;
    proved?;
    Ok(new)
}

/// Lets a browser be asked to make a passkey. Returns the options for
/// `navigator.credentials.create`.
///
/// # Errors
///
/// [`LoginError`].
pub async fn ask_new(app: &Arc<App>, one: &SignedIn) -> Result<Value, LoginError> {
    let site = site(app)?;
    let user = one.fresh()?.user();
    let (now, challenge, session) = (app.clock.now(), *app.rng.bytes::<32>(), one.session.id);
    let known = app
        .store
        .write(move |tx| {
            tx.set_web_challenge(session, &challenge, now.saturating_add(PATIENCE))?;
            tx.passkeys(user)
        })
        .await?;
    if known.len() >= MOST {
        return Err(LoginError::TooManyPasskeys);
    }
    // Says nothing about the person, and is the same for all passkeys of one user (§5.4.3).
    let handle = Sha256::new()
        .chain_update(b"passkey user\0")
        .chain_update(app.site.id.as_bytes())
        .chain_update(user.get().to_be_bytes())
        .finalize();
    let details = &one.user.details;
    let shown = if details.name.is_empty() { &details.login } else { &details.name };
    let algorithm = |number: i64| json!({ "type": "public-key", "alg": number });
    Ok(json!({
        "challenge": encode(&challenge),
        "rp": { "id": site.id, "name": app.site.name },
        "user": { "id": encode(&handle), "name": details.login, "displayName": shown },
        "pubKeyCredParams": [algorithm(ES256), algorithm(EDDSA)],
        "excludeCredentials": described(&known),
        "authenticatorSelection":
            { "residentKey": "discouraged", "userVerification": "preferred" },
        "attestation": "none",
        "timeout": millis(),
    }))
}

/// Adds a passkey, and tells the user by mail.
///
/// # Errors
///
/// [`LoginError`].
pub async fn add(app: &Arc<App>, one: &SignedIn, name: &str, made: Made) -> Result<(), LoginError> {
    let site = site(app)?;
    let user = one.fresh()?.user();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    let name = if name.is_empty() { "Passkey".to_owned() } else { name };
    let (now, session) = (app.clock.now(), one.session.id);
    let added = app
        .store
        .write(move |tx| {
            let challenge = tx.take_web_challenge(session, now)?;
            let new = challenge
                .ok_or(PasskeyError::Challenge)
                .and_then(|challenge| passkey::register(&site, &challenge, &made, &name));
            let new = match new {
                Ok(new) => new,
                Err(refused) => return Ok(Err(refused)),
            };
            if tx.passkeys(user)?.len() >= MOST {
                return Err(LoginError::TooManyPasskeys);
            }
            tx.add_passkey(App::by_user(user, now), user, &new)?;
            Ok(Ok(()))
        })
        .await?;
    added?;
    tell(app, &one.user.details.email, "A passkey was added to your account.", now);
    Ok(())
}

/// Removes one of the user's passkeys, and tells the user by mail.
///
/// # Errors
///
/// [`LoginError`].
pub async fn remove(app: &Arc<App>, one: &SignedIn, id: i64) -> Result<(), LoginError> {
    let user = one.fresh()?.user();
    let now = app.clock.now();
    let removed = app
        .store
        .write(move |tx| tx.remove_passkeys(App::by_user(user, now), user, Some(id)))
        .await?;
    if removed > 0 {
        tell(app, &one.user.details.email, "A passkey was removed from your account.", now);
    }
    Ok(())
}

fn site(app: &App) -> Result<Relying, LoginError> {
    Relying::of(&app.site.url).ok_or(LoginError::NoPasskeys)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn described(known: &[Passkey]) -> Vec<Value> {
    let one = |one: &Passkey| json!({ "type": "public-key", "id": encode(&one.credential) });
    known.iter().map(one).collect()
}

fn millis() -> u64 {
    PATIENCE.as_secs().saturating_mul(1000)
}
