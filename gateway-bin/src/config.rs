//! What a gateway is told at its own host: `gateway.toml`, the environment, the command line.
//!
//! Each of the three overrules the one before it. What the interface is to be, its key, port,
//! addresses and peers, is core's to say and never here.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wg_netlink::Want;

use crate::files::{self, FileError, Readers};
use crate::lease::Without;

/// Where a gateway keeps its files unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/wg-mfa-gateway";

/// The interface unless told otherwise.
pub const DEFAULT_INTERFACE: &str = "wg0";

/// How often statistics are sent unless core or the configuration says otherwise.
pub const DEFAULT_STATISTICS_PERIOD: Duration = Duration::from_secs(30);

/// How often core is asked for a sign of life unless told otherwise.
pub const DEFAULT_HEARTBEAT_PERIOD: Duration = Duration::from_secs(10);

/// How long traffic passes after core was last heard unless told otherwise.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(90);

/// Where core listens for gateways unless its URL says otherwise.
const DEFAULT_PORT: u16 = 8444;

/// All that a running gateway is told here.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its files are: `gateway.toml`, `cert.pem`, `ca.pem`, `key.pem`.
    pub dir: PathBuf,
    /// Where core is.
    pub core: CoreUrl,
    /// The interface that it programs.
    pub interface: String,
    /// How WireGuard is to run.
    pub backend: Backend,
    /// How often statistics are sent, unless core says otherwise.
    pub statistics_period: Duration,
    /// How often core is asked for a sign of life. After three without one the connection is given
    /// up and made anew.
    pub heartbeat_period: Duration,
    /// How long traffic of peers with sessions passes after core was last heard.
    pub lease: Duration,
    /// Whether to serve a location with MFA where the kernel cannot hold the lease.
    pub without_gate: Without,
}

/// What overrules the file; `None`: nothing does.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where core is.
    pub core: Option<CoreUrl>,
    /// The interface.
    pub interface: Option<String>,
    /// How WireGuard is to run.
    pub backend: Option<Backend>,
    /// How often statistics are sent.
    pub statistics_period: Option<Period>,
    /// How often core is asked for a sign of life.
    pub heartbeat_period: Option<Period>,
    /// How long traffic passes after core was last heard.
    pub lease: Option<Period>,
    /// Whether to refuse a location with MFA where the kernel cannot hold the lease.
    pub require_gate: Option<bool>,
}

/// `gateway.toml` as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// See [`Config::core`].
    pub core: CoreUrl,
    /// See [`Config::interface`].
    #[serde(default = "default_interface")]
    pub interface: String,
    /// See [`Config::backend`].
    #[serde(default)]
    pub backend: Backend,
    /// See [`Config::statistics_period`].
    #[serde(default = "default_statistics_period")]
    pub statistics_period: Period,
    /// See [`Config::heartbeat_period`].
    #[serde(default = "default_heartbeat_period")]
    pub heartbeat_period: Period,
    /// See [`Config::lease`].
    #[serde(default = "default_lease")]
    pub lease: Period,
    /// `true` is [`Without::Refuse`].
    #[serde(default)]
    pub require_gate: bool,
}

/// How WireGuard is to run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In the kernel if it has WireGuard, else in this process.
    #[default]
    Auto,
    /// In the kernel, or not at all.
    Kernel,
    /// In this process: slower, and the tunnels end with it.
    Userspace,
}

/// Where core listens for gateways, such as `https://core.example.com:8444`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreUrl {
    host: String,
    port: u16,
}

/// A span of time such as `30s`, `2m` or `1m 30s`; from 1 s to 1 h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Period(pub Duration);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none: the gateway was never enrolled here.
    #[error(
        "there is no gateway in {}. Make one: `core-bin gateway token LOCATION NAME`, run where \
         core runs, prints the command to run here. If it is elsewhere, say --dir DIR",
        dir.display()
    )]
    NotEnrolled {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be understood.
    #[error("{} is not understood: {source}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// One lost heartbeat would stop all traffic.
    #[error(
        "lease must be at least three times heartbeat_period, or one lost answer stops traffic"
    )]
    ShortLease,
    /// The configuration cannot be put into words.
    #[error("the configuration cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
}

impl Config {
    /// Reads `gateway.toml` in `dir`, overruled by `overrides`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotEnrolled`] if there is none, [`ConfigError::File`] if it cannot be read,
    /// [`ConfigError::Syntax`] if it is not understood; unknown keys are not.
    pub fn load(dir: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        let path = dir.join("gateway.toml");
        let text = match files::read(&path) {
            Err(error) if error.is_missing() => {
                return Err(ConfigError::NotEnrolled { dir: dir.to_owned() });
            }
            read => read?,
        };
        let file: ConfigFile = toml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path, source: Box::new(source) })?;
        let heartbeat_period = overrides.heartbeat_period.unwrap_or(file.heartbeat_period).0;
        let lease = overrides.lease.unwrap_or(file.lease).0;
        if lease < heartbeat_period * 3 {
            return Err(ConfigError::ShortLease);
        }
        let required = overrides.require_gate.unwrap_or(file.require_gate);
        Ok(Self {
            dir: dir.to_owned(),
            core: overrides.core.unwrap_or(file.core),
            interface: overrides.interface.unwrap_or(file.interface),
            backend: overrides.backend.unwrap_or(file.backend),
            statistics_period: overrides.statistics_period.unwrap_or(file.statistics_period).0,
            heartbeat_period,
            lease,
            without_gate: if required { Without::Refuse } else { Without::Serve },
        })
    }
}

