//! Damages bytes.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Longer input only makes each look slower.
const LONGEST: usize = 4096;
/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff{}[]\",:\\ \n\r\t0919-+.eE=/%\xc3\xa0";

/// A source of damage; the same number makes the same.
#[derive(Debug)]
pub struct Mutator(StdRng);

impl Mutator {
    /// Starts from a number.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Makes new input of one of `seeds`: a few changes, now and then none or very many.
    pub fn make(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).map_or_else(Vec::new, <[u8]>::to_vec);
        for _ in 0..self.0.random_range(0..8_usize) {
            let at = self.0.random_range(0..=bytes.len());
            match self.0.random_range(0..7_u8) {
                0 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.0.random_range(0..8_u8);
                    }
                }
                1 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.telling();
                    }
                }
                2 => bytes.insert(at, self.telling()),
                3 => bytes.truncate(at),
                4 => {
                    let end = (at + self.0.random_range(0..16_usize)).min(bytes.len());
                    bytes.drain(at..end);
                }
                5 => {
                    let part = bytes.get(at..).unwrap_or_default().to_vec();
                    bytes.extend(part);
                }
                _ => {
                    let other = self.pick(seeds).unwrap_or_default().to_vec();
                    bytes.splice(at.., other);
                }
            }
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn telling(&mut self) -> u8 {
        let at = self.0.random_range(0..TELLING.len());
        TELLING.get(at).copied().unwrap_or_default()
    }

    fn pick<'a>(&mut self, seeds: &[&'a [u8]]) -> Option<&'a [u8]> {
        if seeds.is_empty() {
            None
        } else {
            seeds.get(self.0.random_range(0..seeds.len())).copied()
        }
    }
}
