//! wg-mfa's state in SQLite or PostgreSQL.
//!
//! [`Store`] runs jobs: [`Store::read`] on a [`Snapshot`], [`Store::write`] in a [`Tx`]. The
//! functions on both have one file for each noun. They store and read plain values and the state
//! of `mfa-core`; they decide nothing that `mfa-core` decides, and they send nothing.
//!
//! What they do guarantee: a change and its entry in the audit log are in one transaction; a
//! change that gateways must learn of raises its location's revision in that transaction; what
//! may happen once happens once, by compare-and-set; secrets are sealed.

mod address;
mod api_token;
mod audit;
mod budget;
mod challenge;
mod change;
mod connection;
mod desired;
mod device;
mod enrollment;
mod error;
mod factor;
mod gateway;
mod group;
mod job;
mod listing;
mod location;
mod mail_settings;
mod meta;
mod migrate;
mod passkey;
mod postgres;
mod prepared;
mod rekey;
mod roster;
mod rotation;
mod schema;
mod seal;
mod seat;
mod session;
mod sqlite;
mod store;
mod token;
mod traffic;
mod trail;
mod tx;
mod user;
mod value;
mod web_session;
mod worker;

pub use address::ADDRESS_REST;
pub use api_token::{ApiToken, NewApiToken};
pub use audit::{AuditEntry, AuditKey, AuditVerdict};
pub use change::{Changes, Touched};
pub use desired::{DesiredPeer, DesiredSession};
pub use device::{Device, NewDevice, Poll};
pub use error::StoreError;
pub use factor::{PendingEmail, Totp};
pub use gateway::{Gateway, GatewayReport};
pub use group::Group;
pub use listing::{
    DeviceSort, GroupSummary, ListQuery, Listing, SessionFilter, SessionSort, UserSort,
};
pub use location::{Location, LocationSettings};
pub use mail_settings::{MailSettings, MailTls};
pub use passkey::{NewPasskey, Passkey};
pub use rekey::{Resealing, Sealing, Standing};
pub use roster::{Roster, RosterEntry, RosterQuery, RosterSort};
pub use rotation::RotationInfo;
pub use seal::{KeyId, KeySource, MasterKey, Place, RootKey, Sealer};
pub use seat::{CoreId, GatewaySeat, SeatTaken};
pub use session::{Activity, Quiet, Scope, SessionInfo};
pub use store::Store;
pub use token::{Spent, TokenPurpose};
pub use traffic::{Events, Traffic};
pub use trail::{Cut, Passed, Trail};
pub use tx::{Actor, By, Snapshot, Tx};
pub use user::{User, UserDetails};
pub use web_session::{WebSession, WebStage};
