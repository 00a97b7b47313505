//! Gateways: hosts that program WireGuard for one location.

use diesel::prelude::*;
use mfa_core::id::{GatewayId, LocationId};
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::gateway;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "gateway";

/// A gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Names the gateway.
    pub id: GatewayId,
    /// Which location it serves.
    pub location: LocationId,
    /// What the administrator calls it; unique.
    pub name: String,
    /// The serial number of the certificate in force; `None`: it has not enrolled.
    pub cert_serial: Option<Vec<u8>>,
    /// The serial number of the certificate with which that one was asked for.
    pub previous_cert_serial: Option<Vec<u8>>,
    /// The digest of the long-lived token of a gateway of another make, which has no certificate.
    pub legacy_token: Option<TokenDigest>,
    /// When it enrolled.
    pub enrolled: Option<Timestamp>,
    /// When it last said anything.
    pub heard: Option<Timestamp>,
    /// The revision that it last said it had applied; 0: none.
    pub applied_revision: i64,
    /// Its program's version, as it says.
    pub version: String,
    /// How WireGuard runs there, as it says.
    pub backend: String,
    /// Its host's name, as it says.
    pub hostname: String,
    /// When its certificate was revoked; `None`: it was not.
    pub revoked: Option<Timestamp>,
}

/// What a gateway says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GatewayReport {
    /// Its program's version.
    pub version: String,
    /// How WireGuard runs there.
    pub backend: String,
    /// Its host's name.
    pub hostname: String,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = gateway)]
struct Row {
    id: i64,
    location_id: i64,
    name: String,
    cert_serial: Option<Vec<u8>>,
    previous_cert_serial: Option<Vec<u8>>,
    legacy_token: Option<Vec<u8>>,
    enrolled_at: Option<i64>,
    heard_at: Option<i64>,
    applied_revision: i64,
    version: String,
    backend: String,
    hostname: String,
    revoked_at: Option<i64>,
}

impl TryFrom<Row> for Gateway {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let digest = |bytes: Vec<u8>| to_digest(&bytes, TABLE).map(TokenDigest::from_bytes);
        Ok(Self {
            id: GatewayId::new(row.id),
            location: LocationId::new(row.location_id),
            name: row.name,
            cert_serial: row.cert_serial,
            previous_cert_serial: row.previous_cert_serial,
            legacy_token: row.legacy_token.map(digest).transpose()?,
            enrolled: row.enrolled_at.map(from_millis),
            heard: row.heard_at.map(from_millis),
            applied_revision: row.applied_revision,
            version: row.version,
            backend: row.backend,
            hostname: row.hostname,
            revoked: row.revoked_at.map(from_millis),
        })
    }
}

impl Snapshot {
    /// Returns the gateway `id`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn gateway(&mut self, id: GatewayId) -> Result<Option<Gateway>, StoreError> {
        let row: Option<Row> = gateway::table
            .find(id.get())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Gateway::try_from).transpose()
    }

    /// Returns the gateway called `name`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn gateway_by_name(&mut self, name: &str) -> Result<Option<Gateway>, StoreError> {
        let row: Option<Row> = gateway::table
            .filter(gateway::name.eq(name))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Gateway::try_from).transpose()
    }

    /// Returns the gateway with this long-lived token.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn gateway_by_legacy_token(
        &mut self,
        token: &TokenDigest,
    ) -> Result<Option<Gateway>, StoreError> {
        let row: Option<Row> = gateway::table
            .filter(gateway::legacy_token.eq(token.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Gateway::try_from).transpose()
    }

    /// Lists all gateways by name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError> {
        let rows: Vec<Row> = gateway::table
            .order(gateway::name.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(Gateway::try_from).collect()
    }
}

impl Tx {
    /// Adds a gateway, which may then enroll.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the name is taken, [`StoreError::Missing`] without that location.
    pub fn add_gateway(
        &mut self,
        by: By,
        location: LocationId,
        name: &str,
    ) -> Result<GatewayId, StoreError> {
        self.location(location)?.ok_or(StoreError::missing("location"))?;
        if self.gateway_by_name(name)?.is_some() {
            return Err(StoreError::Exists { what: "gateway" });
        }
        let id: i64 = diesel::insert_into(gateway::table)
            .values((
                gateway::location_id.eq(location.get()),
                gateway::name.eq(name),
                gateway::applied_revision.eq(0),
                gateway::version.eq(""),
                gateway::backend.eq(""),
                gateway::hostname.eq(""),
                gateway::created_at.eq(to_millis(by.now)),
            ))
            .returning(gateway::id)
            .get_result(&mut self.conn)?;
        let detail = json!({ "name": name, "location": location.get() });
        self.audit(by, "gateway.add", format_args!("gateway:{id}"), &detail)?;
        Ok(GatewayId::new(id))
    }

