//! The loops around what must happen by itself. Each is one task; if one ends before core is told to
//! stop, core stops.

pub mod idle;
pub mod mail_settings;
pub mod rotate;
pub mod sweep;
