//! Every byte that wg-mfa's processes say to each other.

pub mod codec;
pub mod gateway;
pub mod http;
pub mod legacy;
pub mod proof;
