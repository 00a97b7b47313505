//! Tokens of programs that use the REST API: what each may do, and whether it is good now.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeSet;

use mfa_core::token::{Token, TokenDigest};
use mfa_store::{ApiToken, By, NewApiToken, Snapshot, StoreError, Tx};

use super::name::{self, NameError};
use super::user::{self, UserError};

/// How long a token is good unless somebody says otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// How long at most.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 86_400);

macro_rules! scopes {
    ($($name:ident = $code:literal, $words:literal;)+) => {
        /// One thing that a token may do.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Scope {
            $(#[doc = $words] $name,)+
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns its stored and typed form.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Says what it allows.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)+ }
            }
        }
    };
}

scopes! {
    UsersRead = "users:read", "See people, their groups and methods.";
    UsersWrite = "users:write", "Add, change, disable, enroll and remove people; make administrators.";
    DevicesRead = "devices:read", "See devices.";
    DevicesWrite = "devices:write", "Remove devices.";
    LocationsRead = "locations:read", "See locations.";
    LocationsWrite = "locations:write", "Add, import, change and remove locations.";
    GatewaysRead = "gateways:read", "See gateways.";
    GatewaysWrite = "gateways:write", "Invite and remove gateways.";
    SessionsRead = "sessions:read", "See who is connected.";
    SessionsWrite = "sessions:write", "End sessions.";
    MailWrite = "mail:write", "See and set how mail leaves, and send a test mail.";
    AuditRead = "audit:read", "Read the audit log.";
    TokensRead = "tokens:read", "See which tokens there are.";
    TokensWrite = "tokens:write", "Make tokens that may do no more, and remove tokens.";
}

/// What a token may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(Scope::ALL.iter().copied().collect())
    }

    /// Tells whether `scope` is among them.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Returns the codes.
    #[must_use]
    pub fn codes(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.code()).collect()
    }

    /// Reads a stored list. A scope that this program does not know allows nothing here.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(
            Scope::ALL.iter().copied().filter(|s| text.split(',').any(|t| t == s.code())).collect(),
        )
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.codes().join(","))
    }
}

/// A word that is no scope.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no scope; there are: all, {all}", all = Scopes::all())]
pub struct UnknownScope(String);

impl FromStr for Scopes {
    type Err = UnknownScope;

    /// Takes codes separated by commas; `all` means every one.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut scopes = BTreeSet::new();
        for word in words {
            if word == "all" {
                return Ok(Self::all());
            }
            let scope = Scope::ALL.iter().find(|scope| scope.code() == word);
            scopes.insert(*scope.ok_or_else(|| UnknownScope(word.to_owned()))?);
        }
        Ok(Self(scopes))
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No such token.
    #[error("there is no API token {0}; `core-bin token list` shows which there are")]
    NotFound(String),
    /// The name is taken.
    #[error("there is an API token {0} already")]
    Taken(String),
    /// A token that may do nothing.
    #[error("a token needs at least one scope")]
    NoScope,
    /// More than the maker may.
    #[error("a token cannot be given {0}, which its maker does not have")]
    Escalation(&'static str),
    /// Too long, or no time at all.
    #[error("a token is good for a second at least and 366 days at most")]
    Life,
    /// It is to act for somebody who administers nothing.
    #[error("{0} is not an active administrator")]
    NoAdministrator(String),
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// How long it is good.
    pub life: Duration,
    /// The administrator on whose behalf it acts; `None`: the installation's own.
    pub login: Option<String>,
}

/// Adds a token of this digest. `maker` is what its maker may do itself.
///
/// # Errors
///
/// [`TokenError`].
pub fn add(
    tx: &mut Tx,
    by: By,
    new: &NewToken,
    maker: &Scopes,
    digest: TokenDigest,
) -> Result<ApiToken, TokenError> {
    let name = name::word("token", &new.name)?;
    if new.scopes.0.is_empty() {
        return Err(TokenError::NoScope);
    }
    if let Some(more) = new.scopes.0.difference(&maker.0).next() {
        return Err(TokenError::Escalation(more.code()));
    }
    if new.life < Duration::from_secs(1) || new.life > MAX_LIFE {
        return Err(TokenError::Life);
    }
    let user = match &new.login {
        Some(login) => {
            let user = user::find(tx, login)?;
            if !user.active || !user.details.admin {
                return Err(TokenError::NoAdministrator(user.details.login));
            }
            Some(user.id)
        }
        None => None,
    };
    let row = NewApiToken {
        name,
        digest,
        user,
        scopes: new.scopes.to_string(),
        expires: by.now.saturating_add(new.life),
    };
    match tx.add_api_token(by, &row) {
        Err(StoreError::Exists { .. }) => Err(TokenError::Taken(row.name)),
        added => Ok(added?),
    }
}

/// Removes a token: it is worth nothing from now on.
///
/// # Errors
///
/// [`TokenError::NotFound`].
pub fn remove(tx: &mut Tx, by: By, name: &str) -> Result<ApiToken, TokenError> {
    let missing = || TokenError::NotFound(name.to_owned());
    let token = tx.api_token_by_name(name)?.ok_or_else(missing)?;
    tx.remove_api_token(by, token.id)?;
    Ok(token)
}

/// Returns the token that a program shows, if it is good now: known, in time, and the administrator
/// for whom it acts still one.
///
/// # Errors
///
/// What the database reports.
pub fn good(view: &mut Snapshot, shown: &str, by: By) -> Result<Option<ApiToken>, StoreError> {
    let Some(token) = Token::parse(shown) else { return Ok(None) };
    let Some(token) = view.api_token(&token.digest())? else { return Ok(None) };
    if token.expires <= by.now {
        return Ok(None);
    }
    if let Some(user) = token.user
        && !view.user(user)?.is_some_and(|user| user.active && user.details.admin)
    {
        return Ok(None);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_as_they_print() {
        let scopes: Scopes = "sessions:write, users:read".parse().unwrap();
        assert_eq!(scopes.to_string(), "users:read,sessions:write");
        assert_eq!(Scopes::stored(&scopes.to_string()), scopes);
        assert_eq!("all".parse(), Ok(Scopes::all()));
        assert!("users:reed".parse::<Scopes>().is_err());
        assert!(Scopes::stored("of:tomorrow,users:read").allow(Scope::UsersRead));
    }
}
