//! Counts test results in what test programs print.

use std::fmt;

const RESULT: &str = "test result: ";
const TOTAL: &str = "tests of the group: ";

/// How many tests passed, failed, and were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    /// Of those that passed: at their second attempt.
    pub(super) again: u64,
}

impl Tally {
    /// Sums the lines `test result: ok. 9 passed; 0 failed; 1 ignored; …` of several programs one
    /// after the other; or, where a group of programs has written its [`total`](Self::total), only
    /// that, because a test may start others of its program.
    pub(super) fn read(output: &str) -> Self {
        let total = Self::sum(output, TOTAL);
        if total == Self::default() { Self::sum(output, RESULT) } else { total }
    }

    /// The result that one program wrote last: its own, after those of programs that it started.
    pub(super) fn last(output: &str) -> Self {
        let last = output.lines().rfind(|line| line.contains(RESULT));
        Self::sum(last.unwrap_or_default(), RESULT)
    }

    /// The line that [`read`](Self::read) finds again.
    pub(super) fn total(&self) -> String {
        let Self { passed, failed, ignored, again } = self;
        format!("{TOTAL}{passed} passed; {failed} failed; {ignored} ignored; {again} again")
    }

    /// All that failed passed at their second attempt.
    pub(super) fn pass_again(&mut self) {
        self.again = self.again.saturating_add(self.failed);
        self.passed = self.passed.saturating_add(self.failed);
        self.failed = 0;
    }

    fn sum(output: &str, title: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines() {
            if let Some((_, counts)) = line.split_once(title) {
                sum.add(&Self {
                    passed: count(counts, " passed"),
                    failed: count(counts, " failed"),
                    ignored: count(counts, " ignored"),
                    again: count(counts, " again"),
                });
            }
        }
        sum
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.ignored = self.ignored.saturating_add(other.ignored);
        self.again = self.again.saturating_add(other.again);
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
        if self.again > 0 {
            write!(f, ", {} of them at the second attempt", self.again)?;
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

        assert_eq!(Tally::read(output), Tally { passed: 12, failed: 3, ignored: 1, again: 0 });
    }

    #[test]
    fn tests_that_a_test_starts_are_not_counted_again() {
        let program = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\n\
            running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";

        let last = Tally::last(program);

        assert_eq!(last, Tally { passed: 2, failed: 0, ignored: 0, again: 0 });
        assert_eq!(Tally::read(&format!("{program}{}\n", last.total())), last);
    }

    #[test]
    fn a_second_attempt_is_a_pass_that_is_told() {
        let mut tally = Tally { passed: 2, failed: 1, ignored: 0, again: 0 };

        tally.pass_again();

        assert_eq!(Tally::read(&tally.total()), tally);
        assert_eq!(tally.to_string(), "3 passed, 1 of them at the second attempt");
    }

    #[test]
    fn a_program_without_tests_counts_nothing() {
        assert_eq!(Tally::read("Finished `dev` profile").to_string(), "");
    }
}
