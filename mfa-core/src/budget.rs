//! How often a code may be guessed, and a mail be sent.
//!
//! A budget is kept per user, method and [`Lane`], never per challenge: a new challenge, another
//! device or a restart brings no new guesses (RFC 4226 §7.3). A guess is
//! [charged](GuessBudget::charge) and committed before the code is looked at; a right code
//! [gives its charge back](GuessBudget::success). Who is refused changes nothing, so hammering on a
//! closed door never keeps it closed for longer.

use core::time::Duration;

use mutant::Mutant;

use crate::id::UserId;
use crate::method::Method;
use crate::time::Timestamp;

/// How much is known of who is asking.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// The request proved to come from the device.
    Proven,
    /// Anyone who knows a public key. What strangers use up, they alone run out of.
    Stranger,
}

impl Lane {
    /// Returns the word for the store: `proven` or `stranger`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Stranger => "stranger",
        }
    }

    /// Reads a word of the store.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Proven, Self::Stranger].into_iter().find(|lane| lane.code() == code)
    }

    /// Returns how many guesses the lane has: ten in 15 min for both together, whoever guesses. Each
    /// lane closes by itself, so a hundred wrong codes of strangers shut out strangers alone.
    #[must_use]
    pub const fn guess_limits(self) -> GuessLimits {
        let window = Duration::from_secs(15 * 60);
        match self {
            Self::Proven => GuessLimits { per_window: 7, window, consecutive: Some(100) },
            Self::Stranger => GuessLimits { per_window: 3, window, consecutive: Some(100) },
        }
    }

    /// Returns how many mails the lane has.
    #[must_use]
    pub const fn mail_limits(self) -> MailLimits {
        match self {
            Self::Proven => MailLimits { per_hour: 5, per_day: 20 },
            Self::Stranger => MailLimits { per_hour: 1, per_day: 5 },
        }
    }
}

/// The limits of a [`GuessBudget`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuessLimits {
    /// Wrong codes in any window of time.
    pub per_window: usize,
    /// That window.
    pub window: Duration,
    /// Wrong codes in a row after which the method is locked; `None`: it never is.
    pub consecutive: Option<u64>,
}

/// The limits of a [`MailBudget`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MailLimits {
    /// Mails in any 60 min.
    pub per_hour: usize,
    /// Mails in any 24 h.
    pub per_day: usize,
}

/// Whose guesses, of which kind of code, from which side.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GuessKey {
    /// Whose.
    pub user: UserId,
    /// Of which method; recovery codes count with [`Method::Totp`].
    pub method: Method,
    /// From which side.
    pub lane: Lane,
}

/// The wrong codes of one [`GuessKey`].
///
/// ```
/// use mfa_core::budget::{GuessBudget, GuessKey, Lane};
/// use mfa_core::{id::UserId, method::Method, time::Timestamp};
///
/// let key = GuessKey { user: UserId::new(1), method: Method::Totp, lane: Lane::Proven };
/// let mut budget = GuessBudget::new(key);
/// let now = Timestamp::from_unix_millis(1_700_000_000_000);
///
/// let charge = budget.charge(now)?; // commit the budget here, then look at the code
/// budget.success(charge); // it was right: commit again
/// # Ok::<(), mfa_core::budget::GuessRefused>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuessBudget {
    key: GuessKey,
    recent: Vec<Timestamp>,
    charged: u64,
    cleared: u64,
}

impl GuessBudget {
    /// Starts with nothing charged.
    #[must_use]
    pub const fn new(key: GuessKey) -> Self {
        Self { key, recent: Vec::new(), charged: 0, cleared: 0 }
    }

    /// Restores a stored budget.
    #[must_use]
    pub fn from_parts(key: GuessKey, parts: GuessParts) -> Self {
        let GuessParts { recent, charged, cleared } = parts;
        Self { key, recent, charged, cleared }
    }

    /// Returns what to store.
    #[must_use]
    pub fn to_parts(&self) -> GuessParts {
        GuessParts { recent: self.recent.clone(), charged: self.charged, cleared: self.cleared }
    }

    /// Returns whose budget this is.
    #[must_use]
    pub const fn key(&self) -> GuessKey {
        self.key
    }

    /// Returns the wrong codes since the last right one, pending ones included.
    #[must_use]
    pub const fn consecutive(&self) -> u64 {
        self.charged.saturating_sub(self.cleared)
    }

