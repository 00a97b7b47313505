//! The only place that makes random bytes.

use core::fmt;
use std::sync::Arc;

use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// Random bytes for keys, codes and tokens.
#[derive(Clone)]
pub struct Rng(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

impl Rng {
    /// The operating system's generator.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|bytes| {
            if SysRng.try_fill_bytes(bytes).is_err() {
                // Nothing that this process does is safe without random bytes.
                tracing::error!("the operating system gives no random bytes");
                std::process::abort();
            }
        }))
    }

    /// Any other source, for tests.
    #[must_use]
    pub fn from_fn(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// Makes `N` bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        (self.0)(bytes.as_mut_slice());
        bytes
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_bytes_differ() {
        let rng = Rng::system();
        assert_ne!(*rng.bytes::<32>(), *rng.bytes::<32>());
    }
}
