//! What the browser may ask for. Reading changes nothing; whatever changes something is a POST of
//! a form, which leads on to a page, so that reloading repeats nothing.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use mfa_wire::http::{Method, SecretText};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use url::Url;
use zeroize::Zeroizing;

use super::House;
use super::desk::What;
use super::dialog::Stage;
use super::door::{OPEN, STYLE};
use super::page;
use crate::clock;
use crate::code::tidy;
use crate::error::ClientError;

/// The most bytes of a form.
const BODY: usize = 16 * 1024;
/// How often connections are looked at while a browser watches.
const LOOK: Duration = Duration::from_secs(1);
/// Browsers that watch at once.
const WATCHERS: usize = 8;

const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                   img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const LOOKS: &str = include_str!("../../../look/style.css");
const MORE_LOOKS: &str = include_str!("../../templates/ui.css");
const SCRIPT: &str = include_str!("../../templates/ui.js");

type Here = State<Arc<House>>;

/// Every route, behind the door.
pub(super) fn router(house: &Arc<House>) -> Router {
    Router::new()
        .route(OPEN, get(open))
        .route("/", get(home))
        .route("/events", get(events))
        .route("/connect", post(connect))
        .route("/renew", post(renew))
        .route("/disconnect", post(disconnect))
        .route("/update", post(update))
        .route("/dialog", get(dialog))
        .route("/method", post(method))
        .route("/code", post(code))
        .route("/cancel", post(cancel))
        .route("/enroll", get(invite).post(enroll))
        .route("/methods", get(methods))
        .route("/setup", post(set_up))
        .route(STYLE, get(async || file("text/css; charset=utf-8", LOOKS)))
        .route("/ui.css", get(async || file("text/css; charset=utf-8", MORE_LOOKS)))
        .route("/ui.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(Arc::clone(house), judge))
        .layer(middleware::map_response(armour))
        .with_state(Arc::clone(house))
}

/// Lets a request in or not.
async fn judge(State(house): Here, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    match house.door.judge(request.method(), path, request.headers()) {
        Ok(()) => {
            house.visits.note();
            next.run(request).await
        }
        Err(shut) => {
            let page = page::Shut { is_open: false, words: shut.words() };
            (shut.status(), page::show(&page)).into_response()
        }
    }
}

/// What every answer says to the browser.
async fn armour(mut response: Response) -> Response {
    let said = [
        (CONTENT_SECURITY_POLICY, CSP),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With no referrer at all, browsers send forms with no origin either.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in said {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

#[derive(Deserialize)]
struct Key {
    key: SecretText,
}

/// The link: once, the browser that comes with it gets the cookie. The page leads on by itself, so
/// that the next request is one of our own pages', wherever the link was followed from.
async fn open(State(house): Here, Query(Key { key }): Query<Key>) -> Response {
    if !house.door.open(key.expose_secret(), clock::monotonic()) {
        let words = "This link was used, or is older than ten minutes. Run client-bin ui again and open the one that it prints.";
        return (StatusCode::FORBIDDEN, page::show(&page::Shut { is_open: false, words }))
            .into_response();
    }
    let Ok(mut cookie) = HeaderValue::from_str(&house.door.set_cookie()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    cookie.set_sensitive(true);
    let shown = page::show(&page::Shut { is_open: true, words: "Your connections are shown." });
    ([(SET_COOKIE, cookie)], shown).into_response()
}

async fn live(house: &House) -> String {
    let seen = house.desk.look().await;
    page::live(&house.desk, &seen, clock::wall())
}

async fn home(State(house): Here) -> Response {
    let live = live(&house).await;
    page::show(&page::Home { here: "home", said: house.desk.said(), live })
}

/// How everything stands, as often as it changes.
async fn events(State(house): Here) -> Response {
    if house.visits.watching.fetch_add(1, Ordering::Relaxed) >= WATCHERS {
        house.visits.watching.fetch_sub(1, Ordering::Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (events, stream) = mpsc::channel::<Result<Event, Infallible>>(1);
    tokio::spawn(async move {
        let mut news = house.desk.news();
        let mut last = String::new();
        loop {
            let now = live(&house).await;
            if now != last {
                let event = Event::default().event("look").data(&now);
                if events.send(Ok(event)).await.is_err() {
                    break;
                }
                last = now;
            }
            tokio::select! {
                // Either is a reason to look again.
                _ = timeout(LOOK, news.changed()) => {}
                () = events.closed() => break,
            }
        }
        house.visits.note();
        house.visits.watching.fetch_sub(1, Ordering::Relaxed);
    });
    Sse::new(ReceiverStream::new(stream)).keep_alive(KeepAlive::default()).into_response()
}

#[derive(Deserialize)]
struct Place {
    instance: String,
    location: i64,
}

async fn connect(State(house): Here, Form(place): Form<Place>) -> Response {
    ask(&house, What::Connect, place).await
}

async fn renew(State(house): Here, Form(place): Form<Place>) -> Response {
    ask(&house, What::Renew, place).await
}

async fn ask(house: &House, what: What, place: Place) -> Response {
    let place = (place.instance, place.location);
    match house.desk.ask(what, place, None, false).await {
        Ok(()) => go_on(house),
        Err(error) => home_with(house, &error),
    }
}

/// Shows the question as it stands; one that is answered closes.
fn go_on(house: &House) -> Response {
    let found = house.desk.with_dialog(|dialog| {
        let is_done = matches!(dialog.attempt.stage(), Stage::Done);
        (is_done, dialog.what, dialog.instance.clone())
    });
    match found {
        Some((false, ..)) => to("/dialog"),
        Some((true, what, instance)) => {
            house.desk.close();
            match what {
                What::Connect => {}
                What::Renew => house.desk.say("The session was extended."),
                What::SetUp => {
                    house.desk.say("The method is set up.");
                    return to(&methods_of(&instance));
                }
            }
            to("/")
        }
        None => to("/"),
    }
}

fn to(path: &str) -> Response {
    Redirect::to(path).into_response()
}

fn methods_of(instance: &str) -> String {
    let query: String = url::form_urlencoded::byte_serialize(instance.as_bytes()).collect();
    format!("/methods?instance={query}")
}

fn home_with(house: &House, error: &ClientError) -> Response {
    house.desk.complain(error);
    to("/")
}

async fn dialog(State(house): Here) -> Response {
    let behind = live(&house).await;
    let asked = house.desk.with_dialog(|dialog| {
        let is_done = matches!(dialog.attempt.stage(), Stage::Done);
        (!is_done).then(|| page::show(&page::ask(dialog, behind)))
    });
    asked.flatten().unwrap_or_else(|| go_on(&house))
}

#[derive(Deserialize)]
struct Chosen {
    /// Another method; none: the same once more.
    method: Option<String>,
    /// Do the Instance Update that is due.
    update: Option<String>,
}

/// Begins the question anew, by another method or the same.
async fn method(State(house): Here, Form(chosen): Form<Chosen>) -> Response {
    let method = chosen.method.as_deref().and_then(method_of);
    let found = house.desk.with_dialog(|dialog| {
        let place = dialog.location.as_ref().map(|(id, _)| (dialog.instance.clone(), *id));
        let is_choice = dialog.choices.iter().any(|choice| Some(choice.method) == method);
        let fits = dialog.choices.iter().any(|choice| choice.why.is_none());
        let method = if is_choice { method } else { fits.then_some(dialog.method) };
        (dialog.what, place, dialog.instance.clone(), method, dialog.method)
    });
    let begun = match found {
        Some((what, Some(place), _, method, _)) => {
            house.desk.ask(what, place, method, chosen.update.is_some()).await
        }
        Some((_, None, instance, _, method)) => house.desk.set_up(&instance, method).await,
        None => return to("/"),
    };
    match begun {
        Ok(()) => go_on(&house),
        Err(error) => {
            house.desk.close();
            home_with(&house, &error)
        }
    }
}

fn method_of(word: &str) -> Option<Method> {
    [Method::Totp, Method::Email].into_iter().find(|method| method.word() == word)
}

#[derive(Deserialize)]
struct Typed {
    code: SecretText,
}

async fn code(State(house): Here, Form(typed): Form<Typed>) -> Response {
    house.desk.answer(tidy(typed.code.expose_secret())).await;
    go_on(&house)
}

async fn cancel(State(house): Here) -> Response {
    let set_up = house
        .desk
        .with_dialog(|dialog| (dialog.what == What::SetUp).then(|| dialog.instance.clone()));
    house.desk.close();
    match set_up.flatten() {
        Some(instance) => to(&methods_of(&instance)),
        None => to("/"),
    }
}

async fn disconnect(State(house): Here, Form(place): Form<Place>) -> Response {
    match house.desk.disconnect(&(place.instance, place.location)).await {
        Ok(()) => to("/"),
        Err(error) => home_with(&house, &error),
    }
}

#[derive(Deserialize)]
struct At {
    instance: String,
}

async fn update(State(house): Here, Form(at): Form<At>) -> Response {
    match house.desk.update(&at.instance).await {
        Ok(changes) if changes.is_empty() => {
            house.desk.say("Instance Update: nothing has changed.");
        }
        Ok(changes) => house.desk.say(format!("Instance Update: {}.", changes.join("; "))),
        Err(error) => house.desk.complain(&error),
    }
    to("/")
}

async fn invite(State(house): Here) -> Response {
    let said = house.desk.said();
    page::show(&page::Enroll { here: "enroll", said, invitation: String::new() })
}

#[derive(Deserialize)]
struct Invitation {
    invitation: SecretText,
    #[serde(default)]
    name: String,
}

async fn enroll(State(house): Here, Form(form): Form<Invitation>) -> Response {
    let name = Some(form.name.trim()).filter(|name| !name.is_empty());
    let enrolled = match read_invitation(form.invitation.expose_secret()) {
        Ok((url, token)) => house.desk.client.enroll(&url, &token, name).await,
        Err(error) => Err(error),
    };
    match enrolled {
        Ok(enrolled) => {
            let mut said = format!(
                "This device is enrolled at {} as {} of {}.",
                enrolled.instance, enrolled.device, enrolled.user
            );
            for warning in &enrolled.warnings {
                said.push(' ');
                said.push_str(warning);
            }
            if enrolled.mfa_needed {
                said.push_str(" Set up a method now: the enrollment is short.");
            }
            house.desk.say(said);
            to(&methods_of(&enrolled.instance_id))
        }
        Err(error) => {
            house.desk.complain(&error);
            to("/enroll")
        }
    }
}

/// Reads what people paste: a link with a token, an address and a token, or the command with both.
fn read_invitation(text: &str) -> Result<(String, Zeroizing<String>), ClientError> {
    let mut words = text.split_whitespace();
    let is_command = |word: &&str| matches!(*word, "client-bin" | "enroll");
    let first = words.by_ref().find(|word| !is_command(word)).unwrap_or_default();
    if let Some(second) = words.next() {
        let is_address = |word: &str| word.contains("://");
        let is_turned = is_address(second) && !is_address(first);
        let (url, token) = if is_turned { (second, first) } else { (first, second) };
        return Ok((url.to_owned(), Zeroizing::new(token.to_owned())));
    }
    let missing = |url: String| ClientError::Url {
        url,
        why: "there is no token with it. Paste the link, or the address, a space, and the token",
    };
    let url: Url = first.parse().map_err(|_| missing("this".to_owned()))?;
    let token = url.query_pairs().find(|(name, _)| name == "token").map(|(_, value)| value);
    let base = || url.join("/").map_or_else(|_| first.to_owned(), String::from);
    match token {
        Some(token) => Ok((base(), Zeroizing::new(token.into_owned()))),
        None => Err(missing(base())),
    }
}

async fn methods(State(house): Here, Query(at): Query<At>) -> Response {
    let shown = async {
        let instance = house.desk.client.instance(Some(&at.instance))?;
        let list = house.desk.client.factors(&instance).await?;
        Ok::<_, ClientError>((instance, list))
    };
    match shown.await {
        Ok((instance, list)) => page::show(&page::methods(&instance, &list, house.desk.said())),
        Err(error) => home_with(&house, &error),
    }
}

#[derive(Deserialize)]
struct Wish {
    instance: String,
    method: String,
}

async fn set_up(State(house): Here, Form(wish): Form<Wish>) -> Response {
    let Some(method) = method_of(&wish.method) else { return to("/") };
    match house.desk.set_up(&wish.instance, method).await {
        Ok(()) => go_on(&house),
        Err(error) => home_with(&house, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_read_however_it_is_pasted() {
        let url = "https://vpn.example.org:8443/";
        for text in [
            format!("{url}join?token=T0ken.PIN"),
            format!("  {url} T0ken.PIN\n"),
            format!("T0ken.PIN {url}"),
            format!("client-bin enroll {url} T0ken.PIN"),
        ] {
            let (address, token) = read_invitation(&text).unwrap();
            assert_eq!((address.as_str(), token.as_str()), (url, "T0ken.PIN"), "{text}");
        }
        for text in ["", "T0ken", url, "client-bin enroll"] {
            assert!(read_invitation(text).is_err(), "{text}");
        }
    }
}
