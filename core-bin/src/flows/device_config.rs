//! What a device must know: its locations, each with the text for `wg-quick`.

use core::fmt::Write as _;

use data_encoding::HEXLOWER;
use mfa_store::{Device, Location, Snapshot, StoreError, User};
use mfa_wire::http::{
    DeviceConfig, DeviceConfigResponse, DeviceInfo, InstanceInfo, LocationMfaMode,
    PRIVATE_KEY_PLACEHOLDER, SecretText, ServiceLocationMode,
};
use sha2::{Digest as _, Sha256};

use crate::app::Site;

/// Builds everything that `device` should know. Locations that its user may not use are absent.
///
/// # Errors
///
/// What the database reports.
pub fn build(
    view: &mut Snapshot,
    site: &Site,
    user: &User,
    device: &Device,
    token: Option<SecretText>,
) -> Result<DeviceConfigResponse, StoreError> {
    let (configs, instance) = (configs(view, device)?, instance(site, user));
    let config_version = Some(digest(&configs, &instance));
    let device = DeviceInfo {
        id: device.id.get(),
        name: device.name.clone(),
        pubkey: device.public_key.to_string(),
        user_id: device.user.get(),
        created_at: i64::try_from(device.created.as_unix_secs()).unwrap_or(i64::MAX),
    };
    Ok(DeviceConfigResponse { device, configs, instance, token, config_version })
}

/// Returns what [`build`] would put as `config_version`: it changes whenever anything that the
/// client must learn does.
///
/// # Errors
///
/// What the database reports.
pub fn version(
    view: &mut Snapshot,
    site: &Site,
    user: &User,
    device: &Device,
) -> Result<String, StoreError> {
    Ok(digest(&configs(view, device)?, &instance(site, user)))
}

/// Describes this installation to a user's client.
#[must_use]
pub fn instance(site: &Site, user: &User) -> InstanceInfo {
    InstanceInfo {
        id: site.id.clone(),
        name: site.name.clone(),
        url: site.url.to_string(),
        proxy_url: site.url.to_string(),
        username: user.details.login.clone(),
        enterprise_enabled: false,
        disable_all_traffic: false,
        openid_display_name: None,
        client_traffic_policy: 0,
    }
}

fn configs(view: &mut Snapshot, device: &Device) -> Result<Vec<DeviceConfig>, StoreError> {
    let mut configs = Vec::new();
    for location in view.locations_of(device.user)? {
        let addresses = view.addresses(device.id, location.id)?;
        if addresses.is_empty() {
            // Without an address there is nothing to configure; its network is full.
            continue;
        }
        let bare = join(addresses.iter().map(ipnet::IpNet::addr));
        configs.push(config(&location, &join(&addresses), bare));
    }
    Ok(configs)
}

fn config(location: &Location, addresses: &str, assigned_ip: String) -> DeviceConfig {
    let settings = &location.settings;
    let allowed_ips = join(&settings.allowed_ips);
    let dns = (!settings.dns.is_empty()).then(|| join(&settings.dns));
    let keepalive = settings.keepalive.map_or(0, core::num::NonZeroU16::get);
    let mut text =
        format!("[Interface]\nPrivateKey = {PRIVATE_KEY_PLACEHOLDER}\nAddress = {addresses}\n");
    if let Some(dns) = &dns {
        text.push_str("DNS = ");
        text.push_str(dns);
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n[Peer]\nPublicKey = {}\nAllowedIPs = {allowed_ips}\nEndpoint = {}\n",
        location.public_key, settings.endpoint
    );
    if keepalive > 0 {
        let _ = writeln!(text, "PersistentKeepalive = {keepalive}");
    }
    let asks_mfa = location.asks_mfa();
    DeviceConfig {
        network_id: location.id.get(),
        network_name: settings.name.clone(),
        config: text,
        endpoint: settings.endpoint.clone(),
        assigned_ip,
        pubkey: location.public_key.to_string(),
        allowed_ips,
        dns,
        mfa_enabled: asks_mfa,
        keepalive_interval: keepalive.into(),
        location_mfa_mode: Some(if asks_mfa {
            LocationMfaMode::Internal
        } else {
            LocationMfaMode::Disabled
        }),
        service_location_mode: Some(ServiceLocationMode::Disabled),
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn digest(configs: &[DeviceConfig], instance: &InstanceInfo) -> String {
    // The serializer fails for maps with keys that are no text; there are none here.
    let json = serde_json::to_vec(&(configs, instance)).unwrap_or_default();
    let digest = Sha256::digest(json);
    HEXLOWER.encode(digest.first_chunk::<16>().map_or(&[], <[u8; 16]>::as_slice))
}
