//! Names that people give: to themselves, devices, locations, groups, gateways.

/// Characters of the longest name.
pub const MAX: usize = 64;

/// Why a name is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or blanks.
    #[error("a {what} needs a name")]
    Empty {
        /// Whose name.
        what: &'static str,
    },
    /// Longer than [`MAX`].
    #[error("the name of a {what} has at most {MAX} characters")]
    Long {
        /// Whose name.
        what: &'static str,
    },
    /// A line break, another control character, or one that turns the direction of writing.
    #[error("the name of a {what} cannot have control characters")]
    Control {
        /// Whose name.
        what: &'static str,
    },
    /// A character that the name would have to be quoted for.
    #[error("the name of a {what} has letters, digits and . _ - only")]
    NotAWord {
        /// Whose name.
        what: &'static str,
    },
    /// No mail can be sent there.
    #[error("this is no e-mail address")]
    NotAnAddress,
}

/// Takes a name for people to read, without blanks around it.
///
/// # Errors
///
/// [`NameError`], saying that it is the name of a `what`.
pub fn label(what: &'static str, text: &str) -> Result<String, NameError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.chars().count() > MAX {
        return Err(NameError::Long { what });
    }
    if text.chars().any(is_treacherous) {
        return Err(NameError::Control { what });
    }
    Ok(text.to_owned())
}

/// Takes a name that is typed in commands: letters, digits, `.`, `_`, `-`, and `@` within.
///
/// # Errors
///
/// [`NameError`], saying that it is the name of a `what`.
pub fn word(what: &'static str, text: &str) -> Result<String, NameError> {
    let text = label(what, text)?;
    let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '@');
    let starts = text.chars().next().is_some_and(char::is_alphanumeric);
    if starts && text.chars().all(fits) { Ok(text) } else { Err(NameError::NotAWord { what }) }
}

/// Takes an e-mail address; empty: none.
///
/// # Errors
///
/// [`NameError::NotAnAddress`].
pub fn email(text: &str) -> Result<String, NameError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(String::new());
    }
    let address: lettre::Address = text.parse().map_err(|_| NameError::NotAnAddress)?;
    if text.len() > 254 || text.chars().any(is_treacherous) {
        return Err(NameError::NotAnAddress);
    }
    Ok(address.to_string())
}

/// Control characters, line separators, and the marks that turn the direction of writing and so
/// make one name look like another (Unicode TR36 §3.3).
fn is_treacherous(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_people_may_have_blanks_but_no_line_breaks() {
        assert_eq!(label("device", "  Ada's laptop "), Ok("Ada's laptop".to_owned()));
        assert_eq!(label("device", " "), Err(NameError::Empty { what: "device" }));
        for name in ["a\r\nBcc: x", "a\0", "a\u{202e}b", "a\u{2028}b"] {
            assert_eq!(
                label("device", name),
                Err(NameError::Control { what: "device" }),
                "{name:?}"
            );
        }
        assert!(label("device", &"x".repeat(65)).is_err());
        assert!(label("device", &"ü".repeat(64)).is_ok());
    }

    #[test]
    fn names_for_commands_need_no_quotes() {
        for name in ["paris", "ada.lovelace", "gw-1", "Zürich", "ada@example.com"] {
            assert_eq!(word("location", name).as_deref(), Ok(name));
        }
        for name in ["-x", "a b", "a;b", "a/b", "$x", ".hidden"] {
            assert!(word("location", name).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_are_checked_and_may_be_absent() {
        assert_eq!(email(""), Ok(String::new()));
        assert_eq!(email(" ada@example.com "), Ok("ada@example.com".to_owned()));
        for text in ["ada", "a@b\r\nBcc: c@d", "a b@c.d", "<a@b.c>"] {
            assert_eq!(email(text), Err(NameError::NotAnAddress), "{text:?}");
        }
    }
}
