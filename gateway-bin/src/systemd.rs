//! What systemd is told: ready, alive, how it goes. Without systemd nobody is.

use core::time::Duration;

use sd_notify::NotifyState;

/// Says that the gateway runs. Core may be away still: that is not for a service manager to mend.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the gateway ends on purpose.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says in a line how it goes.
pub(crate) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Says that the task that has the kernel still turns.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is due: twice as often as systemd asks for it.
#[must_use]
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
