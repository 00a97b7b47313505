//! How a device joins, and how it learns of changes.

use serde::{Deserialize, Serialize};

use super::{Code, Method, SecretText};

/// Spends an enrollment token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnrollmentStartRequest {
    /// From the administrator.
    pub token: SecretText,
}

/// Who enrolls and where; the answer also sets the session cookie.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnrollmentStartResponse {
    /// Whom to ask.
    pub admin: AdminInfo,
    /// Who enrolls.
    pub user: EnrollmentUser,
    /// Until when the session is good, Unix seconds.
    pub deadline_timestamp: i64,
    /// Text for the last page of the enrollment.
    pub final_page_content: String,
    /// The device may be added later.
    pub vpn_setup_optional: bool,
    /// This server.
    pub instance: InstanceInfo,
    /// What the enrollment asks for.
    pub settings: EnrollmentSettings,
}

/// Whom a user can ask.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AdminInfo {
    /// A name.
    pub name: String,
    /// A number.
    pub phone_number: Option<String>,
    /// An address.
    pub email: String,
}

/// The user who enrolls.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnrollmentUser {
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Login name.
    pub login: String,
    /// Address.
    pub email: String,
    /// Number.
    pub phone_number: Option<String>,
    /// Not disabled.
    pub is_active: bool,
    /// The devices that are there already.
    pub device_names: Vec<String>,
    /// Has enrolled before.
    pub enrolled: bool,
    /// May administer.
    pub is_admin: bool,
}

/// What the enrollment asks for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the wire has it so")]
pub struct EnrollmentSettings {
    /// The device may be added later.
    pub vpn_setup_optional: bool,
    /// Only the client may activate a user.
    pub only_client_activation: bool,
    /// Only administrators manage devices.
    pub admin_device_management: bool,
    /// E-mail codes can be sent.
    pub smtp_configured: bool,
    /// The user needs a factor.
    pub mfa_required: bool,
}

/// This server, as clients file it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InstanceInfo {
    /// A UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where the administrators' pages are.
    pub url: String,
    /// Where this API is; ends with a slash.
    pub proxy_url: String,
    /// The user's login name.
    pub username: String,
    /// Always false.
    pub enterprise_enabled: bool,
    /// Forbids the client to route all traffic through the tunnel.
    pub disable_all_traffic: bool,
    /// An identity provider's name; absent: there is none.
    pub openid_display_name: Option<String>,
    /// 0: the user decides what is routed.
    #[serde(default)]
    pub client_traffic_policy: u8,
}

/// Sets the user's password and ends the enrollment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ActivateUserRequest {
    /// The user's number.
    #[serde(default)]
    pub phone_number: Option<String>,
    /// For the web pages.
    pub password: SecretText,
}

/// Adds a device.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CreateDeviceRequest {
    /// For people.
    pub name: String,
    /// Its WireGuard public key, base64.
    pub pubkey: String,
}

/// Asks for a device's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NetworkInfoRequest {
    /// Its WireGuard public key, base64.
    pub pubkey: String,
}

/// A device and the locations it can go to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeviceConfigResponse {
    /// The device.
    pub device: DeviceInfo,
    /// Every location that its user may use; what is missing here is no more.
    pub configs: Vec<DeviceConfig>,
    /// This server.
    pub instance: InstanceInfo,
    /// The polling token, when it is given for the first time.
    pub token: Option<SecretText>,
    /// Ours: changes whenever anything in `configs` or `instance` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<String>,
}

/// A device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// Its number.
    pub id: i64,
    /// For people.
    pub name: String,
    /// Its WireGuard public key, base64.
    pub pubkey: String,
    /// Its user's number.
    pub user_id: i64,
    /// When it joined, Unix seconds.
    pub created_at: i64,
}

/// One location as one device sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceConfig {
    /// The location's number.
    pub network_id: i64,
    /// The location's name.
    pub network_name: String,
    /// Text for `wg-quick`, with [`PRIVATE_KEY_PLACEHOLDER`](super::PRIVATE_KEY_PLACEHOLDER).
    pub config: String,
    /// "host:port".
    pub endpoint: String,
    /// The device's addresses, comma separated.
    pub assigned_ip: String,
    /// The location's public key, base64.
    pub pubkey: String,
    /// What to route into the tunnel, comma separated.
    pub allowed_ips: String,
    /// Name servers and search domains, comma separated.
    pub dns: Option<String>,
    /// Connecting needs a factor.
    #[serde(default)]
    pub mfa_enabled: bool,
    /// Seconds; 0: off.
    pub keepalive_interval: i64,
    /// The same as `mfa_enabled`, in newer clients' words.
    #[serde(default)]
    pub location_mfa_mode: Option<LocationMfaMode>,
    /// Always on before log-in, or not.
    #[serde(default)]
    pub service_location_mode: Option<ServiceLocationMode>,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(try_from = "u8", into = "u8")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => $number),+ }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = &'static str;

            fn try_from(number: u8) -> Result<Self, Self::Error> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    _ => Err(concat!("unknown ", stringify!($name))),
                }
            }
        }
    };
}

number! {
    /// Who asks for the factor.
    LocationMfaMode {
        /// Not said.
        Unspecified = 0,
        /// Nobody.
        Disabled = 1,
        /// Core.
        Internal = 2,
        /// An identity provider.
        External = 3,
    }
}

number! {
    /// Whether the tunnel stands before a user logs in to the machine.
    ServiceLocationMode {
        /// Not said.
        Unspecified = 0,
        /// It does not.
        Disabled = 1,
        /// Until the user logs in.
        PreLogon = 2,
        /// Always.
        AlwaysOn = 3,
    }
}

/// Begins to set up a factor within an enrollment.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct RegisterMfaStartRequest {
    /// TOTP or e-mail.
    pub method: Method,
}

/// What to confirm the factor with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RegisterMfaStartResponse {
    /// Base32; null for e-mail, whose code was sent.
    pub totp_secret: Option<SecretText>,
    /// Ours: the same as `otpauth://` address, for a QR code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otpauth_uri: Option<SecretText>,
    /// Ours: where the code was mailed to, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_to: Option<String>,
}

/// Confirms a factor within an enrollment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RegisterMfaFinishRequest {
    /// A first code.
    pub code: Code,
    /// Of which factor.
    pub method: Method,
}

/// One-use codes for a lost factor, shown once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RecoveryCodes {
    /// Empty if the user has codes from before.
    pub recovery_codes: Vec<SecretText>,
}

/// Instance update.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PollRequest {
    /// The polling token.
    pub token: SecretText,
}

/// Everything that the device should know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PollResponse {
    /// The device and its locations.
    pub device_config: DeviceConfigResponse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_numbers() {
        assert_eq!(serde_json::to_string(&LocationMfaMode::Internal).unwrap(), "2");
        assert_eq!(
            serde_json::from_str::<LocationMfaMode>("1").unwrap(),
            LocationMfaMode::Disabled
        );
        assert!(serde_json::from_str::<LocationMfaMode>("9").is_err());
    }

    #[test]
    fn an_absent_optional_and_a_null_one_are_equal() {
        let absent: ActivateUserRequest = serde_json::from_str(r#"{"password":"p"}"#).unwrap();
        let null: ActivateUserRequest =
            serde_json::from_str(r#"{"password":"p","phone_number":null}"#).unwrap();
        assert_eq!(absent.phone_number, null.phone_number);
    }
}
