//! The same calls for an async program, on tokio's blocking threads.
//!
//! Most calls take microseconds, but one with 100,000 peers would hold up its thread for a tenth of
//! a second. A call that was begun is carried out also if its future is dropped.

use std::sync::Arc;

use ipnet::IpNet;
use tokio::task::{JoinError, spawn_blocking};
use wg_types::{Interface, InterfaceConfig, PeerConfig, PeerStats, PeerUpdate, PublicKey};

use crate::{ApplyError, Backend, Error, SetPeersError, Want, WireGuard};

/// An interface whose calls are awaited. Clones are handles of the same.
///
/// ```
/// use wg_netlink::asynchronous::AsyncWireGuard;
/// # use wg_types::{PeerUpdate, PublicKey};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # let wg0 = wg_netlink::fake::FakeKernel::new().interface("wg0");
/// # let alice = PublicKey::from_bytes([1; 32]);
/// # runtime.block_on(async {
/// let wg0 = AsyncWireGuard::new(wg0); // or AsyncWireGuard::open("wg0", Want::Auto).await?
/// wg0.apply(vec![PeerUpdate::lock(alice)]).await?;
/// for peer in wg0.stats().await? {
///     println!("{}: {} bytes received", peer.public_key, peer.rx_bytes);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsyncWireGuard(Arc<dyn WireGuard>);

impl AsyncWireGuard {
    /// Wraps an interface that is open.
    pub fn new(interface: impl WireGuard + 'static) -> Self {
        Self(Arc::new(interface))
    }

    /// Finds or creates an interface, as [`crate::open`] does.
    ///
    /// # Errors
    ///
    /// Those of [`crate::open`].
    pub async fn open(name: &str, want: Want) -> Result<Self, Error> {
        let name = name.to_owned();
        let opened = spawn_blocking(move || crate::open(&name, want)).await;
        let interface = opened.unwrap_or_else(|error| Err(unfinished(error)))?;
        Ok(Self(Arc::from(interface)))
    }

    /// The interface itself, for calls that block.
    #[must_use]
    pub fn blocking(&self) -> &Arc<dyn WireGuard> {
        &self.0
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Where its packets are encrypted.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend()
    }

    /// Sets the interface's key, port and mark; see [`WireGuard::configure`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::configure`].
    pub async fn configure(&self, config: InterfaceConfig) -> Result<(), Error> {
        self.call(move |wg| wg.configure(&config)).await
    }

    /// Makes these its addresses; see [`WireGuard::set_addresses`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::set_addresses`].
    pub async fn set_addresses(&self, addresses: Vec<IpNet>) -> Result<(), Error> {
        self.call(move |wg| wg.set_addresses(&addresses)).await
    }

    /// Brings it up; see [`WireGuard::set_up`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::set_up`].
    pub async fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        self.call(move |wg| wg.set_up(mtu)).await
    }

    /// Makes these the routes into it; see [`WireGuard::set_routes`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::set_routes`].
    pub async fn set_routes(&self, routes: Vec<IpNet>) -> Result<(), Error> {
        self.call(move |wg| wg.set_routes(&routes)).await
    }

    /// Applies updates in order; see [`WireGuard::apply`].
    ///
    /// # Errors
    ///
    /// [`ApplyError`] says of each update what became of it.
    pub async fn apply(&self, updates: Vec<PeerUpdate>) -> Result<(), ApplyError> {
        let wg = Arc::clone(&self.0);
        let total = updates.len();
        let done = spawn_blocking(move || wg.apply(&updates)).await;
        done.unwrap_or_else(|error| Err(ApplyError::stopped(total, 0, unfinished(error))))
    }

    /// Makes these its peers, and keeps the sessions of those that stay; see
    /// [`WireGuard::set_peers`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::set_peers`].
    pub async fn set_peers(&self, peers: Vec<PeerConfig>) -> Result<(), SetPeersError> {
        let wg = Arc::clone(&self.0);
        let done = spawn_blocking(move || wg.set_peers(&peers)).await;
        done.unwrap_or_else(|error| Err(unfinished(error).into()))
    }

    /// Removes all peers, then lets these in; see [`WireGuard::replace_peers`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::replace_peers`].
    pub async fn replace_peers(&self, peers: Vec<PeerConfig>) -> Result<(), ApplyError> {
        let wg = Arc::clone(&self.0);
        let total = peers.len();
        let done = spawn_blocking(move || wg.replace_peers(&peers)).await;
        done.unwrap_or_else(|error| Err(ApplyError::stopped(total, 0, unfinished(error))))
    }

    /// Reads everything but the private key; see [`WireGuard::interface`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::interface`].
    pub async fn interface(&self) -> Result<Interface, Error> {
        self.call(|wg| wg.interface()).await
    }

    /// Reads the statistics of all peers; see [`WireGuard::stats`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::stats`].
    pub async fn stats(&self) -> Result<Vec<PeerStats>, Error> {
        self.call(|wg| wg.all_stats()).await
    }

    /// Tells which of these peers are not there; see [`WireGuard::missing`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::missing`].
    pub async fn missing(&self, of: Vec<PublicKey>) -> Result<Vec<PublicKey>, Error> {
        self.call(move |wg| wg.missing(&of)).await
    }

    /// Deletes the interface; see [`WireGuard::remove`].
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::remove`].
    pub async fn remove(&self) -> Result<(), Error> {
        self.call(|wg| wg.remove()).await
    }

    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn WireGuard) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let wg = Arc::clone(&self.0);
        spawn_blocking(move || act(&*wg)).await.unwrap_or_else(|error| Err(unfinished(error)))
    }
}

/// The runtime ended before the call began. A panic goes on in the caller.
fn unfinished(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::NoAnswer { doing: "run while the async runtime was ending" },
    }
}

#[cfg(test)]
mod tests {
    use wg_types::{PeerConfig, PresharedKey};

    use super::*;
    use crate::fake::FakeKernel;

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);

    #[test]
    fn calls_can_be_awaited_on_any_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fake = FakeKernel::new().interface("wg0");
        let wg0 = AsyncWireGuard::new(fake.clone());
        runtime.block_on(async {
            let psk = PresharedKey::from_bytes([7; 32]);
            let put = PeerUpdate::Put(PeerConfig::new(ALICE));
            wg0.apply(vec![put, PeerUpdate::set_psk(ALICE, psk)]).await.unwrap();
            assert_eq!(wg0.stats().await.unwrap().len(), 1);
            assert!(wg0.missing(vec![ALICE]).await.unwrap().is_empty());
            wg0.set_peers(vec![PeerConfig::new(ALICE)]).await.unwrap();
            wg0.replace_peers(vec![PeerConfig::new(ALICE)]).await.unwrap();
            assert_eq!(wg0.interface().await.unwrap().peers.len(), 1);
            fake.fail_next(Error::Busy);
            assert_eq!(wg0.interface().await.unwrap_err(), Error::Busy);
            wg0.remove().await.unwrap();
        });
        assert!(fake.psk(&ALICE).is_none());
    }
}
