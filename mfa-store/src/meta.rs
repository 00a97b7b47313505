//! Facts about the database itself: the checks of its master keys, the id of the installation.

use diesel::prelude::*;

use crate::connection::AnyConnection;
use crate::schema::meta;
use crate::seal::{KeyId, Place, RootKey, Sealer};
use crate::{Snapshot, StoreError, Tx};

/// A known text under the key that seals now; under the one that will; under the one that did and
/// whose values are being sealed anew.
pub(crate) const ACTIVE: &str = "seal_check";
pub(crate) const NEXT: &str = "seal_check_next";
pub(crate) const OLD: &str = "seal_check_old";
pub(crate) const CHECK_PLACE: Place = Place { table: "meta", column: "value", row: 0 };
pub(crate) const CHECK_TEXT: &[u8] = b"sealed with the right key";

pub(crate) const ROOT: &str = "root_key";
pub(crate) const ROOT_PLACE: Place = Place { table: "meta", column: "value", row: 1 };

/// Refuses master keys other than those of this database, and returns the root of its digests.
pub(crate) fn check_key(conn: &mut AnyConnection, seal: &Sealer) -> Result<RootKey, StoreError> {
    let wrong = |_| StoreError::WrongMasterKey;
    let active = if let Some(sealed) = value(conn, ACTIVE)? {
        seal.open(CHECK_PLACE, &sealed).map_err(wrong)?;
        if let Some(sealed) = value(conn, OLD)? {
            seal.open(CHECK_PLACE, &sealed).map_err(wrong)?;
        }
        KeyId::of(&sealed).ok_or(StoreError::WrongMasterKey)?
    } else {
        seal.learn_first()?;
        set_value(conn, ACTIVE, &seal.seal(KeyId::FIRST, CHECK_PLACE, CHECK_TEXT)?)?;
        KeyId::FIRST
    };
    if let Some(sealed) = value(conn, ROOT)? {
        return Ok(RootKey::from_bytes(*seal.open_key(ROOT_PLACE, &sealed)?));
    }
    let root = RootKey::from(&seal.master(active).ok_or(StoreError::WrongMasterKey)?);
    set_value(conn, ROOT, &seal.seal(active, ROOT_PLACE, root.expose_secret())?)?;
    Ok(root)
}

impl Snapshot {
    /// Returns the fact that was stored under `name`, if any. Not for secrets.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn meta(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        value(&mut self.conn, name)
    }
}

impl Tx {
    /// Stores a fact about the installation under `name`, in place of an older one. Not for
    /// secrets.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        set_value(&mut self.conn, name, value)
    }
}

pub(crate) fn value(conn: &mut AnyConnection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(meta::table.find(name).select(meta::value).get_result(conn).optional()?)
}

pub(crate) fn set_value(
    conn: &mut AnyConnection,
    name: &str,
    value: &[u8],
) -> Result<(), StoreError> {
    let changed =
        diesel::update(meta::table.find(name)).set(meta::value.eq(value)).execute(conn)?;
    if changed == 0 {
        diesel::insert_into(meta::table)
            .values((meta::name.eq(name), meta::value.eq(value)))
            .execute(conn)?;
    }
    Ok(())
}
