//! Facts about the database itself: the check of the master key, the id of the installation.

use diesel::prelude::*;

use crate::connection::AnyConnection;
use crate::schema::meta;
use crate::seal::{Place, Sealer};
use crate::{Snapshot, StoreError, Tx};

const CHECK: &str = "seal_check";
const CHECK_PLACE: Place = Place { table: "meta", column: "value", row: 0 };
const CHECK_TEXT: &[u8] = b"sealed with the right key";

/// Refuses a master key other than the one that first opened this database.
pub(crate) fn check_key(conn: &mut AnyConnection, seal: &Sealer) -> Result<(), StoreError> {
    if let Some(sealed) = value(conn, CHECK)? {
        return seal.open(CHECK_PLACE, &sealed).map(drop).map_err(|_| StoreError::WrongMasterKey);
    }
    set_value(conn, CHECK, &seal.seal(CHECK_PLACE, CHECK_TEXT)?)
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

fn value(conn: &mut AnyConnection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(meta::table.find(name).select(meta::value).first(conn).optional()?)
}

fn set_value(conn: &mut AnyConnection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let changed =
        diesel::update(meta::table.find(name)).set(meta::value.eq(value)).execute(conn)?;
    if changed == 0 {
        diesel::insert_into(meta::table)
            .values((meta::name.eq(name), meta::value.eq(value)))
            .execute(conn)?;
    }
    Ok(())
}
