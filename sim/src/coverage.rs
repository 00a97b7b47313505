//! Counts what a run reached, so that the generator cannot rot unnoticed.

macro_rules! covers {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// Something that must be reached.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(usize)]
        pub enum Cover { $($(#[doc = $doc])* $name,)+ }

        impl Cover {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

covers! {
    /// A challenge was started by the device.
    StartedProven,
    /// A challenge was started by a stranger.
    StartedStranger,
    /// A code was mailed.
    Mailed,
    /// A start was refused: no guesses left.
    StartOutOfGuesses,
    /// A start was refused: too many mails.
    StartOutOfMails,
    /// A try was counted.
    Counted,
    /// A count was lost with its commit.
    CountAborted,
    /// A try was refused: the challenge had expired.
    TryExpired,
    /// A try was refused: five codes were wrong.
    TryExhausted,
    /// A try was refused: the challenge was used.
    TryUsed,
    /// A try was refused: too many wrong codes in 15 min.
    TryOutOfGuesses,
    /// A code was wrong.
    Wrong,
    /// A right code was used before.
    Replayed,
    /// A request lost against another one with the same challenge.
    Spent,
    /// A code came too late for somebody who may not any more.
    NotAdmitted,
    /// A login by app.
    LoginTotp,
    /// A login by mail.
    LoginEmail,
    /// A login by recovery code.
    LoginRecovery,
    /// A login replaced an older session.
    LoginReplaced,
    /// A session's commit was aborted.
    LoginAborted,
    /// A session's commit happened and core did not learn it.
    LoginUnknown,
    /// A login's answer reached the client.
    Answered,
    /// A request died with its core.
    RequestDied,
    /// A renewal.
    Renewed,
    /// A renewal of a session that is over, or another device's.
    RenewRefused,
    /// A next key was staged.
    KeyStaged,
    /// A client fetched it.
    KeyFetched,
    /// A client set it.
    KeySet,
    /// A client went back to the key before.
    KeyBack,
    /// What a client had said arrived late.
    SaidLate,
    /// A next key was promoted.
    KeyPromoted,
    /// A gateway set a key in place.
    SetInPlace,
    /// A session ended because its client took no key.
    EndedRotationFailed,
    /// A session ended as idle.
    EndedIdle,
    /// A session ended for its age.
    EndedLifetime,
    /// A session was ended by its device.
    EndedDisconnected,
    /// A session was ended by an administrator.
    EndedByAdministrator,
    /// A session ended with its device.
    EndedDeviceRemoved,
    /// A session ended with its user.
    EndedUserDisabled,
    /// A session ended with its user's groups.
    EndedAccess,
    /// A session ended with its method.
    EndedMethodReset,
    /// An address was given to another device.
    AddressGivenAgain,
    /// A gateway took a snapshot.
    TookSnapshot,
    /// A gateway took a change.
    TookChange,
    /// A gateway acknowledged.
    Acknowledged,
    /// A gateway failed and said so.
    AckedError,
    /// A lease was renewed.
    Confirmed,
    /// A gate was shut by time with peers behind it.
    GateShut,
    /// A gateway could not set its kernel.
    KernelFailed,
    /// A stranger was removed.
    StrangerRemoved,
    /// A peer was set right.
    PeerHealed,
    /// A handshake.
    Handshake,
    /// User data passed.
    DataPassed,
    /// User data was held back by the gate.
    DataHeld,
    /// A report told of activity.
    ReportActive,
    /// A forged report was heard.
    ReportForged,
    /// A gateway redialled another core.
    DialledOther,
    /// A core could not read its database.
    DatabaseAway,
    /// A core took over sessions of before.
    TookOver,
    /// A gateway's process took over peers of before.
    Adopted,
    /// A host booted with peers.
    Rebooted,
    /// All was well after faults had stopped.
    Converged,
}

/// How often each was reached.
#[derive(Clone, Debug)]
pub struct Coverage(pub [u64; Cover::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Cover::ALL.len()])
    }
}

impl Coverage {
    /// Counts one.
    pub const fn hit(&mut self, cover: Cover) {
        #[expect(clippy::as_conversions, reason = "a place in an array of all")]
        let at = cover as usize;
        self.0[at] += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// What was never reached.
    #[must_use]
    pub fn missing(&self) -> Vec<Cover> {
        Cover::ALL.iter().copied().zip(self.0).filter(|(_, n)| *n == 0).map(|(c, _)| c).collect()
    }
}
