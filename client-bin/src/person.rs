//! The person at the terminal, if there is one.

use core::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use zeroize::Zeroizing;

/// Who can be asked.
pub trait Person: Send + fmt::Debug {
    /// Somebody sits there; else questions cannot be asked, and only a piped code can be read.
    fn is_there(&self) -> bool;

    /// Asks for one line.
    ///
    /// # Errors
    ///
    /// [`io::Error`]; `UnexpectedEof` if there is no line.
    fn line(&mut self, question: &str) -> io::Result<Zeroizing<String>>;

    /// Asks for a line that nobody should see on the screen.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    fn hidden(&mut self, question: &str) -> io::Result<Zeroizing<String>>;

    /// Asks for one of several; an empty line means the first.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    fn choose(&mut self, question: &str, options: &[String]) -> io::Result<usize> {
        let mut text = format!("{question}\n");
        for (number, option) in options.iter().enumerate() {
            let _ = writeln!(text, "  {}) {option}", number + 1);
        }
        loop {
            let answer = self.line(&format!("{text}Number [1]: "))?;
            match answer.trim() {
                "" => return Ok(0),
                number => {
                    let chosen = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    if let Some(chosen) = chosen.filter(|&n| n < options.len()) {
                        return Ok(chosen);
                    }
                }
            }
        }
    }

    /// Asks yes or no; an empty line means yes.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    fn yes(&mut self, question: &str) -> io::Result<bool> {
        let answer = self.line(&format!("{question} [Y/n] "))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
    }
}

/// The terminal that the process was started from.
#[derive(Debug, Default)]
pub struct Terminal;

impl Person for Terminal {
    fn is_there(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn line(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
        if self.is_there() {
            // Not stdout: that may go to a program.
            let mut out = io::stderr().lock();
            out.write_all(question.as_bytes())?;
            out.flush()?;
        }
        read_line(&mut io::stdin().lock())
    }

    fn hidden(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
        if self.is_there() {
            return rpassword::prompt_password(question).map(Zeroizing::new);
        }
        read_line(&mut io::stdin().lock())
    }
}

/// Nobody: a program runs this one.
#[derive(Debug, Default)]
pub struct Nobody;

impl Person for Nobody {
    fn is_there(&self) -> bool {
        false
    }

    fn line(&mut self, _question: &str) -> io::Result<Zeroizing<String>> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn hidden(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
        self.line(question)
    }
}

fn read_line(from: &mut impl io::BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Somebody who gives these answers, one after the other.
    #[derive(Debug, Default)]
    pub(crate) struct Scripted {
        pub(crate) answers: VecDeque<&'static str>,
        pub(crate) questions: Vec<String>,
    }

    impl Scripted {
        pub(crate) fn new(answers: &[&'static str]) -> Self {
            Self { answers: answers.iter().copied().collect(), questions: Vec::new() }
        }
    }

    impl Person for Scripted {
        fn is_there(&self) -> bool {
            true
        }

        fn line(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
            self.questions.push(question.to_owned());
            let answer = self.answers.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(Zeroizing::new(answer.to_owned()))
        }

        fn hidden(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
            self.line(question)
        }
    }

    #[test]
    fn a_choice_is_asked_for_until_it_is_one() {
        let options = ["a".to_owned(), "b".to_owned()];
        let mut person = Scripted::new(&["3", "x", "0", "2"]);
        assert_eq!(person.choose("Which?", &options).unwrap(), 1);
        assert_eq!(Scripted::new(&[""]).choose("Which?", &options).unwrap(), 0);
    }

    #[test]
    fn a_line_keeps_its_spaces_and_loses_its_end() {
        let mut input = io::Cursor::new("012 345\r\nrest");
        assert_eq!(*read_line(&mut input).unwrap(), "012 345");
        assert_eq!(*read_line(&mut input).unwrap(), "rest");
        assert!(read_line(&mut input).is_err());
    }
}
