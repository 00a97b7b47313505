//! Sentences that a page says after something was done. An address names one by its key, so no
//! address can put words into a page.

use mfa_core::connect::EndReason;

const SAID: [(&str, &str); 34] = [
    ("saved", "The changes are saved."),
    ("ended", "Disconnected: every connected gateway confirmed that the peer is gone."),
    (
        "ending",
        "The session has ended. A gateway has not confirmed yet; its lease bounds how long.",
    ),
    ("sessions-ended", "All sessions of this user have ended."),
    ("gone", "That session had ended already."),
    ("added", "Added."),
    ("removed", "Removed."),
    ("disabled", "Shut out; all sessions of this user have ended."),
    ("enabled", "Let in again."),
    ("unlocked", "Wrong codes are forgotten, and what they locked is open again."),
    ("reset-method", "The method is taken away, and the sessions that it bought have ended."),
    ("groups", "The groups are set."),
    ("mail", "The test mail is on its way. If it does not arrive, core's log says why."),
    ("password", "The password is changed. Other browsers are signed out."),
    ("reset", "The new password is set. Sign in with it."),
    ("email", "The address is changed. Set up e-mail codes anew if you use them."),
    ("method-removed", "The method is removed."),
    ("method-added", "The method is set up."),
    (
        "passkey-added",
        "The passkey is added. From now on it can stand in for a code when you sign in here.",
    ),
    ("passkey-removed", "The passkey is removed."),
    ("reset-passkeys", "The passkeys are taken away."),
    ("mail-removed", "The mail settings are removed; what core.toml says is in force."),
    ("signed-out", "You are signed out."),
    ("others", "All other browsers are signed out."),
    ("sent", "If there is such an account, a mail with a link is on its way."),
    ("location-removed", "The location is removed with its gateways and sessions."),
    ("renamed", "The group has its new name."),
    ("group-removed", "The group is removed. Who was in it keeps every access."),
    ("put-in", "The group has its new members."),
    ("taken-out", "Taken out of the group."),
    ("token-removed", "The token is removed: it is worth nothing from now on."),
    ("imported", "The location is imported with its devices. It needs a gateway now."),
    (
        "many-ended",
        "The sessions have ended. Gateways drop the peers at once, or when they come back.",
    ),
    ("code-sent", "A code is on its way to your mailbox."),
];

/// Returns the sentence of a key; empty for a key that is none.
pub(super) fn said(key: &str) -> &'static str {
    SAID.iter().find(|(one, _)| *one == key).map_or("", |(_, words)| words)
}

/// Says in a few words why a session ended.
pub(super) const fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Idle => "idle",
        EndReason::Lifetime => "lifetime over",
        EndReason::Disconnected => "by the user",
        EndReason::Administrator => "by an administrator",
        EndReason::UserDisabled => "user shut out",
        EndReason::DeviceRemoved => "device removed",
        EndReason::AccessRemoved => "access taken away",
        EndReason::Replaced => "connected again",
        EndReason::PolicyChanged => "settings changed",
        EndReason::MethodReset => "method changed",
        EndReason::LocationRemoved => "location removed",
        EndReason::LinkLost => "link lost",
        EndReason::RotationFailed => "took no new key",
    }
}
