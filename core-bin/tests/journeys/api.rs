//! The REST API, as a program with a token uses it.

use core::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use axum::http::{Method, Request};
use core_bin::flows::api_token::{self, NewToken, Scope, Scopes, TokenError};
use mfa_core::token::Token;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use wg_types::PrivateKey;

use crate::rig::{Answer, HOME, Rig};

/// A program with a token.
pub(crate) struct Program<'a> {
    rig: &'a Rig,
    token: String,
}

impl<'a> Program<'a> {
    pub(crate) async fn with(
        rig: &'a Rig,
        name: &'static str,
        scopes: &str,
        login: Option<&str>,
    ) -> Self {
        let (by, token) = (rig.by(), Token::from_random(*rig.app.rng.bytes()));
        let digest = token.digest();
        let new = NewToken {
            name: name.to_owned(),
            scopes: scopes.parse().unwrap(),
            life: Duration::from_secs(3600),
            login: login.map(str::to_owned),
        };
        let add =
            move |tx: &mut mfa_store::Tx| api_token::add(tx, by, &new, &Scopes::all(), digest);
        let added: Result<_, TokenError> = rig.app.store.write(add).await;
        added.unwrap();
        Self { rig, token: token.expose_text().to_string() }
    }

    pub(crate) async fn call(&self, verb: &str, path: &str, body: Value) -> Answer {
        self.raw(verb, path, body.to_string().into_bytes(), None).await
    }

    async fn raw(&self, verb: &str, path: &str, body: Vec<u8>, tag: Option<&str>) -> Answer {
        let verb = Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
        let mut request = Request::builder()
            .method(verb)
            .uri(format!("/api/v1{path}"))
            .header(AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        self.rig.send(HOME, request.body(Body::from(body)).unwrap()).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call("get", path, Value::Null).await.ok()
    }
}

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
    let json = answer.json();
    assert_eq!(json["status"], status);
    assert_eq!(json["code"], code, "{}", answer.text);
    assert!(json["detail"].as_str().is_some_and(|words| words.len() > 8));
}

async fn document(rig: &Rig) -> Value {
    let request = Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap();
    rig.send(HOME, request).await.ok()
}

/// Every operation of the document: verb, path with values for its names, scope.
async fn operations(rig: &Rig) -> Vec<(String, String, String)> {
    let document = document(rig).await;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            let path: Vec<&str> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part })
                .collect();
            let scope = operation["x-scope"].as_str().unwrap().to_owned();
            all.push((verb.clone(), path.join("/"), scope));
        }
    }
    assert!(all.len() > 25, "{}", all.len());
    all
}

#[tokio::test]
async fn every_operation_needs_a_token_and_its_own_scope() {
    let rig = Rig::new().await;
    let all = operations(&rig).await;
    let codes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.code()).collect();
    for (number, code) in codes.iter().enumerate() {
        assert!(all.iter().any(|(.., scope)| scope == code), "{code} is of no use");
        let others: Vec<&str> = codes.iter().filter(|other| *other != code).copied().collect();
        let name = Box::leak(format!("without-{number}").into_boxed_str());
        let program = Program::with(&rig, name, &others.join(","), None).await;
        for (verb, path, scope) in all.iter().filter(|(.., scope)| scope == code) {
            let answer = program.call(verb, path, json!({})).await;
            problem(&answer, 403, "scope_missing");
            assert!(answer.text.contains(scope.as_str()), "{verb} {path}");
        }
    }
    let stranger = Program { rig: &rig, token: "x".repeat(43) };
    for (verb, path, _) in &all {
        problem(&stranger.call(verb, path, json!({})).await, 401, "unauthenticated");
    }
}

