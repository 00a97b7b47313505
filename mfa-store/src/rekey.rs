//! One master key follows another while cores serve.
//!
//! ```text
//! one key ──stage──▶ the next is known ──switch──▶ both open, the new one seals ──retire──▶ one key
//!                    (to every core)               (values are sealed anew, in batches)
//! ```
//!
//! Each arrow is one transaction, and where an installation stands is in the database alone; so a
//! rotation that was cut off goes on wherever it was. Which key seals is read in the transaction
//! that seals: since writers take turns, no core seals with the old key after the switch.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde_json::json;

use crate::connection::AnyConnection;
use crate::mail_settings::PASSWORD;
use crate::meta::{ACTIVE, CHECK_PLACE, CHECK_TEXT, NEXT, OLD, ROOT, ROOT_PLACE, set_value, value};
use crate::schema::{core_process, factor_totp, location, mail_settings, meta, session};
use crate::seal::{KeyId, KeySource, MasterKey, Place, Sealer};
use crate::seat::core_id;
use crate::session::psk_place;
use crate::{By, CoreId, Snapshot, StoreError, Tx};

/// Values that are looked at in one statement.
const PAGE: i64 = 500;

/// Which keys are in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sealing {
    /// Seals.
    pub active: KeyId,
    /// Will seal, once every core has it.
    pub next: Option<KeyId>,
    /// Has sealed; its values are being sealed anew.
    pub old: Option<KeyId>,
}

/// What a key is to an installation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It seals.
    Active,
    /// It will.
    Next,
    /// It did, and still opens values.
    Old,
}

/// How far a pass over the sealed values is. Starts at the beginning by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Resealing {
    column: usize,
    after: i64,
    /// Values that were sealed anew on this pass.
    pub done: usize,
}

type Listed = Result<Vec<(i64, Vec<u8>)>, diesel::result::Error>;

/// A column that holds sealed values.
struct Column {
    place: fn(i64) -> Place,
    list: fn(&mut AnyConnection, i64, i64) -> Listed,
    set: fn(&mut AnyConnection, i64, &[u8]) -> Result<usize, diesel::result::Error>,
}

macro_rules! column {
    ($table:ident, $id:ident, $column:ident, $place:expr) => {
        Column {
            place: $place,
            list: |conn, after, limit| {
                $table::table
                    .filter($table::$id.gt(after))
                    .filter($table::$column.is_not_null())
                    .order($table::$id.asc())
                    .limit(limit)
                    .select(($table::$id, $table::$column.nullable().assume_not_null()))
                    .load(conn)
            },
            set: |conn, id, sealed| {
                diesel::update($table::table.filter($table::$id.eq(id)))
                    .set($table::$column.eq(sealed))
                    .execute(conn)
            },
        }
    };
}

/// Every sealed value of the database is in one of these, or is the root. A key that takes the place
/// of another moves from `next_psk` to `psk`, so that is the order.
const COLUMNS: [Column; 6] = [
    column!(location, id, private_key, |row| Place {
        table: "location",
        column: "private_key",
        row
    }),
    column!(factor_totp, user_id, pending_secret, |row| Place {
        table: "factor_totp",
        column: "pending_secret",
        row
    }),
    column!(factor_totp, user_id, secret, |row| Place {
        table: "factor_totp",
        column: "secret",
        row
    }),
    column!(mail_settings, id, password, |row| Place { row, ..PASSWORD }),
    column!(session, id, next_psk, psk_place),
    column!(session, id, psk, psk_place),
];

fn id_of(sealed: &[u8]) -> Result<KeyId, StoreError> {
    KeyId::of(sealed).ok_or(StoreError::corrupt("meta"))
}

impl Snapshot {
    /// Returns which keys are in use.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn sealing(&mut self) -> Result<Sealing, StoreError> {
        let mut id = |name| value(&mut self.conn, name)?.as_deref().map(id_of).transpose();
        let active = id(ACTIVE)?.ok_or(StoreError::WrongMasterKey)?;
        Ok(Sealing { active, next: id(NEXT)?, old: id(OLD)? })
    }

    /// Returns what `key` is to this installation; `None`: nothing.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn standing(&mut self, key: &MasterKey) -> Result<Option<Standing>, StoreError> {
        let sealer = Sealer::new(KeySource::from(key));
        for (name, standing) in
            [(ACTIVE, Standing::Active), (NEXT, Standing::Next), (OLD, Standing::Old)]
        {
            if let Some(sealed) = value(&mut self.conn, name)?
                && sealer.open(CHECK_PLACE, &sealed).is_ok()
            {
                return Ok(Some(standing));
            }
        }
        Ok(None)
    }

    /// Opens every sealed value, and counts them by the key that sealed them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] for the first one that does not open.
    pub fn sealed_values(&mut self) -> Result<BTreeMap<KeyId, u64>, StoreError> {
        let mut count = BTreeMap::new();
        let root = value(&mut self.conn, ROOT)?.ok_or(StoreError::WrongMasterKey)?;
        self.seal.open_key(ROOT_PLACE, &root)?;
        count.insert(id_of(&root)?, 1);
        for column in &COLUMNS {
            let mut after = i64::MIN;
            loop {
                let rows = (column.list)(&mut self.conn, after, PAGE)?;
                let Some((last, _)) = rows.last() else { break };
                after = *last;
                for (row, sealed) in rows {
                    self.seal.open((column.place)(row), &sealed)?;
                    let of_key: &mut u64 = count.entry(id_of(&sealed)?).or_default();
                    *of_key = of_key.saturating_add(1);
                }
            }
        }
        Ok(count)
    }

    /// Lists the cores that have not said that they have the key `id`, each with its beat.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn cores_lacking(&mut self, id: KeyId) -> Result<Vec<(CoreId, i64)>, StoreError> {
        let rows: Vec<(Vec<u8>, i64)> = core_process::table
            .filter(core_process::key_id.ne(i64::from(id.get())))
            .select((core_process::id, core_process::beat))
            .load(&mut self.conn)?;
        rows.into_iter().map(|(id, beat)| Ok((core_id(&id)?, beat))).collect()
    }

    /// Returns the newest key that this process has.
    pub(crate) fn newest_key(&mut self) -> Result<KeyId, StoreError> {
        for name in [NEXT, ACTIVE] {
            if let Some(sealed) = value(&mut self.conn, name)?
                && self.seal.open(CHECK_PLACE, &sealed).is_ok()
            {
                return id_of(&sealed);
            }
        }
        Err(StoreError::WrongMasterKey)
    }
}

