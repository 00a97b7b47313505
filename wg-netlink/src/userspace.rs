//! WireGuard in this process, where the kernel has none.
//!
//! `defguard_wireguard_rs` runs a boringtun on a TUN device; it is spoken to over its socket
//! `/var/run/wireguard/NAME.sock`, where `wg show` finds it too. It is a fallback for small numbers
//! of peers, and differs from the kernel's:
//!
//! - The interface lives as long as this handle: it goes when the handle is dropped and when the
//!   process ends. Interface names are unique per host, not per network namespace.
//! - An existing peer cannot be changed: it is removed and added again. Its session keys are then
//!   lost, and a client notices after some 15 s, or with its next handshake; its counters begin
//!   again at zero. An update that changes nothing leaves the peer alone.
//! - Two interfaces may listen on one port without an error, and then share it by chance.
//! - A handshake is stamped when an initiation is answered, so it does not prove that the peer is
//!   there; the time is right to about a second.
//! - Its threads end on SIGINT and SIGTERM. The process is then sent SIGTERM again, so that a
//!   program's own handler sees it (`signals`).
//! - The interface is up from the start; the MTU should not exceed 1500.
//!
//! Both crates log: the former, at level `trace`, prints keys if it is used directly, which nothing
//! here does. [`LOG_FILTER`] holds them down.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use defguard_wireguard_rs::{Userspace, WGApi, WireguardInterfaceApi as _};
use ipnet::IpNet;
use wg_types::timers::REKEY_TIMEOUT;
use wg_types::{Interface, InterfaceConfig, Peer, PeerStats, PeerUpdate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::link::{Links, os_error};
use crate::model::Peers;
use crate::{ApplyError, Backend, Error, Refused, WireGuard};

use self::signals::Watch;

mod signals;
mod uapi;

/// For a log filter (`RUST_LOG`): these targets say nothing below a warning.
pub const LOG_FILTER: &str = "defguard_wireguard_rs=warn,defguard_boringtun=warn";

/// Where every userspace WireGuard has its socket.
const SOCKETS: &str = "/var/run/wireguard";

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// As the kernel's: 1500 less the outer IPv6 and UDP headers and WireGuard's own.
const DEFAULT_MTU: u32 = 1420;

/// A WireGuard that runs in this process.
pub struct UserspaceInterface {
    name: String,
    links: Links,
    state: Mutex<State>,
}

struct State {
    /// Goes before the threads that it watches.
    watch: Option<Watch>,
    /// The threads and the TUN device; `None`: removed.
    device: Option<WGApi<Userspace>>,
    /// Whether the key is one that was asked for.
    has_key: bool,
    /// Each peer's last handshake as it was told first.
    handshakes: BTreeMap<PublicKey, SystemTime>,
}

impl UserspaceInterface {
    /// Starts it, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::NameTaken`], [`Error::BadName`] for a name that is a number,
    /// [`Error::PermissionDenied`] and [`Error::Userspace`], for one if there is no `/dev/net/tun`.
    pub fn open(name: &str) -> Result<Self, Error> {
        if name.parse::<i32>().is_ok() {
            // It would be taken for an open file.
            return Err(Error::BadName { name: name.to_owned() });
        }
        let links = Links::open()?;
        if UnixStream::connect(socket_path(name)).is_ok() {
            return Err(Error::InUse { name: name.to_owned() });
        }
        if links.find(name)?.is_some() {
            return Err(Error::NameTaken { name: name.to_owned() });
        }
        let device = start(name)?;
        // The threads have the name of the one that started them.
        let watch = Watch::begin(name.to_owned()).map_err(|error| os_error(&error, "start"))?;
        let state = State {
            watch: Some(watch),
            device: Some(device),
            has_key: false,
            handshakes: BTreeMap::new(),
        };
        let interface = Self { name: name.to_owned(), links, state: Mutex::new(state) };
        // Without any key it would crash at the first packet that is sent to its port.
        let config = InterfaceConfig { private_key: Some(throwaway_key()?), ..Default::default() };
        interface.set(&uapi::configure(&config), "set a first key")?;
        interface.links.set_up(name, Some(DEFAULT_MTU))?;
        Ok(interface)
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.device.is_none() {
            return Err(Error::NoSuchInterface { name: self.name.clone() });
        }
        Ok(state)
    }

    fn ask(&self, request: &str) -> io::Result<uapi::Secret> {
        let mut socket = UnixStream::connect(socket_path(&self.name))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        socket.write_all(request.as_bytes())?;
        let mut answer = uapi::Secret::new(String::with_capacity(65_536));
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn set(&self, request: &str, doing: &'static str) -> Result<(), Error> {
        let answer = self.ask(request).map_err(|error| self.error(&error, doing))?;
        match uapi::errno(&answer) {
            Some(0) => Ok(()),
            Some(code) => Err(os_error(&io::Error::from_raw_os_error(code), doing)),
            None => Err(Error::NoAnswer { doing }),
        }
    }

    fn read(&self, state: &mut State) -> Result<Interface, Error> {
        const DOING: &str = "read the interface";
        let answer = self.ask(uapi::GET).map_err(|error| self.error(&error, DOING))?;
        let mut interface =
            uapi::interface(&self.name, &answer).ok_or(Error::NoAnswer { doing: DOING })?;
        if !state.has_key {
            interface.public_key = None;
        }
        interface.peers.sort_by_key(|peer| peer.config.public_key);
        state.steady_handshakes(&mut interface.peers);
        Ok(interface)
    }

    fn error(&self, error: &io::Error, doing: &'static str) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NoSuchInterface { name: self.name.clone() }
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::NoAnswer { doing },
            _ => os_error(error, doing),
        }
    }

    /// Makes the peer `key` what it is in `after`, if that is another than in `before`.
    fn replace_peer(&self, key: &PublicKey, before: &Peers, after: &Peers) -> Result<bool, Error> {
        let (old, new) = (before.get(key), after.get(key));
        if let (Some(old), Some(new)) = (old, new)
            && old.life == new.life
            && crate::diff::is_same(&old.peer.config, &new.peer.config)
        {
            return Ok(false);
        }
        if old.is_some() {
            self.set(&uapi::remove_peer(key), "remove a peer")?;
        }
        if let Some(new) = new {
            self.set(&uapi::add_peer(&new.peer.config), "add a peer")?;
        }
        Ok(old.is_some() || new.is_some())
    }

    fn check_port(&self, state: &mut State, config: &mut InterfaceConfig) -> Result<(), Error> {
        let Some(port) = config.listen_port else { return Ok(()) };
        if port != 0 && self.read(state)?.listen_port == port {
            // Listening anew would cut every peer.
            config.listen_port = None;
            return Ok(());
        }
        // A port that it cannot have would leave it without any and make it crash.
        match UdpSocket::bind((core::net::Ipv4Addr::UNSPECIFIED, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::PortInUse { port })
            }
            Err(error) => Err(os_error(&error, "listen on the port")),
            Ok(_) => Ok(()),
        }
    }
}

