//! Multi-factor sessions for WireGuard, without IO.
//!
//! A person proves a second factor; the proof buys a session, whose key is a WireGuard pre-shared
//! key. This crate decides all of it and touches nothing: it reads no clock, draws no random number,
//! opens no socket and knows no database. Time is a parameter named `now`, randomness a parameter of
//! bytes.
//!
//! Two shapes, chosen by how long the state lives:
//!
//! * *Values* are stored: [`Enrollment`](enroll::Enrollment), [`Challenge`](challenge::Challenge),
//!   [`Session`](connect::Session), [`GuessBudget`](budget::GuessBudget). A transition takes `now`;
//!   `parts` and `from_parts` are the doors to the store.
//! * *Machines* live in memory: [`IdleTracker`](idle::IdleTracker). They have `handle_*`,
//!   `poll_timeout`, `handle_timeout` and `poll_event`, and one driver each.
//!
//! The journey: [`policy`] says what a location asks → [`challenge`] asks it and is the only maker of
//! [`Verified`](challenge::Verified) → [`connect`] turns a `Verified` into a session → [`idle`] and
//! the session's lifetime end it → [`rotate`] renews its key meanwhile.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod budget;
pub mod challenge;
pub mod connect;
pub mod enroll;
pub mod factor;
pub mod id;
pub mod idle;
pub mod link;
pub mod method;
pub mod policy;
pub mod rotate;
pub mod time;
pub mod token;