#[tokio::test]
async fn nothing_malformed_breaks_the_server() {
    let rig = Rig::new().await;
    let all = operations(&rig).await;
    let program = Program::with(&rig, "fuzz", "all", None).await;
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"login\":7}",
        "{\"name\":null,\"addresses\":[\"x\"]}",
        "{\"unknown\":1}",
        "{\"all\":\"yes\"}",
        "\u{0}",
        "{\"scopes\":[\"x\"],\"name\":\"x\"}",
    ];
    for (verb, path, _) in &all {
        for body in bodies {
            for query in ["", "?limit=0", "?limit=x", "?offset=-1", "?sort=%00", "?before=x"] {
                let answer = program.raw(verb, &format!("{path}{query}"), body.into(), None).await;
                assert!(
                    answer.status.as_u16() < 500,
                    "{verb} {path}{query} {body}: {}",
                    answer.text
                );
                rig.clock.advance(Duration::from_millis(100));
            }
        }
    }
    let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
    let bodies: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            use proptest::strategy::{Strategy as _, ValueTree as _};
            proptest::collection::vec(proptest::num::u8::ANY, 0..200)
                .new_tree(&mut runner)
                .unwrap()
                .current()
        })
        .collect();
    for (verb, path, _) in &all {
        for body in bodies.iter().take(8) {
            let answer = program.raw(verb, path, body.clone(), None).await;
            assert!(answer.status.as_u16() < 500, "{verb} {path}: {}", answer.text);
            rig.clock.advance(Duration::from_millis(100));
        }
    }
}

