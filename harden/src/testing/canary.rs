//! Looks for secrets where none may be.
//!
//! A secret is looked for in each form that a program could give it: its bytes, hexadecimal, base64 and
//! base64url wherever in a longer text they begin, base32, percent-encoded.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

/// Forms shorter than this would be found by chance.
const SHORTEST: usize = 8;

/// Secrets to look for.
#[derive(Debug, Default)]
pub struct Canaries {
    names: Vec<String>,
    /// By the first bytes of a form: whose, and the whole form.
    forms: HashMap<[u8; 4], Vec<(usize, Vec<u8>)>>,
}

impl Canaries {
    /// Looks for these bytes, in every form.
    ///
    /// # Panics
    ///
    /// For fewer than eight bytes: they would be found by chance.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= SHORTEST, "{name} is too short to look for");
        let whose = self.names.len();
        self.names.push(name.to_owned());
        let hex = data_encoding::HEXLOWER.encode(secret);
        let base32 = BASE32_NOPAD.encode(secret);
        let every = percent(secret);
        let mut forms = vec![
            secret.to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            base32.to_lowercase().into_bytes(),
            base32.into_bytes(),
            every.to_lowercase().into_bytes(),
            every.into_bytes(),
        ];
        for before in 0..3_usize {
            let mut longer = vec![0; before];
            longer.extend_from_slice(secret);
            // Digits that hold bits of what stands before or after are not the secret's.
            let (from, to) = ((before * 8).div_ceil(6), longer.len() * 8 / 6);
            for text in [BASE64_NOPAD.encode(&longer), BASE64URL_NOPAD.encode(&longer)] {
                forms.push(text.as_bytes()[from..to].to_vec());
            }
        }
        if let Ok(text) = core::str::from_utf8(secret) {
            // As a form or a URL carries it.
            let escaped: String = text
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        char::from(byte).to_string()
                    }
                    _ => percent(&[byte]),
                })
                .collect();
            forms.push(escaped.into_bytes());
        }
        for form in forms {
            if let Some(start) = form.first_chunk::<4>() {
                self.forms.entry(*start).or_default().push((whose, form));
            }
        }
    }

    /// Looks for a text, and for the bytes that it spells, if it spells any.
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add).
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        let plain: String = text.chars().filter(|letter| *letter != '-').collect();
        let spelt = [
            BASE64.decode(text.as_bytes()),
            BASE64URL_NOPAD.decode(text.as_bytes()),
            BASE32_NOPAD.decode(plain.as_bytes()),
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
        ];
        for bytes in spelt.into_iter().flatten().filter(|bytes| bytes.len() >= SHORTEST) {
            self.add(name, &bytes);
        }
    }

    /// How many there are, each text and its bytes counted by themselves.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Names those that are in `bytes`.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for (at, start) in bytes.windows(4).enumerate() {
            let start = [start[0], start[1], start[2], start[3]];
            for (whose, form) in self.forms.get(&start).into_iter().flatten() {
                if bytes[at..].starts_with(form) && !found.contains(&self.names[*whose].as_str()) {
                    found.push(self.names[*whose].as_str());
                }
            }
        }
        found
    }

    /// Looks into every file under `dir`, and says `FILE: NAME` for each that should not be there.
    /// `belongs` names the secrets that have their place in a file, by the end of its path.
    ///
    /// # Panics
    ///
    /// If a directory cannot be read.
    #[must_use]
    pub fn found_under(&self, dir: &Path, belongs: &[(&str, &[&str])]) -> Vec<String> {
        let mut found = Vec::new();
        let mut places = vec![dir.to_owned()];
        while let Some(place) = places.pop() {
            for entry in fs::read_dir(&place).unwrap() {
                let (path, kind) = (entry.as_ref().unwrap().path(), entry.unwrap().file_type());
                if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                    places.push(path);
                } else if kind.is_ok_and(|kind| kind.is_file()) {
                    // One that is gone by now holds nothing.
                    let bytes = fs::read(&path).unwrap_or_default();
                    let text = path.display().to_string();
                    let may = |name: &&str| {
                        belongs
                            .iter()
                            .any(|(end, names)| text.ends_with(end) && names.contains(name))
                    };
                    let strays = self.found_in(&bytes).into_iter().filter(|name| !may(name));
                    found.extend(strays.map(|name| format!("{text}: {name}")));
                }
            }
        }
        found
    }
}

fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        text.push('%');
        text.push_str(&data_encoding::HEXUPPER.encode(&[*byte]));
    }
    text
}

/// The command line and the environment of every process that can be seen, as far as they can be read.
#[must_use]
pub fn processes() -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            for what in ["cmdline", "environ"] {
                all.extend(fs::read(entry.path().join(what)).unwrap_or_default());
                all.push(0);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_of_its_forms() {
        let secret: Vec<u8> = (0x81..0xa1).collect();
        let mut canaries = Canaries::default();
        canaries.add("key", &secret);
        assert!(canaries.found_in(b"nothing of the kind, however long it is").is_empty());
        let every = percent(&secret).to_lowercase();
        let mut texts = vec![
            secret.clone(),
            data_encoding::HEXLOWER.encode(&secret).into_bytes(),
            data_encoding::HEXUPPER.encode(&secret).into_bytes(),
            BASE32_NOPAD.encode(&secret).into_bytes(),
            every.into_bytes(),
        ];
        for before in 0..7 {
            let mut longer = vec![b'x'; before];
            longer.extend(&secret);
            longer.extend(vec![b'y'; 5]);
            texts.push(BASE64.encode(&longer).into_bytes());
            texts.push(BASE64URL_NOPAD.encode(&longer).into_bytes());
        }
        for text in texts {
            let mut around = b"level=TRACE x=".to_vec();
            around.extend(&text);
            around.extend(b" more");
            assert_eq!(canaries.found_in(&around), ["key"], "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn a_text_is_found_as_it_is_and_as_what_it_spells() {
        let mut canaries = Canaries::default();
        canaries.add_text("password", "correct horse & battery");
        canaries.add_text("key", "gYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6A=");
        assert_eq!(canaries.found_in(b"p=correct%20horse%20%26%20battery"), ["password"]);
        assert_eq!(
            canaries
                .found_in(b"k=8182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0"),
            ["key"]
        );
    }

    #[test]
    fn a_file_is_a_place_for_what_belongs_there_alone() {
        let dir = tempfile();
        let mut canaries = Canaries::default();
        canaries.add_text("one", "first-secret");
        canaries.add_text("two", "second-secret");
        fs::write(dir.join("a.json"), "first-secret second-secret").unwrap();
        let found = canaries.found_under(&dir, &[("a.json", &["one"])]);
        assert_eq!(found, [format!("{}: two", dir.join("a.json").display())]);
        fs::remove_dir_all(dir).unwrap();
    }

    fn tempfile() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("canary-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}
