//! The administrator's commands: users, locations, gateways, devices, sessions, the audit log.
//!
//! They work on the database itself, so they work whether or not core serves; a core that does is
//! told to look at once.

pub(crate) mod answer;
mod audit;
mod device;
mod gateway;
mod location;
mod master_key;
mod session;
mod token;
mod user;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::net::UnixDatagram;

use mfa_core::method::{Method, MethodSet};
use mfa_store::{Actor, By, Store, StoreError};

pub use answer::Answer;
pub use audit::AuditCommand;
pub use device::DeviceCommand;
pub use gateway::GatewayCommand;
pub use location::{Changes, LocationCommand, Switch};
pub use master_key::MasterKeyCommand;
pub use session::SessionCommand;
pub use token::TokenCommand;
pub use user::UserCommand;

use crate::clock::Clock;
use crate::config::Config;
use crate::dir::StateDir;
use crate::flows::api_token::TokenError;
use crate::flows::device::DeviceError;
use crate::flows::gateway::GatewayError;
use crate::flows::import::ImportError;
use crate::flows::location::LocationError;
use crate::flows::master_key::MasterKeyError;
use crate::flows::session::SessionError;
use crate::flows::user::UserError;
use crate::pki::{Ca, Pin, PkiError};
use crate::rng::Rng;

/// What can be administered.
#[derive(Debug, clap::Subcommand)]
pub enum Noun {
    /// People: add, list, show, enroll, disable, enable, remove, set groups, reset a method.
    #[command(subcommand)]
    User(UserCommand),
    /// Tunnel networks and what each asks of those who connect.
    #[command(subcommand)]
    Location(LocationCommand),
    /// Hosts that program WireGuard for a location.
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Enrolled devices.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Who is connected.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Keys of programs that use the REST API.
    #[command(subcommand)]
    Token(TokenCommand),
    /// What was changed, when and by whom; a chain that shows what was tampered with.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The key that seals every secret in the database.
    #[command(subcommand)]
    MasterKey(MasterKeyCommand),
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It would cut people off, and nobody said yes.
    #[error("{consequence}. Nothing was changed: say --yes to go ahead")]
    NotConfirmed {
        /// What would happen.
        consequence: String,
    },
    /// The audit log is not as it was written.
    #[error("{0}")]
    LogBroken(String),
    /// About a user.
    #[error(transparent)]
    User(#[from] UserError),
    /// About a location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// About a gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// About a device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// About a session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// About a file to import.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The file to import.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// About a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// A server on another host has not found the new master key.
    #[error(
        "{cores} running server(s) do not have the new master key yet. Copy {path} into the directory \
         of each, under that name, and run the command again. Nothing was sealed with it yet"
    )]
    CoresWithoutKey {
        /// How many.
        cores: usize,
        /// The file.
        path: String,
    },
    /// The certificate authority.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Where an administrator works: the state and what belongs to it.
#[derive(Debug)]
pub struct Desk {
    /// The state.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Random bytes.
    pub rng: Rng,
    /// What was configured.
    pub config: Config,
    /// Where core's files are.
    pub dir: StateDir,
}

impl Desk {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; then nothing was changed.
    pub async fn run(&self, noun: Noun) -> Result<Answer, AdminError> {
        let answer = match noun {
            Noun::User(command) => user::run(self, command).await,
            Noun::Location(command) => location::run(self, command).await,
            Noun::Gateway(command) => gateway::run(self, command).await,
            Noun::Device(command) => device::run(self, command).await,
            Noun::Session(command) => session::run(self, command).await,
            Noun::Token(command) => token::run(self, command).await,
            Noun::Audit(command) => audit::run(self, command).await,
            Noun::MasterKey(command) => master_key::run(self, command).await,
        }?;
        self.wake_core();
        Ok(answer)
    }

    /// Tells a running core to look at the database now. If none runs, none needs to know; and one
    /// that runs looks every second anyway.
    fn wake_core(&self) {
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.send_to(&[], self.dir.socket());
        }
    }

    /// The methods that this installation offers: e-mail needs a mail server.
    const fn offered(&self) -> MethodSet {
        let email = self.config.smtp.is_some();
        if email { MethodSet::ALL } else { MethodSet::ALL.without(Method::Email) }
    }

    fn by(&self) -> By {
        By::new(Actor::Cli, self.clock.now())
    }

    /// The pin of our CA, for whoever must know that it talks to this core.
    fn pin(&self) -> Result<Pin, AdminError> {
        Ok(Ca::load(&self.dir.ca())?.pin())
    }
}

