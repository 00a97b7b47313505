//! The journey of a connect, with a server that follows a script and a model of the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::{CODE, FakeMachine, PSK, Typist, World, config, gateway_key};
use client_bin::agent::Outcome;
use client_bin::code::{CodeFrom, tidy};
use client_bin::connect::{ConnectRequest, Plan};
use client_bin::event::Event;
use client_bin::person::Nobody;
use client_bin::status::State;
use client_bin::{ClientError, Periods, exit};
use mfa_wire::http::{Code, Method};
use serde_json::json;
use tokio::sync::Notify;
use wg_netlink::WireGuard as _;
use wg_types::InterfaceConfig;

const START: &str = "/api/v1/client-mfa/start";
const FINISH: &str = "/api/v1/client-mfa/finish";

fn with_code(code: &str) -> ConnectRequest {
    ConnectRequest { code: CodeFrom::Given(Code::new(code)), ..ConnectRequest::to("office") }
}

async fn prepare(world: &World, request: &ConnectRequest) -> Result<Plan, ClientError> {
    world.client.prepare(request, &mut Nobody, &mut |_| ()).await
}

/// Lives a connection: the gateway answers at once, then `connected` acts, until it is over.
async fn live(
    world: &World,
    plan: Plan,
    connected: impl Fn(&World, &Notify) + Send + Sync,
) -> (Outcome, Vec<Event>) {
    let (stop, mut events) = (Notify::new(), Vec::new());
    let mut tell = |event: Event| {
        match event {
            Event::Up { .. } => world.machine.shake_hands(),
            Event::Connected { .. } => connected(world, &stop),
            _ => {}
        }
        events.push(event);
    };
    let outcome = world.client.live(plan, &mut tell, stop.notified()).await.unwrap();
    (outcome, events)
}

fn stop_it(_: &World, stop: &Notify) {
    stop.notify_one();
}

#[tokio::test]
async fn a_right_code_brings_the_tunnel_up_and_the_end_takes_it_down() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    assert!(world.machine.kernel.names().is_empty(), "nothing is touched before the code is right");

    let looked = AtomicBool::new(false);
    let (outcome, events) = live(&world, plan, |world, stop| {
        let office = world.machine.office();
        let peer = office.peer(&gateway_key()).unwrap();
        assert_eq!(*office.psk(&gateway_key()).unwrap().expose_base64(), *PSK);
        assert_eq!(peer.config.allowed_ips, ["10.1.0.0/24".parse().unwrap()]);
        assert_eq!(peer.config.endpoint, Some("127.0.0.1:51820".parse().unwrap()));
        assert_eq!(peer.config.persistent_keepalive.unwrap().get(), 25);
        assert_eq!(office.addresses().len(), 2);
        assert_eq!(world.machine.servers.now().len(), 1);
        looked.store(true, Ordering::Relaxed);
        stop.notify_one();
    })
    .await;

    assert!(looked.into_inner());
    assert_eq!(outcome, Outcome::Disconnected);
    assert!(world.machine.kernel.names().is_empty(), "the interface is gone");
    assert!(world.machine.servers.now().is_empty(), "the name servers are back");
    assert_eq!(world.server.bodies("/api/v1/device/disconnect"), [json!({ "location_id": 1 })]);
    assert!(events.iter().any(|e| matches!(e, Event::Disconnected { server_told: true, .. })));
}

#[tokio::test]
async fn a_code_keeps_its_leading_zero_and_the_request_is_proven() {
    let world = World::enrolled().await;
    let request =
        ConnectRequest { code: CodeFrom::Given(tidy(" 012 345")), ..ConnectRequest::to("office") };
    prepare(&world, &request).await.unwrap();

    assert_eq!(world.server.bodies(FINISH), [json!({ "token": "challenge", "code": "012345" })]);
    // The server verifies each proof that it gets; here it got one.
    for path in [START, FINISH] {
        assert!(world.server.headers(path, "wgmfa-proof").iter().all(Option::is_some));
    }
}

