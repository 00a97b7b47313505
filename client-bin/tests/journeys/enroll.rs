//! Enrollment and factors, with a server that follows a script.

use crate::support::{CODE, TOKEN, Typist, World};
use client_bin::code::CodeFrom;
use client_bin::mfa::{SetupRequest, SetupStep};
use client_bin::person::Nobody;
use client_bin::{ClientError, exit};
use mfa_wire::http::{Code, Method};

fn totp(code: CodeFrom) -> SetupRequest {
    SetupRequest { instance: None, method: Method::Totp, code, current: CodeFrom::Person }
}

#[tokio::test]
async fn a_token_makes_the_device_known_and_its_key_never_leaves() {
    let world = World::new().await;

    let enrolled = world.client.enroll(&world.server.url(), TOKEN, Some("laptop")).await.unwrap();

    assert_eq!((enrolled.instance.as_str(), enrolled.device.as_str()), ("Acme", "laptop"));
    let instance = world.client.instance(None).unwrap();
    assert_eq!(instance.private_key.public_key().to_string(), enrolled.public_key);
    assert_eq!(instance.locations[0].name, "office");
    let secret = instance.private_key.expose_base64();
    let asked = format!("{:?}", world.server.script.lock().unwrap().asked);
    assert!(!asked.contains(secret.as_str()));
    assert_eq!(
        world.server.headers("/api/v1/enrollment/create_device", "cookie"),
        [Some("session=c00kie".to_owned())]
    );
}

#[tokio::test]
async fn a_token_that_was_used_is_told_so() {
    let world = World::new().await;
    let error = world.client.enroll(&world.server.url(), "used", None).await.unwrap_err();
    assert_eq!((error.code().as_str(), error.exit_code()), ("enrollment-invalid", exit::REFUSED));
    assert!(error.to_string().contains("token"), "{error}");
    assert!(world.client.store().load().unwrap().instances.is_empty());
}

#[tokio::test]
async fn enrolling_again_replaces_the_old_device() {
    let world = World::enrolled().await;
    let old = world.client.instance(None).unwrap().private_key.public_key();
    let enrolled = world.client.enroll(&world.server.url(), TOKEN, None).await.unwrap();
    assert!(enrolled.replaced);
    assert_ne!(world.client.instance(None).unwrap().private_key.public_key(), old);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_no_token() {
    let world = World::new().await;
    std::fs::write(world.dir.path().join("client"), "a file is in the way").unwrap();
    let error = world.client.enroll(&world.server.url(), TOKEN, None).await.unwrap_err();
    assert!(matches!(error, ClientError::State(_)), "{error}");
    assert!(world.server.script.lock().unwrap().asked.is_empty());
}

#[tokio::test]
async fn an_app_is_set_up_by_its_first_code() {
    let world = World::enrolled().await;
    let mut shown = None;
    let mut show = |step: SetupStep<'_>| {
        if let SetupStep::Begun(begun) = step {
            let uri = begun.otpauth.as_ref().unwrap().expose_secret().to_owned();
            shown = Some((begun.secret.as_ref().unwrap().expose_secret().to_owned(), uri));
        }
    };
    let mut person = Typist::typing(&["111111", CODE]);

    let codes = world.client.set_up(&totp(CodeFrom::Person), &mut person, &mut show).await.unwrap();

    assert_eq!(codes.len(), 2);
    let (secret, uri) = shown.unwrap();
    assert_eq!(secret, "JBSWY3DPEHPK3PXP");
    assert!(uri.starts_with("otpauth://totp/Acme:alice?secret=JBSWY3DPEHPK3PXP"), "{uri}");
}

#[tokio::test]
async fn programs_set_an_app_up_in_two_steps_and_the_secret_is_not_remembered() {
    let world = World::enrolled().await;
    let mut show = |_: SetupStep<'_>| ();
    world.client.begin_setup(&totp(CodeFrom::Person), &mut Nobody, &mut show).await.unwrap();
    for (path, bytes) in world.on_disk() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("JBSWY3DPEHPK3PXP"), "{}", path.display());
    }

    let confirm = |code| world.client.confirm_setup(None, Method::Totp, Code::new(code));
    assert_eq!(confirm("111111").await.unwrap_err().code(), "code-wrong");
    assert_eq!(confirm(CODE).await.unwrap().len(), 2);
    assert!(matches!(confirm(CODE).await, Err(ClientError::NothingPending(Method::Totp))));
}

#[tokio::test]
async fn a_program_can_make_the_first_code_of_the_secret() {
    let world = World::enrolled().await;
    let command = format!("[ \"$WGMFA_SECRET\" = JBSWY3DPEHPK3PXP ] && echo {CODE}");
    let request = totp(CodeFrom::Command(command));
    let codes = world.client.set_up(&request, &mut Nobody, &mut |_| ()).await.unwrap();
    assert_eq!(codes.len(), 2);
}