impl WireGuard for UserspaceInterface {
    fn name(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> Backend {
        Backend::Userspace
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        let mut state = self.state()?;
        let mut config = config.clone();
        self.check_port(&mut state, &mut config)?;
        self.set(&uapi::configure(&config), "configure the interface")?;
        if let Some(key) = &config.private_key {
            state.has_key = true;
            self.set(&uapi::remove_peer(&key.public_key()), "remove a peer")?;
        }
        Ok(())
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.links.set_addresses(&self.name, addresses)
    }

    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        self.links.set_up(&self.name, mtu)
    }

    fn set_routes(&self, routes: &[IpNet]) -> Result<(), Error> {
        let mark = match self.interface()?.fwmark {
            Some(mark) => mark.get(),
            None => self.links.choose_mark(&self.name)?,
        };
        if routes.iter().any(|net| net.prefix_len() == 0) {
            self.configure(&InterfaceConfig { fwmark: Some(mark), ..Default::default() })?;
        }
        self.links.set_routes(&self.name, routes, mark)
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        let total = updates.len();
        let stopped = |error| ApplyError::stopped(total, 0, error);
        let mut state = self.state().map_err(stopped)?;
        let interface = self.read(&mut state).map_err(stopped)?;
        let before = Peers::of(interface.public_key, interface.peers);
        let mut after = before.clone();
        for update in updates {
            after.apply(update);
        }
        // A peer may also lose an allowed IP to another one.
        let mut failed = BTreeMap::new();
        let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for key in keys {
            match self.replace_peer(key, &before, &after) {
                Ok(false) => {}
                Ok(true) => {
                    state.handshakes.remove(key);
                }
                Err(error) => {
                    failed.insert(*key, error);
                }
            }
        }
        let refused = updates.iter().enumerate().filter_map(|(index, update)| {
            let public_key = *update.public_key();
            failed.get(&public_key).map(|error| Refused { index, public_key, error: error.clone() })
        });
        ApplyError::check(total, refused.collect(), None)
    }