    /// Tells whether so many codes in a row were wrong that only [`clear`](Self::clear) helps.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let limit = self.key.lane.guess_limits().consecutive;
        limit.is_some_and(|limit| self.consecutive() >= limit)
    }

    /// Counts one guess as wrong, before its code is looked at.
    ///
    /// # Errors
    ///
    /// [`GuessRefused`]; the budget is unchanged then.
    pub fn charge(&mut self, now: Timestamp) -> Result<Charge, GuessRefused> {
        let limits = self.key.lane.guess_limits();
        if self.is_locked() {
            return Err(GuessRefused::Locked);
        }
        if let Some(retry_after) = wait(&self.recent, limits.per_window, limits.window, now) {
            return Err(GuessRefused::Exhausted { retry_after });
        }
        push(&mut self.recent, limits.window, now);
        self.charged = self.charged.saturating_add(1);
        Ok(Charge { serial: self.charged, at: now })
    }

    /// Gives one charge back, because its code was right, and ends the row of wrong ones before
    /// it. Other wrong codes of the window stay, and so do charges made meanwhile.
    pub fn success(&mut self, charge: Charge) {
        if let Some(place) = self.recent.iter().rposition(|at| *at == charge.at) {
            self.recent.remove(place);
        }
        if mutant::on(Mutant::SuccessForgets) {
            self.recent.clear();
        }
        self.cleared = self.cleared.max(charge.serial).min(self.charged);
    }

    /// Forgets every wrong code and unlocks the method: an administrator's word, or a new set-up.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.cleared = self.charged;
    }
}

/// A [`GuessBudget`] as it is stored, without its key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GuessParts {
    /// When the wrong codes of the last window were charged; at most as many as the limit.
    pub recent: Vec<Timestamp>,
    /// Charges ever made.
    pub charged: u64,
    /// The serial of the last charge whose code was right, or that was cleared.
    pub cleared: u64,
}

/// The receipt for one guess: needed to give it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Charge {
    serial: u64,
    at: Timestamp,
}

/// Why no code is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GuessRefused {
    /// Too many wrong codes of late.
    #[error("too many wrong codes; try again in {} s", retry_after.as_secs().saturating_add(1))]
    Exhausted {
        /// How long until the next code is looked at.
        retry_after: Duration,
    },
    /// Too many wrong codes in a row.
    #[error(
        "too many wrong codes in a row; this method is locked until it is set up again or an \
         administrator unlocks it"
    )]
    Locked,
}

/// The mails sent to one user from one side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailBudget {
    lane: Lane,
    recent: Vec<Timestamp>,
}

impl MailBudget {
    /// Starts with no mail sent.
    #[must_use]
    pub const fn new(lane: Lane) -> Self {
        Self { lane, recent: Vec::new() }
    }

    /// Restores a stored budget.
    #[must_use]
    pub const fn from_parts(lane: Lane, recent: Vec<Timestamp>) -> Self {
        Self { lane, recent }
    }

    /// Returns from which side the mails were asked for.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Returns when the mails of the last 24 h were charged, for the store; at most as many as the
    /// limit.
    #[must_use]
    pub fn recent(&self) -> &[Timestamp] {
        &self.recent
    }

    /// Counts one mail, before it is sent.
    ///
    /// # Errors
    ///
    /// [`MailRefused`]; the budget is unchanged then.
    pub fn charge(&mut self, now: Timestamp) -> Result<(), MailRefused> {
        let limits = self.lane.mail_limits();
        let hour = wait(&self.recent, limits.per_hour, HOUR, now);
        let day = wait(&self.recent, limits.per_day, DAY, now);
        if let Some(retry_after) = hour.max(day) {
            return Err(MailRefused { retry_after });
        }
        push(&mut self.recent, DAY, now);
        Ok(())
    }
}

/// Too many mails.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "too many codes were sent by e-mail; use the newest one, or try again in {} min",
    retry_after.as_secs().div_ceil(60).max(1)
)]
pub struct MailRefused {
    /// How long until the next mail is sent.
    pub retry_after: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns how long until fewer than `limit` of `times` lie in the `window` before now; `None` if
/// it is so already. A time after `now`, left by a clock that was set back, counts as now.
fn wait(times: &[Timestamp], limit: usize, window: Duration, now: Timestamp) -> Option<Duration> {
    let mut ages: Vec<Duration> =
        times.iter().map(|at| now.since(*at)).filter(|age| *age < window).collect();
    if ages.len() < limit {
        return None;
    }
    ages.sort_unstable();
    // The oldest of the newest `limit` has to leave the window.
    let age = limit.checked_sub(1).and_then(|place| ages.get(place)).copied().unwrap_or_default();
    Some(window.saturating_sub(age))
}

fn push(times: &mut Vec<Timestamp>, window: Duration, now: Timestamp) {
    for at in times.iter_mut() {
        *at = (*at).min(now);
    }
    times.retain(|at| now.since(*at) < window);
    times.push(now);
}

#[cfg(test)]
mod tests;
