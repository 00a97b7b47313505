//! Licence expressions as crates state them: "MIT OR Apache-2.0", "(MIT OR ISC) AND Zlib", and the
//! old "MIT/Apache-2.0".

use std::collections::BTreeSet;

/// Whether `allowed` is enough to use what is under this expression.
///
/// An expression that cannot be read is not satisfied.
pub(crate) fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    parser.any() == Some(true) && parser.words.is_empty()
}

/// Reads from the front of `words`. `None` means that the expression is not well-formed.
#[derive(Debug)]
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<&'a str>,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut result = self.all()?;
        while self.take("OR") {
            result |= self.all()?;
        }
        Some(result)
    }

    fn all(&mut self) -> Option<bool> {
        let mut result = self.one()?;
        while self.take("AND") {
            result &= self.one()?;
        }
        Some(result)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let result = self.any()?;
            return self.take(")").then_some(result);
        }
        let licence = self.next()?;
        if !self.take("WITH") {
            return Some(self.allowed.contains(licence));
        }
        let exception = self.next()?;
        Some(self.allowed.contains(format!("{licence} WITH {exception}").as_str()))
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::satisfied;
    use std::collections::BTreeSet;

    #[test]
    fn one_allowed_licence_is_enough_of_a_choice_and_all_are_needed_of_a_sum() {
        let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
        let cases = [
            ("MIT", true),
            ("GPL-3.0 OR MIT", true),
            ("Apache-2.0/MIT", true),
            ("GPL-3.0", false),
            ("ISC AND GPL-3.0", false),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("(ISC AND GPL-3.0) OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_satisfied() {
        let allowed = BTreeSet::from(["MIT"]);

        for expression in ["", "MIT MIT", "(MIT", "MIT OR", "MIT)"] {
            assert!(!satisfied(expression, &allowed), "{expression}");
        }
    }
}