#[tokio::test]
async fn a_fresh_code_extends_the_session_and_leaves_the_tunnel_alone() {
    let world = World::enrolled().await;
    let request = with_code(CODE);
    let early = world.client.renew(&request, &mut Nobody, &mut |_| ()).await;
    assert!(early.is_err(), "there is no session yet");

    let plan = prepare(&world, &request).await.unwrap();
    let connected = Arc::new(Notify::new());
    let (up, machine) = (Arc::clone(&connected), world.machine.clone());
    let mut tell = move |event: Event| {
        if matches!(event, Event::Connected { .. }) {
            up.notify_one();
        }
        if matches!(event, Event::Up { .. }) {
            machine.shake_hands();
        }
    };
    let stop = Notify::new();
    let life = world.client.live(plan, &mut tell, stop.notified());
    let renewal = async {
        connected.notified().await;
        let office = world.machine.office();
        let before = office.psk(&gateway_key()).unwrap();
        let wrong = world.client.renew(&with_code("999999"), &mut Nobody, &mut |_| ()).await;
        assert!(wrong.is_err(), "a wrong code extends nothing");
        let session = world.client.renew(&request, &mut Nobody, &mut |_| ()).await.unwrap();
        assert_eq!((session.id, session.expires), (7, 1_800_086_400));
        let after = office.psk(&gateway_key()).unwrap();
        assert!(before.same_as(&after), "the key is the one of before");
        let peer = office.peer(&gateway_key()).unwrap();
        assert_eq!(peer.stats.rx_bytes, 92, "as is the peer");
        stop.notify_one();
    };
    let (outcome, ()) = tokio::join!(life, renewal);
    assert_eq!(outcome.unwrap(), Outcome::Disconnected);
    let asked = world.server.bodies("/api/v1/device/renew");
    let code = json!({ "session_id": 7, "token": "challenge", "code": CODE });
    assert_eq!(asked.last(), Some(&code));
}

#[tokio::test]
async fn a_pre_shared_key_is_never_on_a_disk() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    live(&world, plan, |world, stop| {
        for (path, bytes) in world.on_disk() {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(PSK), "{}", path.display());
        }
        stop.notify_one();
    })
    .await;
}

