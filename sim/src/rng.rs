//! Random numbers from a seed.

use std::time::SystemTime;

/// `SplitMix64`: small, fast, and the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(bound).unwrap_or(1);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A seed that nobody knows before; whoever uses it prints it.
#[expect(clippy::disallowed_methods, reason = "where a fresh seed comes from")]
#[must_use]
pub fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Rng::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)).next()
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 32 bytes that no other `(kind, serial)` has; the serial is the first eight.
#[must_use]
pub fn bytes(kind: u8, serial: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&serial.to_be_bytes());
    bytes[8..16].copy_from_slice(&mix(serial ^ (u64::from(kind) << 56)).to_be_bytes());
    bytes
}

/// The serial of such bytes.
#[must_use]
pub fn serial(bytes: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(first)
}
