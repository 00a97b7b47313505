//! Instance update: a device asks what it should know.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use mfa_core::token::Token;
use mfa_store::{Poll, StoreError};
use mfa_wire::http::DeviceConfigResponse;

use super::device_config;
use crate::app::App;

/// A poll from the same address is noted this often: noting each would be a write every 30 s for
/// each device there is.
const NOTE_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// No such token: the device is gone, or has another one.
    #[error("this device is not registered any more; enroll it again")]
    UnknownToken,
    /// The user is disabled.
    #[error("this account is disabled; ask an administrator")]
    Disabled,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns everything that the device with this polling token should know.
///
/// # Errors
///
/// [`PollError`].
pub async fn poll(
    app: &Arc<App>,
    token: &str,
    source: IpAddr,
) -> Result<DeviceConfigResponse, PollError> {
    let now = app.clock.now();
    let token = Token::parse(token).ok_or(PollError::UnknownToken)?.digest();
    let work = Arc::clone(app);
    let (device, answer) = app
        .store
        .read(move |view| {
            let device = view.device_by_token(&token)?.ok_or(PollError::UnknownToken)?;
            let user = view.user(device.user)?.ok_or(PollError::UnknownToken)?;
            if !user.active {
                return Err(PollError::Disabled);
            }
            let answer = device_config::build(view, &work.site, &user, &device, None)?;
            Ok((device, answer))
        })
        .await?;
    let noted = device
        .last_poll
        .is_some_and(|last| last.source == Some(source) && now.since(last.at) < NOTE_AGAIN);
    if !noted {
        let poll = Poll { at: now, source: Some(source) };
        app.store.write(move |tx| tx.note_poll(device.id, poll)).await?;
    }
    Ok(answer)
}
