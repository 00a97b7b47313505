//! Passkeys: public keys whose private half an authenticator keeps, for the pages' sign-in.
//!
//! They open no tunnel. What is stored is public; whose it is and how it was used is not.

use diesel::prelude::*;
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use serde_json::json;

use crate::schema::passkey;
use crate::value::{from_millis, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

/// A passkey to add.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewPasskey {
    /// What the authenticator calls it; no two passkeys share one.
    pub credential: Vec<u8>,
    /// The COSE number of the algorithm: -7 or -8.
    pub algorithm: i64,
    /// ES256: the uncompressed point, 65 bytes; `EdDSA`: 32 bytes.
    pub public_key: Vec<u8>,
    /// The authenticator's counter.
    pub sign_count: u32,
    /// What its owner calls it.
    pub name: String,
}

/// A passkey.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passkey {
    /// Names it.
    pub id: i64,
    /// Whose it is.
    pub user: UserId,
    /// What the authenticator calls it.
    pub credential: Vec<u8>,
    /// The COSE number of the algorithm.
    pub algorithm: i64,
    /// The public key.
    pub public_key: Vec<u8>,
    /// The authenticator's counter at its last signature; 0: it does not count.
    pub sign_count: u32,
    /// What its owner calls it.
    pub name: String,
    /// When it was added.
    pub created: Timestamp,
    /// When it last signed; `None`: never.
    pub used: Option<Timestamp>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = passkey)]
struct Row {
    id: i64,
    user_id: i64,
    credential: Vec<u8>,
    algorithm: i64,
    public_key: Vec<u8>,
    sign_count: i64,
    name: String,
    created_at: i64,
    used_at: Option<i64>,
}

impl TryFrom<Row> for Passkey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            user: UserId::new(row.user_id),
            credential: row.credential,
            algorithm: row.algorithm,
            public_key: row.public_key,
            sign_count: u32::try_from(row.sign_count)
                .map_err(|_| StoreError::corrupt("passkey"))?,
            name: row.name,
            created: from_millis(row.created_at),
            used: row.used_at.map(from_millis),
        })
    }
}

impl Snapshot {
    /// Lists a user's passkeys, oldest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn passkeys(&mut self, user: UserId) -> Result<Vec<Passkey>, StoreError> {
        let rows: Vec<Row> = passkey::table
            .filter(passkey::user_id.eq(user.get()))
            .order(passkey::id.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(Passkey::try_from).collect()
    }
}

impl Tx {
    /// Adds a passkey.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if somebody has it already.
    pub fn add_passkey(
        &mut self,
        by: By,
        user: UserId,
        new: &NewPasskey,
    ) -> Result<(), StoreError> {
        let taken: i64 = passkey::table
            .filter(passkey::credential.eq(new.credential.as_slice()))
            .count()
            .get_result(&mut self.conn)?;
        if taken > 0 {
            return Err(StoreError::Exists { what: "passkey" });
        }
        diesel::insert_into(passkey::table)
            .values((
                passkey::user_id.eq(user.get()),
                passkey::credential.eq(new.credential.as_slice()),
                passkey::algorithm.eq(new.algorithm),
                passkey::public_key.eq(new.public_key.as_slice()),
                passkey::sign_count.eq(i64::from(new.sign_count)),
                passkey::name.eq(new.name.as_str()),
                passkey::created_at.eq(to_millis(by.now)),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({ "name": new.name });
        self.audit(by, "passkey.add", format_args!("user:{user}"), &detail)
    }

    /// Notes a signature with its counter.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn use_passkey(
        &mut self,
        by: By,
        used: &Passkey,
        sign_count: u32,
    ) -> Result<(), StoreError> {
        diesel::update(passkey::table.find(used.id))
            .set((
                passkey::sign_count.eq(i64::from(sign_count)),
                passkey::used_at.eq(to_millis(by.now)),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({ "name": used.name });
        self.audit(by, "passkey.use", format_args!("user:{}", used.user), &detail)
    }

    /// Removes one of a user's passkeys, or all of them. Returns how many.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_passkeys(
        &mut self,
        by: By,
        user: UserId,
        only: Option<i64>,
    ) -> Result<usize, StoreError> {
        let all = passkey::table.filter(passkey::user_id.eq(user.get()));
        let removed = match only {
            Some(id) => diesel::delete(all.filter(passkey::id.eq(id))).execute(&mut self.conn)?,
            None => diesel::delete(all).execute(&mut self.conn)?,
        };
        if removed > 0 {
            let detail = json!({ "removed": removed });
            self.audit(by, "passkey.remove", format_args!("user:{user}"), &detail)?;
        }
        Ok(removed)
    }
}