impl Tx {
    /// Seals with the key that seals now.
    pub(crate) fn seal_in(&mut self, place: Place, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let id = if let Some(id) = self.sealing {
            id
        } else {
            let check = value(&mut self.conn, ACTIVE)?.ok_or(StoreError::WrongMasterKey)?;
            // Also finds the key, if it is a new one.
            self.seal.open(CHECK_PLACE, &check).map_err(|_| StoreError::WrongMasterKey)?;
            *self.sealing.insert(id_of(&check)?)
        };
        self.seal.seal(id, place, secret)
    }

    /// Makes `key` known as the one that will seal. One that was staged before and never sealed
    /// anything is forgotten.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the values of an older key are still being sealed anew.
    pub fn stage_master_key(&mut self, by: By, key: &MasterKey) -> Result<KeyId, StoreError> {
        let now = self.sealing()?;
        if now.old.is_some() {
            return Err(StoreError::Exists { what: "change of the master key" });
        }
        // Another key of the same name may be known to a core that runs.
        let id = now.next.unwrap_or(now.active).next();
        self.seal.learn(id, key);
        let check = self.seal.seal(id, CHECK_PLACE, CHECK_TEXT)?;
        set_value(&mut self.conn, NEXT, &check)?;
        self.audit(by, "master_key.stage", format_args!("master_key:{id}"), &json!({}))?;
        Ok(id)
    }

    /// Lets the staged key seal from now on. The one before it still opens.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if none is staged, [`StoreError::WrongMasterKey`] if this process does
    /// not have it.
    pub fn switch_master_key(&mut self, by: By) -> Result<(), StoreError> {
        let now = self.sealing()?;
        let next = value(&mut self.conn, NEXT)?.ok_or(StoreError::missing("staged master key"))?;
        let active = value(&mut self.conn, ACTIVE)?.ok_or(StoreError::WrongMasterKey)?;
        self.seal.open(CHECK_PLACE, &next).map_err(|_| StoreError::WrongMasterKey)?;
        let id = id_of(&next)?;
        set_value(&mut self.conn, OLD, &active)?;
        set_value(&mut self.conn, ACTIVE, &next)?;
        diesel::delete(meta::table.find(NEXT)).execute(&mut self.conn)?;
        self.sealing = None;
        let detail = json!({ "before": now.active.get() });
        self.audit(by, "master_key.switch", format_args!("master_key:{id}"), &detail)
    }

    /// Looks at the next `limit` values, and seals those of an older key anew. `None`: the pass is
    /// over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed a value.
    pub fn reseal(&mut self, from: Resealing, limit: i64) -> Result<Option<Resealing>, StoreError> {
        let active = self.sealing()?.active;
        let Some(column) = COLUMNS.get(from.column) else {
            let root = value(&mut self.conn, ROOT)?.ok_or(StoreError::WrongMasterKey)?;
            if id_of(&root)? != active {
                let secret = self.seal.open(ROOT_PLACE, &root)?;
                let sealed = self.seal_in(ROOT_PLACE, &secret)?;
                set_value(&mut self.conn, ROOT, &sealed)?;
            }
            return Ok(None);
        };
        let after = if from.after == 0 { i64::MIN } else { from.after };
        let rows = (column.list)(&mut self.conn, after, limit)?;
        let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let mut to = match rows.last() {
            Some((last, _)) if full => Resealing { after: *last, ..from },
            // What is added behind the pass is sealed with the new key.
            _ => Resealing { column: from.column.saturating_add(1), after: 0, done: from.done },
        };
        for (row, sealed) in rows {
            if id_of(&sealed)? == active {
                continue;
            }
            let place = (column.place)(row);
            let secret = self.seal.open(place, &sealed)?;
            let sealed = self.seal_in(place, &secret)?;
            (column.set)(&mut self.conn, row, &sealed)?;
            to.done = to.done.saturating_add(1);
        }
        Ok(Some(to))
    }

    /// Forgets the old key, if it opens nothing any more. Returns how many values are left that
    /// need it; then nothing is changed, and another pass is due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is no old key; [`StoreError::Unsealable`] for a value that
    /// does not open.
    pub fn retire_master_key(&mut self, by: By) -> Result<u64, StoreError> {
        let now = self.sealing()?;
        let old = now.old.ok_or(StoreError::missing("old master key"))?;
        let values = self.sealed_values()?;
        let left = values.iter().filter(|(id, _)| **id != now.active).map(|(_, count)| count);
        let left: u64 = left.sum();
        if left > 0 {
            return Ok(left);
        }
        diesel::delete(meta::table.find(OLD)).execute(&mut self.conn)?;
        let detail = json!({ "by": now.active.get(), "values": values.values().sum::<u64>() });
        self.audit(by, "master_key.retire", format_args!("master_key:{old}"), &detail)?;
        Ok(0)
    }
}
