//! Why a challenge gives nothing.

use super::NotAdmitted;
use crate::budget::GuessRefused;

/// Why a challenge takes no more answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotOpen {
    /// Its code was accepted already.
    #[error("this login was completed already; start to connect again")]
    Used,
    /// [`MAX_TRIES`](super::MAX_TRIES) codes were wrong.
    #[error("too many wrong codes for this login; start to connect again")]
    Exhausted,
    /// Its time is over, or a newer one took its place.
    #[error("this login has expired; start to connect again")]
    Expired,
}

/// Why a try was not counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TryRefused {
    /// The challenge takes no more answers.
    #[error(transparent)]
    NotOpen(#[from] NotOpen),
    /// The user has no guesses left.
    #[error(transparent)]
    Guess(#[from] GuessRefused),
    /// The budget is not the one of this challenge's user, method and lane: a mistake of the
    /// caller.
    #[error("the guess budget belongs to another user, method or lane")]
    ForeignBudget,
}

/// Why an answer bought nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The challenge takes no more answers.
    #[error(transparent)]
    NotOpen(#[from] NotOpen),
    /// The try that was counted is not in this challenge: its count was rolled back, or it is
    /// another challenge's.
    #[error("the try was not counted; start to connect again")]
    NotCounted,
    /// The challenge was started by another user or device, or for another location.
    #[error("this login belongs to another device or location; start to connect again")]
    ForeignSubject,
    /// The subject may not use the location or the method any more.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Not the right code.
    #[error("wrong code")]
    Wrong {
        /// How many more codes this challenge looks at.
        tries_left: u8,
    },
    /// The right code, and used before.
    #[error("this code was used before; wait until the authenticator app shows the next one")]
    Replayed,
}
