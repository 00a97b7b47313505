//! The whole gateway: its tasks, and how they end.
//!
//! | task | what it does | may be cancelled because |
//! |---|---|---|
//! | [`kernel`](crate::kernel) | has the interface | between two calls the kernel stands as it is |
//! | [`control`](crate::control) | has the line to core | the next stream starts from a snapshot |
//! | [`status`](crate::status) | answers `gateway-bin status` | who asks can ask again |
//!
//! If one ends by itself the process ends: half a gateway helps nobody, and a service manager
//! starts a whole one. The kernel keeps its peers meanwhile.

use core::fmt;
use core::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use wg_netlink::{Backend, Error, WireGuard};

use crate::config::Config;
use crate::control::{Link, LinkState, LinkStatus};
use crate::identity::{Identity, IdentityError};
use crate::kernel::{COMMANDS, Kernel, Progress, Reopen};
use crate::lease::{Gate, Lease};
use crate::program::Program;
use crate::status::{Server, StatusError};
use crate::{clock, rng, systemd};

/// Reports wait here only while the line's task is at something else.
const REPORTS: usize = 16;

/// A gateway that has not begun.
pub struct Gateway {
    config: Config,
    wireguard: Box<dyn WireGuard>,
    gate: Option<Box<dyn Gate>>,
    reopen: Option<Reopen>,
}

/// Why a gateway ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has no usable key or certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process runs this gateway, or the status socket cannot be made.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A task panicked.
    #[error("a part of the gateway failed: {0}")]
    Panicked(#[from] JoinError),
    /// A task ended that never should.
    #[error("a part of the gateway ended unasked")]
    Ended,
}

impl Gateway {
    /// Takes charge of an interface.
    #[must_use]
    pub fn new(config: Config, wireguard: Box<dyn WireGuard>) -> Self {
        Self { config, wireguard, gate: None, reopen: None }
    }

    /// Lets the kernel hold traffic of peers with sessions back unless core's word is fresh. Without
    /// this, or where the kernel has no nftables, peers stay open while core is away.
    #[must_use]
    pub fn gate_with(mut self, gate: impl Gate + 'static) -> Self {
        self.gate = Some(Box::new(gate));
        self
    }

    /// Says how to make the interface anew should someone delete it. Without this a deleted
    /// interface stays an error until the process is started again.
    #[must_use]
    pub fn reopen_with(
        mut self,
        reopen: impl Fn() -> Result<Box<dyn WireGuard>, Error> + Send + 'static,
    ) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// Runs a gateway until `shutdown`: [`new`](Self::new) and [`serve`](Self::serve) in one.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub async fn run(
        config: Config,
        wireguard: Box<dyn WireGuard>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        Self::new(config, wireguard).serve(shutdown).await
    }

    /// Runs until `shutdown`. The interface with its peers is left as it is then, so that another
    /// process can go on with it.
    ///
    /// # Errors
    ///
    /// [`RunError`] if the gateway cannot begin or a part of it fails. Core being away is no error.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, wireguard, gate, reopen } = self;
        let identity = Identity::load(&config.dir)?;
        let config = Arc::new(config);
        let backend = wireguard.backend();
        tracing::info!(
            interface = wireguard.name(), %backend, core = %config.core, "the gateway starts"
        );

        let (commands, to_kernel) = mpsc::channel(COMMANDS);
        let (reports, to_core) = mpsc::channel(REPORTS);
        let (progress, progress_seen) = watch::channel(Progress::default());
        let (link, link_seen) = watch::channel(LinkStatus {
            state: LinkState::Connecting,
            since: clock::wall(),
            last_heard: None,
            error: None,
            certificate_ends: Some(identity.not_after()),
        });
        let server =
            Server::bind(&config, backend, commands.clone(), progress_seen.clone(), link_seen)
                .await?;
        let kernel = Kernel {
            program: Program::new(wireguard, Lease::new(gate, config.lease, config.without_gate)),
            reopen,
            statistics_period: config.statistics_period,
            commands: to_kernel,
            reports,
            progress,
        };
        let link = Link {
            config,
            backend: backend.to_string(),
            process_id: rng::process_id(),
            commands,
            reports: to_core,
            progress: progress_seen,
            status: link,
        };

        // Dropping the set at the end cancels what still runs.
        let mut tasks = JoinSet::new();
        tasks.spawn(kernel.run());
        tasks.spawn(async move {
            link.run().await;
            Ok(())
        });
        tasks.spawn(async move {
            server.run().await;
            Ok(())
        });
        systemd::ready();
        tokio::select! {
            () = shutdown => {
                systemd::stopping();
                let left = match backend {
                    Backend::Userspace => "its tunnels end with it",
                    Backend::Kernel | Backend::Fake => "the interface keeps its peers",
                };
                tracing::info!("the gateway stops; {left}");
                Ok(())
            }
            ended = tasks.join_next() => {
                if let Some(ended) = ended {
                    ended??;
                }
                Err(RunError::Ended)
            }
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config).finish_non_exhaustive()
    }
}