    /// Notes the first certificate of a gateway, or the first after a new token. What it had
    /// before, a certificate or a long-lived token, counts no longer; an earlier revocation was of
    /// that, and is over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that gateway.
    pub fn enroll_gateway(
        &mut self,
        by: By,
        id: GatewayId,
        serial: &[u8],
    ) -> Result<(), StoreError> {
        self.replace_credential(by, id, Some(serial), None)?;
        let detail = json!({ "serial": hex(serial) });
        self.audit(by, "gateway.enroll", format_args!("gateway:{id}"), &detail)
    }

    /// Gives a gateway of another make a long-lived token in place of what it had before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that gateway.
    pub fn set_legacy_token(
        &mut self,
        by: By,
        id: GatewayId,
        token: &TokenDigest,
    ) -> Result<(), StoreError> {
        self.replace_credential(by, id, None, Some(token))?;
        self.audit(by, "gateway.legacy_token", format_args!("gateway:{id}"), &json!({}))
    }

    fn replace_credential(
        &mut self,
        by: By,
        id: GatewayId,
        serial: Option<&[u8]>,
        token: Option<&TokenDigest>,
    ) -> Result<(), StoreError> {
        let changed = diesel::update(gateway::table.find(id.get()))
            .set((
                gateway::cert_serial.eq(serial),
                gateway::previous_cert_serial.eq(None::<Vec<u8>>),
                gateway::legacy_token.eq(token.map(|token| token.as_bytes().as_slice())),
                gateway::enrolled_at.eq(to_millis(by.now)),
                gateway::revoked_at.eq(None::<i64>),
            ))
            .execute(&mut self.conn)?;
        if changed == 0 { Err(StoreError::missing("gateway")) } else { Ok(()) }
    }

    /// Notes the certificate with the serial number `new` that a gateway got for showing the one
    /// with `shown`. Both count from now on. Returns whether `shown` was in force.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn renew_gateway(
        &mut self,
        by: By,
        id: GatewayId,
        shown: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let in_force = gateway::table
            .find(id.get())
            .filter(gateway::revoked_at.is_null())
            .filter(gateway::cert_serial.eq(shown).or(gateway::previous_cert_serial.eq(shown)));
        let changed = diesel::update(in_force)
            .set((gateway::cert_serial.eq(new), gateway::previous_cert_serial.eq(shown)))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Ok(false);
        }
        let detail = json!({ "serial": hex(new), "previous": hex(shown) });
        self.audit(by, "gateway.renew", format_args!("gateway:{id}"), &detail)?;
        Ok(true)
    }

    /// Notes that a gateway has linked, and what it says of itself.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_gateway_link(
        &mut self,
        by: By,
        id: GatewayId,
        report: &GatewayReport,
    ) -> Result<(), StoreError> {
        diesel::update(gateway::table.find(id.get()))
            .set((
                gateway::heard_at.eq(to_millis(by.now)),
                gateway::version.eq(&report.version),
                gateway::backend.eq(&report.backend),
                gateway::hostname.eq(&report.hostname),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({ "version": report.version, "backend": report.backend });
        self.audit(by, "gateway.link", format_args!("gateway:{id}"), &detail)
    }

    /// Notes that a gateway is alive and what it has applied. Not audited: nothing changes by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_gateway(
        &mut self,
        id: GatewayId,
        applied_revision: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        diesel::update(gateway::table.find(id.get()))
            .set((
                gateway::heard_at.eq(to_millis(now)),
                gateway::applied_revision.eq(applied_revision),
            ))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Revokes what a gateway proves itself by, a token with which it could enroll too. Returns
    /// whether it was in force.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn revoke_gateway(&mut self, by: By, id: GatewayId) -> Result<bool, StoreError> {
        let in_force = gateway::table.find(id.get()).filter(gateway::revoked_at.is_null());
        let changed = diesel::update(in_force)
            .set(gateway::revoked_at.eq(to_millis(by.now)))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Ok(false);
        }
        self.forget_gateway_tokens(id)?;
        self.audit(by, "gateway.revoke", format_args!("gateway:{id}"), &json!({}))?;
        Ok(true)
    }

    /// Removes a gateway. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_gateway(&mut self, by: By, id: GatewayId) -> Result<bool, StoreError> {
        let Some(gateway) = self.gateway(id)? else { return Ok(false) };
        diesel::delete(gateway::table.find(id.get())).execute(&mut self.conn)?;
        let detail = json!({ "name": gateway.name });
        self.audit(by, "gateway.remove", format_args!("gateway:{id}"), &detail)?;
        Ok(true)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |byte: u8| char::from_digit(byte.into(), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