impl ConfigFile {
    /// The defaults, for a core.
    #[must_use]
    pub fn new(core: CoreUrl) -> Self {
        Self {
            core,
            interface: default_interface(),
            backend: Backend::default(),
            statistics_period: default_statistics_period(),
            heartbeat_period: default_heartbeat_period(),
            lease: default_lease(),
            require_gate: false,
        }
    }

    /// Writes `gateway.toml` into `dir`, with a word on each key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), ConfigError> {
        const HEAD: &str = "\
# A wg-mfa gateway. What the interface is to be is core's to say; here is the rest.
#   core               where core listens for gateways
#   interface          the WireGuard interface that this gateway programs
#   backend            auto, kernel or userspace
#   statistics_period  how often statistics are sent, unless core says otherwise
#   heartbeat_period   how often core is asked for a sign of life
#   lease              how long, in a location with MFA, traffic passes after core was last heard;
#                      the kernel holds it (nftables), whatever becomes of this process
#   require_gate       true: where the kernel has no nftables, let no peer in
# Each can be overruled: WGMFA_GATEWAY_INTERFACE=wg1, or --interface wg1.

";
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        Ok(files::replace(&dir.join("gateway.toml"), text.as_bytes(), Readers::All)?)
    }
}

impl From<Backend> for Want {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Kernel => Self::Kernel,
            Backend::Userspace => Self::Userspace,
        }
    }
}

impl CoreUrl {
    /// The name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for CoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl FromStr for CoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("{text:?} is not core's URL; it looks like https://core.example.com:8444");
        let uri: tonic::transport::Uri = text.parse().map_err(|_| refused())?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            return Err(refused());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refused)?.to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(DEFAULT_PORT) })
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: jiff::SignedDuration = text
            .parse()
            .map_err(|_| format!("{text:?} is not a span of time; it looks like 30s or 2m"))?;
        let span = Duration::try_from(span).unwrap_or_default();
        if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&span) {
            Ok(Self(span))
        } else {
            Err(format!("{text:?} is not between 1s and 1h"))
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) {
            write!(f, "{}s", millis / 1000)
        } else {
            write!(f, "{millis}ms")
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for CoreUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CoreUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

fn default_interface() -> String {
    DEFAULT_INTERFACE.to_owned()
}

const fn default_statistics_period() -> Period {
    Period(DEFAULT_STATISTICS_PERIOD)
}

const fn default_heartbeat_period() -> Period {
    Period(DEFAULT_HEARTBEAT_PERIOD)
}

const fn default_lease() -> Period {
    Period(DEFAULT_LEASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> CoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_overruled() {
        let dir = tempfile::tempdir().unwrap();
        ConfigFile::new(url("https://core.example.com")).write(dir.path()).unwrap();

        let plain = Config::load(dir.path(), Overrides::default()).unwrap();
        assert_eq!(plain.core.to_string(), "https://core.example.com:8444");
        assert_eq!((plain.interface.as_str(), plain.backend), ("wg0", Backend::Auto));
        assert_eq!(plain.statistics_period, Duration::from_secs(30));
        assert_eq!(plain.heartbeat_period, Duration::from_secs(10));
        assert_eq!((plain.lease, plain.without_gate), (Duration::from_secs(90), Without::Serve));

        let overrides = Overrides {
            interface: Some("wg7".into()),
            backend: Some(Backend::Userspace),
            statistics_period: Some("1m 30s".parse().unwrap()),
            ..Overrides::default()
        };
        let overruled = Config::load(dir.path(), overrides).unwrap();
        assert_eq!(
            (overruled.interface.as_str(), overruled.backend, overruled.statistics_period),
            ("wg7", Backend::Userspace, Duration::from_secs(90))
        );
    }

    #[test]
    fn where_nothing_was_enrolled_the_next_step_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = Config::load(dir.path(), Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("core-bin gateway token"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "core = \"https://core:8444\"\nstatistic_period = \"30s\"\n";
        std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
        let error = Config::load(dir.path(), Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("statistic_period"), "{error}");
    }

    #[test]
    fn a_lease_outlives_two_lost_heartbeats() {
        let dir = tempfile::tempdir().unwrap();
        ConfigFile::new(url("https://core.example.com")).write(dir.path()).unwrap();
        let lease = |text: &str| {
            let lease = Some(text.parse().unwrap());
            Config::load(dir.path(), Overrides { lease, ..Overrides::default() })
        };
        assert!(matches!(lease("29s"), Err(ConfigError::ShortLease)));
        assert!(lease("30s").is_ok());
    }

    #[test]
    fn urls_are_https_with_nothing_behind_the_port() {
        assert_eq!((url("https://[::1]:9").host(), url("https://[::1]:9").port()), ("::1", 9));
        assert_eq!(url("https://[::1]:9/").to_string(), "https://[::1]:9");
        for wrong in ["http://core:8444", "core:8444", "https://", "https://core/x", ""] {
            assert!(wrong.parse::<CoreUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn periods_have_bounds() {
        assert_eq!("90s".parse(), Ok(Period(Duration::from_secs(90))));
        for wrong in ["0s", "2h", "-5s", "30", "soon"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }
}
