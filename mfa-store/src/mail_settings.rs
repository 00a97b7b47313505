//! How mail leaves, as it was set in the console. The password is sealed.

use core::fmt;

use diesel::prelude::*;
use mfa_core::time::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use crate::schema::mail_settings;
use crate::seal::Place;
use crate::value::{from_millis, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "mail_settings";
const ONLY: i64 = 1;
pub(crate) const PASSWORD: Place = Place { table: TABLE, column: "password", row: ONLY };

/// What protects the way to the mail server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MailTls {
    /// TLS from the start.
    Implicit,
    /// STARTTLS, required.
    StartTls,
    /// Nothing.
    None,
}

impl MailTls {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Implicit, Self::StartTls, Self::None];

    /// Returns the word for the store, forms and programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::StartTls => "starttls",
            Self::None => "none",
        }
    }

    /// Reads [`code`](Self::code).
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

/// A mail server and the sender's name.
#[derive(Clone, Eq, PartialEq)]
pub struct MailSettings {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
    /// What protects the way there.
    pub tls: MailTls,
    /// Empty: the server asks for none.
    pub login: String,
    /// `None`: there is none.
    pub password: Option<Zeroizing<String>>,
    /// `VPN <vpn@example.com>`.
    pub sender: String,
}

impl fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls, .. } = self;
        f.debug_struct("MailSettings")
            .field("host", host)
            .field("port", port)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = mail_settings)]
struct Row {
    host: String,
    port: i64,
    tls: String,
    login: String,
    password: Option<Vec<u8>>,
    sender: String,
}

impl Snapshot {
    /// Returns how mail leaves; `None`: nobody set it here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored password.
    pub fn mail_settings(&mut self) -> Result<Option<MailSettings>, StoreError> {
        let row: Option<Row> = mail_settings::table
            .find(ONLY)
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        let Some(row) = row else { return Ok(None) };
        let corrupt = || StoreError::corrupt(TABLE);
        let password = match row.password {
            Some(sealed) => {
                let bytes = self.seal.open(PASSWORD, &sealed)?;
                let text = core::str::from_utf8(&bytes).map_err(|_| corrupt())?;
                Some(Zeroizing::new(text.to_owned()))
            }
            None => None,
        };
        Ok(Some(MailSettings {
            host: row.host,
            port: u16::try_from(row.port).map_err(|_| corrupt())?,
            tls: MailTls::from_code(&row.tls).ok_or_else(corrupt)?,
            login: row.login,
            password,
            sender: row.sender,
        }))
    }

    /// Tells when the settings were changed; `None`: there are none.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn mail_settings_changed(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = mail_settings::table
            .find(ONLY)
            .select(mail_settings::changed_at)
            .get_result(&mut self.conn)
            .optional()?;
        Ok(at.map(from_millis))
    }
}

impl Tx {
    /// Sets how mail leaves; `None`: as the configuration file says.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn set_mail_settings(
        &mut self,
        by: By,
        new: Option<&MailSettings>,
    ) -> Result<(), StoreError> {
        diesel::delete(mail_settings::table.find(ONLY)).execute(&mut self.conn)?;
        let Some(new) = new else { return self.audit(by, "mail.unset", "mail", &json!({})) };
        let password = new.password.as_ref();
        let sealed =
            password.map(|password| self.seal_in(PASSWORD, password.as_bytes())).transpose()?;
        diesel::insert_into(mail_settings::table)
            .values((
                mail_settings::id.eq(ONLY),
                mail_settings::host.eq(new.host.as_str()),
                mail_settings::port.eq(i64::from(new.port)),
                mail_settings::tls.eq(new.tls.code()),
                mail_settings::login.eq(new.login.as_str()),
                mail_settings::password.eq(sealed),
                mail_settings::sender.eq(new.sender.as_str()),
                mail_settings::changed_at.eq(to_millis(by.now)),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({
            "host": new.host, "port": new.port, "tls": new.tls.code(), "login": new.login,
            "sender": new.sender,
        });
        self.audit(by, "mail.set", "mail", &detail)
    }
}
