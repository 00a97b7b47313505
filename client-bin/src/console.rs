//! Where answers go: text for people, JSON for programs.

use core::fmt;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::error::ClientError;

/// Standard output and error, or a test's.
pub struct Console {
    json: bool,
    colour: bool,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

/// How a word stands out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Paint {
    /// A name.
    Bold,
    /// As it should be.
    Good,
    /// Under way, or unknown.
    Pending,
    /// Not as it should be.
    Bad,
    /// A QR code: light on dark, whatever the terminal's colours.
    Code,
}

impl Console {
    /// The process's own. Colours go to terminals only, and not against `NO_COLOR`.
    #[must_use]
    pub fn standard(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = wanted && !json && io::stdout().is_terminal();
        Self { json, colour, out: Box::new(io::stdout()), err: Box::new(io::stderr()) }
    }

    /// Writes elsewhere, without colours.
    #[must_use]
    pub fn to(json: bool, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { json, colour: false, out, err }
    }

    /// A program reads.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Makes a text stand out, if there are colours.
    #[must_use]
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if !self.colour => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Good => "32",
            Paint::Pending => "33",
            Paint::Bad => "31",
            Paint::Code => "97;40",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Says something to a person; programs are told by [`answer`](Self::answer).
    pub fn say(&mut self, text: &str) {
        if !self.json {
            // Nobody listens any more: there is nobody to tell that to.
            let _ = writeln!(self.out, "{text}");
        }
    }

    /// Says something beside the answer, to a person.
    pub fn note(&mut self, text: &str) {
        if !self.json {
            let _ = writeln!(self.err, "{text}");
        }
    }

    /// Gives a program its answer, in one piece.
    pub fn answer(&mut self, value: &impl Serialize) {
        self.json_to_out(serde_json::to_string_pretty(value));
    }

    /// Gives a program one of several answers, in one line.
    pub fn answer_line(&mut self, value: &impl Serialize) {
        self.json_to_out(serde_json::to_string(value));
    }

    /// Tells what went wrong.
    pub fn fail(&mut self, code: &str, message: &str, exit_code: u8) {
        let said = if self.json {
            let body = serde_json::json!({
                "error": message, "code": code, "exit_code": exit_code,
            });
            writeln!(self.err, "{body}")
        } else {
            let word = self.paint(Paint::Bad, "error:");
            writeln!(self.err, "{word} {message}")
        };
        // As above.
        let _ = said;
    }

    /// Writes a text as it stands, for both.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`] if nobody reads.
    pub fn raw(&mut self, text: &[u8]) -> Result<(), ClientError> {
        self.out
            .write_all(text)
            .map_err(|source| ClientError::Io { doing: "cannot write the answer", source })
    }

    fn json_to_out(&mut self, text: serde_json::Result<String>) {
        if let (true, Ok(text)) = (self.json, text) {
            let _ = writeln!(self.out, "{text}");
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("json", &self.json)
            .field("colour", &self.colour)
            .finish_non_exhaustive()
    }
}