#[tokio::test]
async fn people_are_added_changed_listed_and_removed() {
    let rig = Rig::new().await;
    let program = Program::with(&rig, "people", "users:read,users:write", None).await;
    for login in ["bob", "Carol", "dave"] {
        let body =
            json!({"login": login, "email": format!("{login}@example.com"), "groups": ["staff"]});
        assert_eq!(program.call("post", "/users", body).await.status, 201);
    }
    let again = program.call("post", "/users", json!({"login": "BOB"})).await;
    problem(&again, 409, "conflict");

    let page = program.get("/users?sort=-login&limit=2&offset=1").await;
    assert_eq!((page["total"].as_u64(), page["limit"].as_u64()), (Some(4), Some(2)));
    let logins = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|user| user["login"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(logins(&page), ["Carol", "bob"], "in whatever case");
    assert_eq!(logins(&program.get("/users?search=CAROL%40").await), ["Carol"]);
    problem(&program.call("get", "/users?sort=phone", Value::Null).await, 400, "bad_request");

    let groups = program.get("/groups").await;
    assert_eq!(
        (&groups["items"][0]["name"], &groups["items"][0]["members"]),
        (&json!("staff"), &json!(3))
    );
    assert_eq!(program.get("/users?group=staff&limit=1").await["total"], 3);
    let change = json!({"name": "Bob B.", "active": false, "groups": []});
    let bob = program.call("patch", "/users/bob", change).await.ok();
    assert_eq!((&bob["name"], &bob["active"]), (&json!("Bob B."), &json!(false)));
    let disabled = program.call("post", "/users/bob/enrollment", json!({})).await;
    problem(&disabled, 409, "conflict");
    program.call("patch", "/users/bob", json!({"active": true})).await.ok();
    let ticket = program.call("post", "/users/bob/enrollment", json!({})).await;
    assert_eq!(ticket.status, 201, "{}", ticket.text);
    rig.redeem(ticket.json()["token"].as_str().unwrap()).await;

    assert_eq!(program.call("delete", "/users/bob", Value::Null).await.status, 204);
    problem(&program.call("get", "/users/bob", Value::Null).await, 404, "not_found");
    let log = rig.read(|view| view.audit_entries(None, 100)).await;
    assert!(log.iter().any(|e| e.action == "user.remove" && e.actor.starts_with("token:")));
}

#[tokio::test]
async fn groups_are_kept_and_their_members_are_named_one_by_one() {
    let rig = Rig::new().await;
    let program = Program::with(&rig, "groups", "users:read,users:write", None).await;
    let added = program.call("post", "/groups", json!({"name": "crew"})).await;
    assert_eq!(added.status, 201, "{}", added.text);
    problem(&program.call("post", "/groups", json!({"name": "crew"})).await, 409, "conflict");
    problem(&program.call("post", "/groups", json!({"name": "a b"})).await, 400, "bad_request");
    for _ in 0..2 {
        let put = program.call("put", "/groups/crew/members/ada", Value::Null).await;
        assert_eq!(put.status, 204, "{}", put.text);
    }
    let none = program.call("put", "/groups/crew/members/nobody", Value::Null).await;
    problem(&none, 404, "not_found");
    let none = program.call("put", "/groups/none/members/ada", Value::Null).await;
    problem(&none, 404, "not_found");
    program.call("patch", "/groups/crew", json!({"name": "sailors"})).await.ok();
    let list = program.get("/groups?search=SAIL&limit=1&sort=-name").await;
    assert_eq!((&list["total"], &list["items"][0]["members"]), (&json!(1), &json!(1)), "{list}");
    assert_eq!(program.get("/users?group=sailors").await["items"][0]["login"], "ada");

    let sites = Program::with(&rig, "sites", "locations:write", None).await;
    let narrow = json!({"groups": ["sailors"]});
    sites.call("patch", "/locations/paris", narrow).await.ok();
    let kept = program.call("delete", "/groups/sailors", Value::Null).await;
    problem(&kept, 409, "conflict");
    assert!(kept.text.contains("paris"), "{}", kept.text);
    sites.call("patch", "/locations/paris", json!({"groups": []})).await.ok();
    let out = program.call("delete", "/groups/sailors/members/ada", Value::Null).await;
    assert_eq!(out.status, 204, "{}", out.text);
    assert_eq!(program.get("/groups?search=sailors").await["items"][0]["members"], 0);
    assert_eq!(program.call("delete", "/groups/sailors", Value::Null).await.status, 204);
    let log = rig.read(|view| view.audit_entries(None, 100)).await;
    for action in ["group.add", "group.rename", "group.remove", "user.groups"] {
        assert!(log.iter().any(|entry| entry.action == action), "{action}");
    }
}

#[tokio::test]
async fn lists_are_cut_into_pages_that_meet() {
    let rig = Rig::new().await;
    for number in 0..5 {
        rig.add_user(&format!("p{number}"), &["crew"]).await;
    }
    let program = Program::with(&rig, "pages", "users:read,devices:read,sessions:read", None).await;
    let mut seen = Vec::new();
    for offset in [0, 2, 4, 6] {
        let page = program.get(&format!("/users?group=crew&limit=2&offset={offset}")).await;
        assert_eq!(page["total"], 5);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|user| user["login"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4"]);
    for list in ["users", "devices", "sessions", "groups"] {
        for wrong in ["limit=0", "limit=1001", "offset=-1", "sort=nothing", "what=x"] {
            let answer = program.call("get", &format!("/{list}?{wrong}"), Value::Null).await;
            problem(&answer, 400, "bad_request");
        }
    }
}

#[tokio::test]
async fn a_location_is_changed_only_as_it_was_read() {
    let rig = Rig::new().await;
    let program = Program::with(&rig, "sites", "locations:read,locations:write", None).await;
    let new =
        json!({"name": "lab", "endpoint": "vpn.example.com:4000", "addresses": ["10.7.0.0/24"]});
    let lab = program.call("post", "/locations", new).await;
    assert_eq!((lab.status.as_u16(), &lab.json()["mfa"]), (201, &json!(true)), "{}", lab.text);

    let read = program.call("get", "/locations/lab", Value::Null).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let off = json!({"mfa": false}).to_string();
    let seen = program.raw("patch", "/locations/lab?preview=true", off.clone().into(), Some(&tag));
    let seen = seen.await.ok();
    assert!(seen["effects"][0].as_str().unwrap().contains("key alone"), "{seen}");
    assert_eq!(program.get("/locations/lab").await["mfa"], true);
    let done = program.raw("patch", "/locations/lab", off.clone().into(), Some(&tag)).await;
    assert_ne!(done.headers["etag"], tag.as_str());
    assert_eq!(done.ok()["location"]["mfa"], false);
    let late = program.raw("patch", "/locations/lab", off.into(), Some(&tag)).await;
    problem(&late, 412, "changed_meanwhile");

    let short = json!({"mfa": true, "peer_disconnect_threshold_seconds": 1});
    problem(&program.call("patch", "/locations/lab", short).await, 400, "bad_request");
    assert_eq!(program.call("delete", "/locations/lab", Value::Null).await.status, 204);
    assert_eq!(program.get("/locations").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_servers_configuration_is_imported_or_its_wrong_line_named() {
    let rig = Rig::new().await;
    let program = Program::with(&rig, "import", "locations:write,locations:read", None).await;
    let [own, peer] = [PrivateKey::from_bytes([21; 32]), PrivateKey::from_bytes([22; 32])];
    let file = |address: &str| {
        let (own, peer) = (own.expose_base64(), peer.public_key());
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.1/24\n\n[Peer]\nPublicKey = {peer}\n\
             AllowedIPs = {address}\n",
            own.as_str()
        )
    };
    let body = |address: &str| {
        let endpoint = "vpn.example.com:51820";
        json!({"name": "old", "user": "ada", "endpoint": endpoint, "configuration": file(address)})
    };
    let wrong = program.call("post", "/locations/import", body("10.9.0.2/32")).await;
    problem(&wrong, 400, "bad_request");
    assert!(wrong.text.contains("line 7"), "{}", wrong.text);
    assert_eq!(program.get("/locations").await.as_array().unwrap().len(), 1);

    let done = program.call("post", "/locations/import", body("10.8.0.2/32")).await;
    assert_eq!(done.status, 201, "{}", done.text);
    assert_eq!(done.json()["devices"], 1);
    assert_eq!(done.json()["location"]["public_key"], own.public_key().to_string());
    assert!(!done.text.contains(own.expose_base64().as_str()));
    let again = program.call("post", "/locations/import", body("10.8.0.2/32")).await;
    problem(&again, 409, "conflict");
}

#[tokio::test]
async fn who_is_connected_is_seen_and_sent_away() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    let scopes = "sessions:read,sessions:write,devices:read,devices:write";
    let program = Program::with(&rig, "desk", scopes, None).await;
    let page = program.get("/sessions?user=ada&location=paris").await;
    assert_eq!(page["items"][0]["device"], "laptop", "{page}");
    assert_eq!(program.get("/devices?user=ada").await["items"][0]["sessions"], 1);
    let id = page["items"][0]["id"].as_i64().unwrap();
    let path = format!("/sessions/{id}");
    assert_eq!(program.call("delete", &path, Value::Null).await.status, 204);
    problem(&program.call("delete", &path, Value::Null).await, 404, "not_found");
    assert_eq!(rig.live_sessions().await, 0);
    let ended = program.get("/sessions?ended=true").await;
    assert_eq!(ended["items"][0]["end_reason"], "administrator", "{ended}");
    assert_eq!(program.get("/sessions").await["total"], 0, "only live ones unless asked");
    let traced = program.get(&path).await;
    assert_eq!(traced["session"]["end_reason"], "administrator", "{traced}");
    assert!(traced["trail"].is_array(), "{traced}");
    problem(&program.call("get", "/sessions/999", Value::Null).await, 404, "not_found");
    assert!(program.get("/sessions/delays").await["count"].is_u64());

    rig.connect(&device).await;
    let ended = program.call("post", "/sessions/end", json!({"location": "paris"})).await.ok();
    assert_eq!(ended["ended"].as_array().unwrap().len(), 1);
    assert_eq!(program.call("delete", "/devices/laptop", Value::Null).await.status, 204);
    assert_eq!(program.get("/devices").await["total"], 0);
}

#[tokio::test]
async fn gateways_mail_and_the_log_are_there() {
    let rig = Rig::bare(false).await;
    let program = Program::with(&rig, "ops", "all", None).await;
    let invited = json!({"location": "paris", "name": "gw7"});
    let invited = program.call("post", "/gateways/token", invited).await;
    assert_eq!(invited.status, 201, "{}", invited.text);
    assert!(invited.json()["command"].as_str().unwrap().starts_with("gateway-bin enroll"));
    assert_eq!(program.get("/gateways").await[0]["state"], "not enrolled");
    let lost = json!({"location": "rome", "name": "gw8"});
    problem(&program.call("post", "/gateways/token", lost).await, 404, "not_found");
    assert_eq!(program.call("delete", "/gateways/gw7", Value::Null).await.status, 204);

    assert_eq!(program.get("/mail").await["set_up"], false);
    let test = program.call("post", "/mail/test", json!({"address": "a@example.com"})).await;
    problem(&test, 409, "conflict");

    let log = program.get("/audit?limit=1").await;
    let seq = log[0]["seq"].as_i64().unwrap();
    let older = program.get(&format!("/audit?before={seq}")).await;
    assert_eq!(older[0]["seq"], seq - 1);
    let kept = program.get(&format!("/audit/export?after={}", seq - 1)).await;
    assert_eq!((&kept[0]["seq"], kept.as_array().unwrap().len()), (&json!(seq), 1), "{kept}");
    assert_eq!(kept[0]["hash"].as_str().unwrap().len(), 64);
    let verdict = program.get("/audit/verify").await;
    assert_eq!((&verdict["whole"], &verdict["entries"]), (&json!(true), &json!(seq)), "{verdict}");
}

#[tokio::test]
async fn a_token_makes_no_stronger_one_and_ends_in_time() {
    let rig = Rig::new().await;
    let maker = Program::with(&rig, "maker", "tokens:read,tokens:write,users:read", None).await;
    let more = json!({"name": "more", "scopes": ["users:write"]});
    problem(&maker.call("post", "/tokens", more).await, 403, "scope_missing");
    let made = json!({"name": "child", "scopes": ["users:read"], "valid_seconds": 60});
    let made = maker.call("post", "/tokens", made).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let child = Program { rig: &rig, token: made.json()["token"].as_str().unwrap().to_owned() };
    child.get("/users").await;
    let list = maker.get("/tokens").await;
    assert!(!list.to_string().contains(&child.token), "a secret is shown once");
    assert!(list[0]["last_used_at"].is_string(), "{list}");
    rig.clock.advance(Duration::from_secs(60));
    problem(&child.call("get", "/users", Value::Null).await, 401, "unauthenticated");

    assert_eq!(maker.call("delete", "/tokens/maker", Value::Null).await.status, 204);
    problem(&maker.call("get", "/users", Value::Null).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_token_is_worth_what_its_administrator_is() {
    let rig = Rig::new().await;
    let root = Program::with(&rig, "root", "all", None).await;
    root.call("patch", "/users/ada", json!({"admin": true})).await.ok();
    let ada = Program::with(&rig, "adas", "users:read", Some("ada")).await;
    ada.get("/users").await;
    root.call("patch", "/users/ada", json!({"admin": false})).await.ok();
    problem(&ada.call("get", "/users", Value::Null).await, 401, "unauthenticated");
}

#[tokio::test]
async fn one_token_cannot_flood_the_server() {
    let rig = Rig::new().await;
    let program = Program::with(&rig, "flood", "users:read", None).await;
    let mut refused = None;
    for _ in 0..400 {
        let answer = program.call("get", "/groups", Value::Null).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a limit");
    problem(&refused, 429, "too_many_requests");
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_document_and_its_explorer_fit_together() {
    let rig = Rig::new().await;
    let document = document(&rig).await;
    if let Ok(file) = std::env::var("WGMFA_OPENAPI_OUT") {
        std::fs::write(file, document.to_string()).unwrap();
    }
    let text = document.to_string();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name = text[at..].split('"').next().unwrap().rsplit('/').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
    }
    let page = Request::get("/api/docs").body(Body::empty()).unwrap();
    let page = rig.send(HOME, page).await;
    assert!(
        page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = format!("id=\"{}\"", operation["operationId"].as_str().unwrap());
            assert!(page.text.contains(&id), "{id}");
        }
    }
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    assert!(!page.text.contains("stylesheet") && !page.text.contains(" src="), "all in one");
}
