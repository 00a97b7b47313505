//! The one place that asks for random bytes.

use rand::TryRng as _;
use rand::rngs::SysRng;
use std::io;
use wg_types::PrivateKey;
use zeroize::Zeroizing;

/// Makes 32 bytes that nobody can guess.
///
/// # Errors
///
/// [`io::Error`] if the system has no random bytes to give.
pub fn secret() -> io::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Makes a private key from the system's generator.
///
/// # Errors
///
/// [`io::Error`] if the system has no random bytes to give.
pub fn private_key() -> io::Result<PrivateKey> {
    Ok(PrivateKey::from_bytes(*secret()?))
}