    fn interface(&self) -> Result<Interface, Error> {
        let mut state = self.state()?;
        self.read(&mut state)
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        self.interface()?.peers.iter().for_each(|peer| visit(&peer.stats));
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        let Ok(mut state) = self.state() else { return Ok(()) };
        if let Some(mark) = self.read(&mut state).ok().and_then(|interface| interface.fwmark) {
            self.links.remove_all_rules(mark.get())?;
        }
        state.watch = None;
        state.device = None;
        drop(state);
        self.links.delete(&self.name)
    }
}

impl State {
    /// Holds the handshake times still: they are reckoned back from now at each reading, and are
    /// told as never once the session's keys are too old.
    fn steady_handshakes(&mut self, peers: &mut [Peer]) {
        for peer in peers {
            let key = peer.config.public_key;
            let known = self.handshakes.get(&key).copied();
            let told = peer.stats.last_handshake;
            let time = match (known, told) {
                (Some(known), Some(told)) if is_close(known, told) => known,
                (_, Some(told)) => told,
                (Some(known), None) => known,
                (None, None) => continue,
            };
            self.handshakes.insert(key, time);
            peer.stats.last_handshake = Some(time);
        }
    }
}

impl fmt::Debug for UserspaceInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserspaceInterface").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Handshakes of one peer are at least [`REKEY_TIMEOUT`] apart.
fn is_close(one: SystemTime, other: SystemTime) -> bool {
    let apart = one.duration_since(other).or_else(|_| other.duration_since(one));
    apart.is_ok_and(|apart| apart < REKEY_TIMEOUT / 2)
}

fn socket_path(name: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{name}.sock"))
}

/// Starts the threads. On a thread of its own, because the one that does it has SIGINT and SIGTERM
/// blocked from then on, and its children with it; the process's other threads still get them.
fn start(name: &str) -> Result<WGApi<Userspace>, Error> {
    const DOING: &str = "start";
    let failed = |said: String| Error::Userspace { doing: DOING, said };
    if fs::metadata("/dev/net/tun").is_err() {
        return Err(failed("there is no /dev/net/tun; load the module tun".to_owned()));
    }
    // Left to itself, boringtun makes a directory that everyone may enter.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(SOCKETS);
    made.map_err(|error| os_error(&error, "make /var/run/wireguard"))?;
    let owned = name.to_owned();
    let starting = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut device = WGApi::<Userspace>::new(owned)?;
        device.create_interface()?;
        Ok::<_, defguard_wireguard_rs::error::WireguardInterfaceError>(device)
    });
    let starting = starting.map_err(|error| os_error(&error, DOING))?;
    let started = starting.join().map_err(|_| failed("it crashed".to_owned()))?;
    started.map_err(|error| failed(error.to_string()))
}

/// A key that is used until another is configured. Nobody knows it, and nothing depends on it.
fn throwaway_key() -> Result<PrivateKey, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(bytes.as_mut_slice()))
        .map_err(|error| os_error(&error, "read /dev/urandom"))?;
    Ok(PrivateKey::from_bytes(*bytes))
}
