//! Sessions.

use mfa_store::SessionInfo;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// A session: who is, or was, connected.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// Names the session for ever.
    pub id: i64,
    /// The login of who proved to be there.
    pub user: String,
    /// With which device.
    pub device: String,
    /// Where to.
    pub location: String,
    /// How it was proved.
    pub method: &'static str,
    /// Which pre-shared key it has.
    pub generation: u32,
    /// When it began.
    pub authorized_at: String,
    /// When a gateway first heard the device.
    pub connected_at: Option<String>,
    /// The last sign of life.
    pub last_activity_at: String,
    /// When it ends at the latest.
    pub lifetime_ends_at: String,
    /// Bytes that the gateways received from the device.
    pub rx_bytes: u64,
    /// Bytes that the gateways sent to the device.
    pub tx_bytes: u64,
    /// When it ended; absent: it is live.
    pub ended_at: Option<String>,
    /// Why it ended.
    pub end_reason: Option<&'static str>,
}

impl SessionView {
    /// Describes a session of these names.
    #[must_use]
    pub fn of(info: &SessionInfo, [user, device, location]: [String; 3]) -> Self {
        Self {
            id: info.id.get(),
            user,
            device,
            location,
            method: info.method.code(),
            generation: info.generation.get(),
            authorized_at: time(info.authorized),
            connected_at: info.connected.map(time),
            last_activity_at: time(info.last_activity),
            lifetime_ends_at: time(info.lifetime_ends),
            rx_bytes: info.rx_bytes,
            tx_bytes: info.tx_bytes,
            ended_at: info.ended.as_ref().map(|(at, _)| time(*at)),
            end_reason: info.ended.as_ref().map(|(_, reason)| reason.code()),
        }
    }
}
