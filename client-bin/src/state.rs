//! What the client remembers: `client.json`, readable by its owner alone.
//!
//! It holds the device's private key and the polling token of each instance, and the locations of
//! the last Instance Update. It never holds a pre-shared key: each connect buys a new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mfa_wire::http::SecretText;
use serde::{Deserialize, Serialize};
use wg_types::PrivateKey;
use zeroize::Zeroizing;

use crate::location::Location;
use crate::mfa::Pending;
use crate::pin::CaPin;
use crate::serde_keys::private_key;

/// The file's layout; a file of another version is refused rather than misread.
const VERSION: u32 = 1;

/// The most bytes that are read: some thousand locations.
const MAX_BYTES: u64 = 8 << 20;

/// Everything in `client.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The servers that this device is enrolled at, oldest first.
    pub instances: Vec<Instance>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, instances: Vec::new() }
    }
}

/// One server and what it knows this device as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// The server's own id, which survives a change of its name.
    pub id: String,
    /// Its name, by which a person picks it.
    pub name: String,
    /// Where it was enrolled, with a slash at the end.
    pub url: url::Url,
    /// The authority that its certificate must come from; `None`: one of the system's.
    pub ca_pin: Option<CaPin>,
    /// The user's login.
    pub user: String,
    /// The device's name at the server.
    pub device: String,
    /// The device's key, the same in every location. It never leaves this machine.
    #[serde(with = "private_key")]
    pub private_key: PrivateKey,
    /// What fetches an Instance Update; `None`: the server gave none.
    pub polling_token: Option<SecretText>,
    /// The enrollment session, while it is good: it may set up a factor.
    pub enrollment: Option<EnrollmentSession>,
    /// A factor whose setup waits for its first code.
    #[serde(default)]
    pub pending_setup: Option<Pending>,
    /// The version of the last Instance Update; `None`: the server gives none.
    #[serde(default)]
    pub config_version: Option<String>,
    /// The locations of the last Instance Update.
    pub locations: Vec<Location>,
}

/// The cookie that `enrollment/start` set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollmentSession {
    /// `name=value`, as it is sent back.
    pub cookie: SecretText,
    /// When the server forgets it, in Unix seconds.
    pub deadline: i64,
}

/// The folder with `client.json` and what belongs to it.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Names the folder; it is made by the first change.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the state; without a file it is empty.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the file cannot be read, can be read by others, or is not ours.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        let read = |source| StateError::Read { path: path.clone(), source };
        let meta = file.metadata().map_err(read)?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(StateError::Exposed { path });
        }
        // Sized once, so that no half-grown copy of a key stays behind in freed memory.
        let size = meta.len().min(MAX_BYTES);
        let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
        file.take(size).read_to_end(&mut text).map_err(read)?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|source| StateError::Malformed { path: path.clone(), source })?;
        if state.version != VERSION {
            return Err(StateError::Version { path, found: state.version });
        }
        Ok(state)
    }

    /// Changes the state: reads it, lets `change` edit it, and writes it, while no other process of
    /// this client can do the same.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it cannot be read or written; the old file then stands.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, StateError> {
        private_dir(&self.dir)?;
        let path = self.dir.join("client.lock");
        let write = |source| StateError::Write { path: path.clone(), source };
        let lock = private_file(&path).map_err(write)?;
        lock.lock().map_err(write)?;
        let mut state = self.load()?;
        let answer = change(&mut state);
        self.save(&state)?;
        Ok(answer)
    }

    fn save(&self, state: &State) -> Result<(), StateError> {
        let (path, draft) = (self.path(), self.dir.join("client.json.new"));
        let write = |source| StateError::Write { path: path.clone(), source };
        let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
        serde_json::to_writer_pretty(&mut *text, state)
            .map_err(|error| write(io::Error::other(error)))?;
        text.push(b'\n');

        // A draft that a crash left behind may have other permissions: never reuse it.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(write)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(write)?;
        fs::rename(&draft, &path).map_err(write)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(write)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("client.json")
    }
}

impl State {
    /// Picks an instance by its name or id; without one, the only one there is.
    ///
    /// # Errors
    ///
    /// [`PickError`] says which there are.
    pub fn pick(&self, wanted: Option<&str>) -> Result<&Instance, PickError> {
        match (wanted, self.instances.as_slice()) {
            (_, []) => Err(PickError::NotEnrolled),
            (None, [only]) => Ok(only),
            (None, _) => Err(PickError::Several { names: self.names() }),
            (Some(wanted), instances) => instances
                .iter()
                .find(|instance| instance.name == wanted || instance.id == wanted)
                .ok_or_else(|| PickError::Unknown {
                    wanted: wanted.to_owned(),
                    names: self.names(),
                }),
        }
    }