#[tokio::test]
async fn every_refusal_of_the_shared_api_has_its_own_name_and_words() {
    let world = World::enrolled().await;
    for (path, status, text, code, words) in [
        (START, 400, "location not found", "location-not-found", "update"),
        (START, 400, "device not found", "device-not-found", "enroll"),
        (START, 400, "user not found", "user-not-found", "administrator"),
        (START, 400, "MFA not enabled for location", "mfa-not-enabled", "update"),
        (START, 401, "unauthorized", "not-allowed", "groups"),
        (START, 400, "selected MFA method not available", "method-not-set-up", "mfa setup"),
        (
            START,
            400,
            "selected MFA method not supported by location",
            "method-not-allowed",
            "--method",
        ),
        (FINISH, 400, "invalid token", "challenge-invalid", "connect"),
        (FINISH, 400, "login session not found", "challenge-invalid", "connect"),
        (FINISH, 401, "Unauthorized", "code-wrong", "wrong"),
    ] {
        world.server.refuse(path, status, text);
        let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
        world.server.edit(|script| script.refusals.clear());

        assert_eq!(error.code(), code, "{text}");
        assert_eq!(error.exit_code(), exit::REFUSED, "{text}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_person_may_mistype_twice() {
    let world = World::enrolled().await;
    let request = ConnectRequest::to("office");
    let mut refused = 0;
    let mut tell = |event| {
        if let Event::CodeRefused { code, .. } = event {
            assert_eq!(code, "code-wrong");
            refused += 1;
        }
    };

    let mut third = Typist::typing(&["111111", "222222", CODE]);
    world.client.prepare(&request, &mut third, &mut tell).await.unwrap();
    assert_eq!(world.server.bodies(START).len(), 1, "it is one challenge");

    let mut never = Typist::typing(&["111111", "222222", "333333", CODE]);
    let error = world.client.prepare(&request, &mut never, &mut tell).await.unwrap_err();
    assert_eq!((error.code().as_str(), refused), ("code-wrong", 4));
}

#[tokio::test]
async fn a_wrong_code_from_the_command_line_is_not_tried_again() {
    let world = World::enrolled().await;
    let error = prepare(&world, &with_code("111111")).await.unwrap_err();
    assert_eq!(error.code(), "code-wrong");
    assert_eq!(world.server.bodies(FINISH).len(), 1);
}

#[tokio::test]
async fn a_mailed_code_is_announced_before_it_is_asked_for() {
    let world = World::enrolled().await;
    world.server.edit(|script| script.methods = vec![0, 1]);
    let request = ConnectRequest { method: Some(Method::Email), ..with_code(CODE) };
    let mut told = None;
    let mut tell = |event| {
        if let Event::Challenge { method, sent_to } = event {
            told = Some((method, sent_to));
        }
    };
    world.client.prepare(&request, &mut Nobody, &mut tell).await.unwrap();
    assert_eq!(told, Some(("email".to_owned(), Some("a…@example.org".to_owned()))));
}

#[tokio::test]
async fn the_only_method_is_taken_and_of_several_the_person_chooses() {
    let world = World::enrolled().await;
    world.server.edit(|script| script.methods = vec![1]);
    prepare(&world, &with_code(CODE)).await.unwrap();
    world.server.edit(|script| script.methods = vec![0, 1]);
    let mut second = Typist::typing(&["2"]);
    world.client.prepare(&with_code(CODE), &mut second, &mut |_| ()).await.unwrap();
    prepare(&world, &with_code(CODE)).await.unwrap();
    let methods: Vec<_> =
        world.server.bodies(START).iter().map(|body| body["method"].clone()).collect();
    assert_eq!(methods, [1, 1, 0], "without a person the app is the default");
}

#[tokio::test]
async fn without_any_method_the_way_to_one_is_told() {
    let world = World::enrolled().await;
    world.server.edit(|script| script.methods.clear());
    let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
    assert_eq!(error.exit_code(), exit::REFUSED);
    assert!(error.to_string().contains("client-bin mfa setup totp"), "{error}");
    assert!(world.server.bodies(START).is_empty());
}

#[tokio::test]
async fn a_stale_configuration_is_told_in_words_and_never_used() {
    let world = World::enrolled().await;
    world.server.edit(|script| script.configs[0]["endpoint"] = json!("127.0.0.1:4000"));

    let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
    assert_eq!(error.exit_code(), exit::STALE);
    assert!(
        error.to_string().contains("\"office\" has the endpoint 127.0.0.1:4000 now"),
        "{error}"
    );
    assert!(world.server.bodies(START).is_empty());

    let mut yes = Typist::typing(&["y"]);
    world.client.prepare(&with_code(CODE), &mut yes, &mut |_| ()).await.unwrap();
    prepare(&world, &with_code(CODE)).await.unwrap();
}

#[tokio::test]
async fn an_update_can_be_allowed_beforehand() {
    let world = World::enrolled().await;
    world.server.edit(|script| script.configs[0] = config(1, "office", false));
    let request = ConnectRequest { update: true, ..with_code(CODE) };
    let plan = prepare(&world, &request).await.unwrap();
    assert!(plan.preshared_key.is_none(), "the location asks for no code any more");
    assert!(world.server.bodies(START).is_empty());
}

#[tokio::test]
async fn a_location_without_a_factor_connects_without_the_server() {
    let world = World::new().await;
    world.server.edit(|script| {
        script.configs[0] = config(1, "office", false);
        script.mfa_required = false;
    });
    world.client.enroll(&world.server.url(), crate::support::TOKEN, None).await.unwrap();
    world.server.refuse("/api/v1/poll", 503, "busy");
    let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
    assert_eq!(error.code(), "busy", "a server that refuses is believed");

    world.server.edit(|script| script.refusals.clear());
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let (outcome, _) = live(&world, plan, stop_it).await;
    assert_eq!(outcome, Outcome::Disconnected);
    assert!(world.server.bodies(START).is_empty());
    assert!(world.server.bodies("/api/v1/device/disconnect").is_empty(), "there is no session");
}

#[tokio::test]
async fn a_server_of_another_kind_is_served_without_our_calls() {
    let world = World::new().await;
    world.server.edit(|script| script.ours = false);
    world.client.enroll(&world.server.url(), crate::support::TOKEN, None).await.unwrap();
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let (outcome, _) = live(&world, plan, stop_it).await;
    assert_eq!(outcome, Outcome::Disconnected);
    assert_eq!(world.server.bodies("/api/v1/device/nonce").len(), 2, "asked once a process");
    assert_eq!(world.server.headers(START, "wgmfa-proof"), [None]);
}

#[tokio::test]
async fn the_servers_end_takes_the_interface_down_and_says_why() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let (outcome, events) = live(&world, plan, |world, _| {
        world.server.edit(|script| {
            script.session = None;
            script.ended = Some(json!({ "reason": "idle", "detail": "Idle.", "at": 5 }));
        });
    })
    .await;

    let Outcome::Ended(end) = outcome else { panic!("it was ended by the server") };
    assert_eq!(end.reason, "idle");
    assert_eq!(
        end.message,
        "The connection to office was ended: no activity for 300 seconds. Run `client-bin connect office` to connect again."
    );
    assert!(world.machine.kernel.names().is_empty());
    assert!(world.server.bodies("/api/v1/device/disconnect").is_empty(), "it knows already");
    assert!(matches!(events.last(), Some(Event::Ended { .. })));
}

#[tokio::test]
async fn a_device_that_was_removed_is_disconnected() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let (outcome, _) = live(&world, plan, |world, _| {
        world.server.refuse("/api/v1/device/status", 400, "device not found");
    })
    .await;
    let Outcome::Ended(end) = outcome else { panic!("it was ended by the server") };
    assert_eq!(end.reason, "device_removed");
}

