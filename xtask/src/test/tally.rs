//! Counts test results in what test programs print.

use std::fmt;

/// How many tests passed, failed, and were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Tally {
    /// Sums lines such as `test result: ok. 9 passed; 0 failed; 1 ignored; …`.
    pub(super) fn read(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines() {
            if let Some((_, counts)) = line.split_once("test result: ") {
                sum.add(&Self {
                    passed: count(counts, " passed"),
                    failed: count(counts, " failed"),
                    ignored: count(counts, " ignored"),
                });
            }
        }
        sum
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.ignored = self.ignored.saturating_add(other.ignored);
    }
}

/// The number before `word`.
fn count(counts: &str, word: &str) -> u64 {
    let before = counts.split_once(word).map(|(before, _)| before).unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Nothing for a stage without tests.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        write!(f, "{} passed", self.passed)?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_results_of_several_programs_are_summed() {
        let output = "running 3 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\r\n\
            test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out\n";

        assert_eq!(Tally::read(output), Tally { passed: 12, failed: 3, ignored: 1 });
    }

    #[test]
    fn a_program_without_tests_counts_nothing() {
        assert_eq!(Tally::read("Finished `dev` profile").to_string(), "");
    }
}
