//! `serve`: run the server until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context as _;
use mfa_store::Snapshot;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::Globals;
use crate::admin::Answer;
use crate::clock::Clock;
use crate::config::show;
use crate::log;
use crate::rng::Rng;
use crate::serve::{Core, Setup};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "SIGTERM and SIGINT stop it cleanly. Under systemd use Type=notify.\n\n\
    Examples:\n  core-bin serve\n  core-bin serve --log-level debug\n  \
    WGMFA_PUBLIC__LISTEN='[::]:443' core-bin serve")]
pub(super) struct Args {
    /// Overrides public.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Overrides public.url
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Overrides gateways.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateways_listen: Option<SocketAddr>,
    /// Overrides log.level
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) async fn run(globals: &Globals, args: Args) -> anyhow::Result<Answer> {
    let mut config = globals.load()?;
    if let Some(listen) = args.listen {
        config.public.listen = listen;
    }
    if let Some(url) = args.url {
        config.public.url = Some(url);
    }
    if let Some(listen) = args.gateways_listen {
        config.gateways.listen = listen;
    }
    if let Some(level) = args.log_level {
        config.log.level = level;
    }
    log::start(&config.log)?;
    tracing::debug!("configuration in force:\n{}", show(&config));
    let dir = globals.dir();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;

    let url = config.public_url();
    let mail = if config.smtp.is_some() { "on" } else { "off (no [smtp])" };
    let setup = Setup { dir: dir.clone(), config, clock: Clock::system(), rng: Rng::system() };
    let mut core = Core::start(setup).await?;
    let users = core.app().store.read(Snapshot::users).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        dir = %dir.path().display(),
        public = %core.public_address(),
        %url,
        gateways = %core.gateways_address(),
        mail,
        "ready"
    );
    if !users.iter().any(|user| user.details.admin && user.active) {
        tracing::warn!("there is no administrator yet; `core-bin admin recover` prints a link");
    }
    notify(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog());
    let failure = tokio::select! {
        error = core.failed() => Some(error),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    core.stop().await;
    tracing::info!("stopped");
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(Answer::new(serde_json::Value::Null, "")),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Tells systemd's watchdog, if there is one, that this process still runs its tasks.
async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(limit / 3);
    loop {
        tick.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}
