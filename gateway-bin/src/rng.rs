//! The only source of randomness in this crate, beside the one with which rcgen makes keys.

/// Draws what tells two processes with one identity apart.
#[must_use]
pub(crate) fn process_id() -> [u8; 16] {
    rand::random()
}

/// Draws a number in `0.0..1.0`, to spread reconnections over time.
#[must_use]
pub(crate) fn jitter() -> f64 {
    rand::random()
}

/// Draws a number for a file name that nobody else has.
#[must_use]
pub(crate) fn number() -> u32 {
    rand::random()
}