    /// Finds an instance by the server's id, to change it.
    #[must_use]
    pub fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    fn names(&self) -> String {
        let names: Vec<_> =
            self.instances.iter().map(|instance| format!("\"{}\"", instance.name)).collect();
        names.join(", ")
    }
}

/// Makes a folder that only its owner can enter; one that exists is left as it is.
///
/// # Errors
///
/// [`StateError::Write`] if it cannot be made.
pub fn private_dir(dir: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StateError::Write { path: dir.to_owned(), source })
}

/// Opens a file for writing, made 0600 if it is new.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// What to do about a file that is not ours to use.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ". Run as the user who enrolled, or name another folder with --dir"
        }
        _ => "",
    }
}

/// Why the client's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is there and cannot be read.
    #[error("cannot read {}: {source}{}", path.display(), hint(source))]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}{}", path.display(), hint(source))]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private key lies open to other users.
    #[error("other users can read {0}, which holds this device's private key. Run `chmod 600 {0}`; if a stranger may have read it, enroll again", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{} is damaged ({source}). Move it away and enroll again", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong; never what stands there.
        source: serde_json::Error,
    },
    /// The file was written by another generation of the client.
    #[error("{} has version {found}, this client reads version {VERSION}. Use the client that wrote it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Why no instance was picked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PickError {
    /// There is none.
    #[error(
        "this device is not enrolled anywhere. Ask your administrator for an enrollment token, then run `client-bin enroll URL TOKEN`"
    )]
    NotEnrolled,
    /// There are several.
    #[error("this device is enrolled at several servers: {names}. Choose one with --instance NAME")]
    Several {
        /// Their names.
        names: String,
    },
    /// None has this name.
    #[error("there is no instance \"{wanted}\". This device is enrolled at: {names}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The names that there are.
        names: String,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn instance(name: &str) -> Instance {
        Instance {
            id: format!("id-of-{name}"),
            name: name.to_owned(),
            url: "https://vpn.example.org:8443/".parse().unwrap(),
            ca_pin: Some(CaPin::of(b"ca")),
            user: "alice".to_owned(),
            device: "laptop".to_owned(),
            private_key: PrivateKey::from_bytes([7; 32]),
            polling_token: Some(SecretText::new("poll-me")),
            enrollment: None,
            pending_setup: None,
            config_version: None,
            locations: Vec::new(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("new/folder"));
        assert!(store.load().unwrap().instances.is_empty());

        store.change(|state| state.instances.push(instance("Acme"))).unwrap();

        let state = store.load().unwrap();
        let found = state.pick(None).unwrap();
        assert_eq!(found.private_key.public_key(), instance("Acme").private_key.public_key());
        assert_eq!(found.polling_token.as_ref().unwrap().expose_secret(), "poll-me");
        assert_eq!(found.ca_pin, Some(CaPin::of(b"ca")));
    }

    #[test]
    fn nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("folder"));
        store.change(|state| state.instances.push(instance("Acme"))).unwrap();

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path()), 0o600);
        assert_eq!(mode(store.dir()), 0o700);
        assert!(!store.dir().join("client.json.new").exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.change(|state| state.instances.push(instance("Acme"))).unwrap();
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o640)).unwrap();

        assert!(matches!(store.load(), Err(StateError::Exposed { .. })));
    }

    #[test]
    fn a_draft_that_a_crash_left_open_to_others_is_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let draft = dir.path().join("client.json.new");
        fs::write(&draft, "half").unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).unwrap();

        store.change(|state| state.instances.push(instance("Acme"))).unwrap();

        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.change(|state| state.instances.push(instance("Acme"))).unwrap();
        let text = fs::read_to_string(store.path()).unwrap();
        let key = PrivateKey::from_bytes([7; 32]).expose_base64().to_string();
        fs::write(store.path(), text.replace(&key, &key[..20])).unwrap();

        let error = store.load().unwrap_err();
        assert!(matches!(error, StateError::Malformed { .. }));
        assert!(!error.to_string().contains(&key[..20]), "{error}");
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.change(|state| state.version = 2).unwrap();
        assert!(matches!(store.load(), Err(StateError::Version { found: 2, .. })));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", instance("Acme"));
        assert!(!shown.contains("poll-me") && !shown.contains("BwcH"), "{shown}");
    }

    #[test]
    fn the_only_instance_needs_no_name() {
        let mut state = State::default();
        assert_eq!(state.pick(None).unwrap_err(), PickError::NotEnrolled);
        state.instances.push(instance("Acme"));
        assert_eq!(state.pick(None).unwrap().name, "Acme");
        assert_eq!(state.pick(Some("id-of-Acme")).unwrap().name, "Acme");
        assert!(matches!(state.pick(Some("Other")), Err(PickError::Unknown { .. })));
        state.instances.push(instance("Beta"));
        assert_eq!(
            state.pick(None).unwrap_err(),
            PickError::Several { names: "\"Acme\", \"Beta\"".to_owned() }
        );
    }
}