#[tokio::test]
async fn an_instance_update_arrives_while_connected() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let stop = Notify::new();
    let mut changes_told = Vec::new();
    let mut tell = |event: Event| match event {
        Event::Up { .. } => world.machine.shake_hands(),
        Event::Connected { .. } => world.server.edit(|script| {
            script.configs.push(config(2, "lab", false));
        }),
        Event::Updated { changes } => {
            changes_told = changes;
            stop.notify_one();
        }
        _ => {}
    };
    world.client.live(plan, &mut tell, stop.notified()).await.unwrap();
    assert_eq!(changes_told, ["location \"lab\" is new"]);
    assert!(world.client.location(None, "lab").is_ok(), "and it is stored");
}

#[tokio::test]
async fn an_interface_that_somebody_removed_is_noticed() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let (outcome, _) =
        live(&world, plan, |world, _| world.machine.office().remove().unwrap()).await;
    let Outcome::Ended(end) = outcome else { panic!("the interface is gone") };
    assert_eq!(end.reason, "interface_removed");
    assert_eq!(world.server.bodies("/api/v1/device/disconnect").len(), 1, "the server is told");
}

#[tokio::test]
async fn another_process_sees_and_ends_the_connection() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let up = Arc::new(Notify::new());
    let connected = Arc::clone(&up);
    let machine = world.machine.clone();
    let mut tell = move |event: Event| match event {
        Event::Up { .. } => machine.shake_hands(),
        Event::Connected { .. } => connected.notify_one(),
        _ => {}
    };
    let other = async {
        up.notified().await;
        let views = world.client.status(None).await.unwrap();
        assert_eq!(views[0].state, State::Connected);
        assert_eq!(views[0].link.as_ref().unwrap().rx_bytes, 92);
        assert_eq!(views[0].session.unwrap().id, 7);
        let again = prepare(&world, &with_code(CODE)).await.unwrap_err();
        assert_eq!(again.code(), "already-connected");
        let ended = world.client.disconnect(None, None).await.unwrap();
        assert!(ended[0].was_connected && ended[0].server_told);
    };
    let (outcome, ()) =
        tokio::join!(world.client.live(plan, &mut tell, core::future::pending()), other);
    assert_eq!(outcome.unwrap(), Outcome::Disconnected);
    assert_eq!(world.client.status(None).await.unwrap()[0].state, State::NotConnected);
}