/// Asks before people are cut off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Consent {
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Says what will happen, and asks if somebody can answer.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotConfirmed`].
    fn to(self, consequence: &str) -> Result<(), AdminError> {
        if self.yes || (io::stdin().is_terminal() && ask(consequence)) {
            return Ok(());
        }
        Err(AdminError::NotConfirmed { consequence: consequence.to_owned() })
    }
}

fn ask(consequence: &str) -> bool {
    let mut line = String::new();
    // To standard error: standard output may be read by a program.
    write!(io::stderr(), "{consequence}. Go ahead? [y/N] ").is_ok()
        && io::stderr().flush().is_ok()
        && io::stdin().read_line(&mut line).is_ok()
        && matches!(line.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use mfa_core::time::Timestamp;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        noun: Noun,
    }

    /// A desk over an empty database, and a way to type commands at it.
    struct Room {
        desk: Desk,
        _dir: tempfile::TempDir,
    }

    impl Room {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::new(dir.path());
            let clock = Clock::manual(Timestamp::from_unix_millis(1_795_478_400_000));
            let rng = Rng::system();
            Ca::load_or_create(&state.ca(), &rng, clock.now()).unwrap();
            let master = mfa_store::MasterKey::from_bytes([7; 32]);
            let store = Store::open("sqlite::memory:", &master).unwrap();
            let config = Config::default();
            Self { desk: Desk { store, clock, rng, config, dir: state }, _dir: dir }
        }

        async fn types(&self, line: &str) -> Result<Value, AdminError> {
            let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
            let line = Line::try_parse_from(core::iter::once("core-bin").chain(words)).unwrap();
            let answer = self.desk.run(line.noun).await?;
            assert!(!answer.text.is_empty());
            Ok(answer.json)
        }

        async fn refused(&self, line: &str) -> String {
            self.types(line).await.unwrap_err().to_string()
        }
    }

    const ADD: &str =
        "location add office --address 10.1.0.1/24,fd10::1/64 --endpoint vpn.example.org:51820";

    #[tokio::test]
    async fn a_location_starts_safe_and_says_what_it_asks() {
        let room = Room::new();
        let office = room.types(ADD).await.unwrap();
        assert_eq!(office["mfa"], true);
        assert_eq!(office["peer_disconnect_threshold_seconds"], 300);
        assert_eq!(office["listen_port"], 51820);
        assert_eq!(office["allowed_ips"], serde_json::json!(["10.1.0.0/24", "fd10::/64"]));
        assert_eq!(office["warnings"], serde_json::json!([]));

        let short = room.types("location set office --peer-disconnect-threshold 40").await.unwrap();
        assert!(short["warnings"][0].as_str().unwrap().contains("30s"), "{short}");
        let said = room.refused("location set office --peer-disconnect-threshold 2").await;
        assert!(said.contains("too short"), "{said}");
        assert!(room.refused(ADD).await.contains("already"));
        assert!(room.refused("location show lab").await.contains("lab"));
    }

    #[tokio::test]
    async fn switching_mfa_says_whom_it_cuts_before_it_does() {
        let room = Room::new();
        room.types(&format!("{ADD} --mfa off")).await.unwrap();
        room.types("user add alice --email alice@example.org").await.unwrap();
        // Nobody is cut off: no question.
        room.types("location set office --mfa on").await.unwrap();
        room.types("location set office --mfa off --yes").await.unwrap();
        add_device(&room, "alice").await;
        let said = room.refused("location set office --mfa on").await;
        assert!(said.contains("1 device has no session and will be disconnected"), "{said}");
        assert_eq!(room.types("location show office").await.unwrap()["mfa"], false);
        room.types("location set office --mfa on --yes").await.unwrap();
        let said = room.refused("location set office --mfa off").await;
        assert!(said.contains("key alone is enough"), "{said}");
    }

    #[tokio::test]
    async fn a_gateway_of_another_make_gets_a_token_that_stays() {
        let room = Room::new();
        room.types(ADD).await.unwrap();
        let first = room.types("gateway token office gw1 --legacy").await.unwrap();
        assert_eq!(first["token"].as_str().unwrap().len(), 64);
        assert!(first["expires_at"].is_null());
        let second = room.types("gateway token office gw1 --legacy").await.unwrap();
        assert_ne!(first["token"], second["token"]);
        let token = mfa_core::token::Token::parse(first["token"].as_str().unwrap()).unwrap();
        let store = &room.desk.store;
        let find =
            move |view: &mut mfa_store::Snapshot| view.gateway_by_legacy_token(&token.digest());
        assert_eq!(store.read(find).await.unwrap(), None);
        assert!(room.refused("gateway token lab gw1 --legacy").await.contains("lab"));
    }

    #[tokio::test]
    async fn people_come_and_go() {
        let room = Room::new();
        let alice =
            room.types("user add alice --email alice@example.org --group staff").await.unwrap();
        assert_eq!(alice["login"], "alice");
        assert!(room.refused("user add Alice").await.contains("already"));
        assert!(room.refused("user enroll bob").await.contains("bob"));

        let ticket = room.types("user enroll alice").await.unwrap();
        let (token, pin) = ticket["token"].as_str().unwrap().split_once('.').unwrap();
        assert!(token.len() >= 43 && pin == room.desk.pin().unwrap().to_string());

        room.types("user disable alice").await.unwrap();
        assert!(room.refused("user enroll alice").await.contains("disabled"));
        room.types("user enable alice").await.unwrap();
        add_device(&room, "alice").await;
        assert!(room.refused("user remove alice").await.contains("1 device"));
        let devices = room.types("device list").await.unwrap();
        assert_eq!(devices[0]["user"], "alice");
        room.types("device remove laptop --yes").await.unwrap();
        room.types("user remove alice --yes").await.unwrap();
        assert_eq!(room.types("user list").await.unwrap(), serde_json::json!([]));

        let log = room.types("audit list").await.unwrap();
        assert!(log.as_array().unwrap().len() >= 8);
        let verdict = room.types("audit verify").await.unwrap();
        assert_eq!(verdict["whole"], true);
    }

    #[tokio::test]
    async fn a_gateway_token_names_core_and_its_pin() {
        let room = Room::new();
        room.types(ADD).await.unwrap();
        let ticket = room.types("gateway token office gw1").await.unwrap();
        let command = ticket["command"].as_str().unwrap();
        assert!(command.starts_with("gateway-bin enroll --core https://"), "{command}");
        assert!(command.contains(ticket["ca_pin"].as_str().unwrap()));
        let gateways = room.types("gateway list").await.unwrap();
        assert_eq!(gateways[0]["state"], "not enrolled");
        // A second token for the same gateway replaces the first.
        room.types("gateway token office gw1").await.unwrap();
        assert_eq!(room.types("gateway list").await.unwrap().as_array().unwrap().len(), 1);
        room.types("gateway remove gw1 --yes").await.unwrap();
        assert!(room.refused("gateway token lab gw1").await.contains("lab"));
    }

    #[tokio::test]
    async fn groups_narrow_a_location() {
        let room = Room::new();
        room.types(&format!("{ADD} --group staff")).await.unwrap();
        let office = room.types("location show office").await.unwrap();
        assert_eq!(office["groups"], serde_json::json!(["staff"]));
        let office = room.types("location set office --group ''").await.unwrap();
        assert_eq!(office["groups"], serde_json::json!([]));
    }

    async fn add_device(room: &Room, login: &str) {
        let (by, login) = (room.desk.by(), login.to_owned());
        let digest = mfa_core::token::Token::from_random([9; 32]).digest();
        room.desk
            .store
            .write(move |tx| {
                let user = crate::flows::user::find(tx, &login)?;
                let new = mfa_store::NewDevice {
                    user: user.id,
                    name: "laptop".into(),
                    public_key: wg_types::PrivateKey::from_bytes([3; 32]).public_key(),
                    polling_token: digest,
                    source: None,
                };
                tx.add_device(by, &new)?;
                Ok::<_, AdminError>(())
            })
            .await
            .unwrap();
    }
}