#[tokio::test]
async fn a_new_connect_replaces_one_whose_session_is_over() {
    let mut world = World::enrolled().await;
    let quick = Duration::from_millis(5);
    let slow = Periods { first_handshake: quick, ..Periods::default() };
    world.client = world.client.clone().with_periods(slow);
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let up = Arc::new(Notify::new());
    let (connected, machine) = (Arc::clone(&up), world.machine.clone());
    let mut tell = move |event: Event| match event {
        Event::Up { .. } => machine.shake_hands(),
        Event::Connected { .. } => connected.notify_one(),
        _ => {}
    };
    let other = async {
        up.notified().await;
        world.server.edit(|script| script.session = None);
        prepare(&world, &with_code(CODE)).await.unwrap()
    };
    let (first, second) =
        tokio::join!(world.client.live(plan, &mut tell, core::future::pending()), other);
    assert_eq!(first.unwrap(), Outcome::Disconnected);
    let (outcome, _) = live(&world, second, stop_it).await;
    assert_eq!(outcome, Outcome::Disconnected);
}

#[tokio::test]
async fn what_a_killed_process_left_is_seen_and_cleaned_up() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let up = Notify::new();
    let mut tell = |event: Event| match event {
        Event::Up { .. } => world.machine.shake_hands(),
        Event::Connected { .. } => up.notify_one(),
        _ => {}
    };
    tokio::select! {
        // Dropped in the middle, as by SIGKILL.
        _ = world.client.live(plan, &mut tell, core::future::pending()) => panic!("it goes on"),
        () = up.notified() => {}
    }
    let views = world.client.status(None).await.unwrap();
    assert_eq!((&views[0].state, views[0].orphaned), (&State::Connected, true));

    let ended = world.client.disconnect(None, None).await.unwrap();
    assert!(ended[0].was_connected && ended[0].server_told);
    assert!(world.machine.kernel.names().is_empty());
    assert!(world.machine.servers.now().is_empty());
    assert_eq!(world.server.bodies("/api/v1/device/disconnect").len(), 1);
    assert!(world.client.disconnect(None, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_foreign_interface_in_a_killed_ones_place_is_left_alone() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let up = Notify::new();
    let mut tell = |event: Event| {
        if matches!(event, Event::Up { .. }) {
            up.notify_one();
        }
    };
    tokio::select! {
        _ = world.client.live(plan, &mut tell, core::future::pending()) => panic!("it goes on"),
        () = up.notified() => {}
    }
    world.machine.office().remove().unwrap();
    let foreign = wg_types::PrivateKey::from_bytes([8; 32]);
    let config = InterfaceConfig { private_key: Some(foreign), ..InterfaceConfig::default() };
    world.machine.office().configure(&config).unwrap();

    world.client.disconnect(None, None).await.unwrap();

    assert_eq!(world.machine.kernel.names(), ["wg-office"]);
}

#[tokio::test]
async fn a_foreign_interface_of_the_same_name_is_left_alone() {
    let world = World::enrolled().await;
    world.machine.office();
    let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
    assert_eq!(error.exit_code(), exit::INTERFACE);
    assert!(error.to_string().contains("--interface"), "{error}");
    assert!(world.server.bodies(START).is_empty(), "no code is spent on it");
}

#[tokio::test]
async fn missing_rights_are_told_before_a_code_is_spent() {
    let world = World::on(FakeMachine { unprivileged: true, ..FakeMachine::default() }).await;
    world.client.enroll(&world.server.url(), crate::support::TOKEN, None).await.unwrap();
    let error = prepare(&world, &with_code(CODE)).await.unwrap_err();
    assert_eq!(error.exit_code(), exit::INTERFACE);
    assert!(error.to_string().contains("root"), "{error}");
    assert!(world.server.bodies(START).is_empty());
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_told_honestly() {
    let world = World::enrolled().await;
    let plan = prepare(&world, &with_code(CODE)).await.unwrap();
    let machine = world.machine.clone();
    let mut tell = |_| ();
    let up = async {
        while world.client.status(None).await.unwrap()[0].link.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.client.status(None).await.unwrap()[0].state, State::Connecting);
        // A handshake from long ago.
        let long_ago = client_bin::clock::wall() - Duration::from_secs(181);
        machine.office().shake_hands(&gateway_key(), long_ago, None);
        let views = world.client.status(None).await.unwrap();
        let since = long_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(views[0].state, State::NoAnswer { since });
        world.client.disconnect(None, Some("office")).await.unwrap();
    };
    let (outcome, ()) =
        tokio::join!(world.client.live(plan, &mut tell, core::future::pending()), up);
    assert_eq!(outcome.unwrap(), Outcome::Disconnected);
}
