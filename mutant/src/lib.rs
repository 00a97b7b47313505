//! Seeded bugs: what the simulator must notice.
//!
//! Code asks [`on`] at the place where a bug would be. Without the feature `armed`, which only the
//! simulator turns on, the answer is the constant `false`, and the compiler leaves the bug out;
//! `cargo xtask arrows` sees to it that no shipped program has the feature.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)+) => {
        /// A seeded bug.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Mutant {
            $($(#[doc = $doc])* $name,)+
        }

        impl Mutant {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name on the command line.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What it is, in a sentence.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*),)+ }
            }
        }
    };
}

mutants! {
    /// The last TOTP step is read before the transaction and written without comparing.
    NoCas = "no_cas";
    /// The challenge is taken from memory, and not spent by compare-and-set.
    ChallengeReuse = "chal_reuse";
    /// Gateways are told before the commit.
    ToldBeforeCommit = "ev_before_commit";
    /// Changes between a snapshot and the subscription to changes are missed.
    SubscribedLate = "sub_after_snap";
    /// The kernel is not looked at, and its errors are only logged.
    Cached = "cached";
    /// Nothing holds traffic back when core is away.
    NoLease = "no_lease";
    /// The gateway's process holds the lease, and not the kernel.
    ProcessLease = "proc_lease";
    /// What a gateway told one core counts again at the next one.
    CountedTwice = "counted_twice";
    /// A new challenge brings new guesses.
    PerChallengeOnly = "per_chal_only";
    /// A refused login takes its counted try back.
    RolledBackCounter = "rollback_ctr";
    /// Whether a handshake is another one is told by whether bytes were counted since.
    UnmarkedHandshake = "unmarked_hs";
    /// A gateway's word on when it heard a peer is taken as a time.
    FutureHandshake = "future_hs";
    /// A new session's pre-shared key is put in the place of the old one's.
    PskInPlace = "psk_in_place";
    /// A core serves gateways from what it read some time ago.
    StaleCore = "stale_core";
    /// The lease is counted from when the answer came.
    LeaseFromReceipt = "lease_recv";
    /// A session of which no statistics are stored is never idle.
    PurgedIsActive = "purge_null";
    /// User, device and location are read before the transaction.
    UserSnapshot = "snap_user";
    /// A report that comes after the deadline revives a session.
    LateRevival = "late_revive";
    /// An address is given away at once.
    AddressReuse = "ip_reuse";
    /// A code of two steps ago, or ahead, is taken.
    WideWindow = "wide_window";
    /// One challenge looks at any number of codes.
    EndlessTries = "endless_tries";
    /// Strangers and the device share one budget.
    SharedLane = "shared_lane";
    /// A right code forgets every wrong one.
    SuccessForgets = "success_forgets";
    /// A challenge is good for ever.
    NoExpiry = "no_expiry";
    /// An ended session's gateways are not told.
    EndUntold = "end_untold";
    /// A new session leaves the device's old one alive.
    NotReplaced = "not_replaced";
    /// A device's sessions share one pre-shared key.
    SamePsk = "same_psk";
    /// The client is answered before the commit.
    AnsweredBeforeCommit = "ack_before_commit";
    /// The audit row is written in a transaction of its own.
    AuditApart = "audit_apart";
    /// No session ends for its age.
    NoLifetime = "no_lifetime";
    /// Peers enter before there is a gate.
    NoGateAtStart = "no_gate_at_start";
    /// Peers that the process did not put there are left alone.
    StrangersStay = "strangers_stay";
    /// What changed in the kernel is not set right.
    NoHealing = "no_healing";
    /// Core answers for its state although it cannot read it.
    BlindHeartbeat = "blind_heartbeat";
    /// The lease is renewed while a peer is in the kernel that must leave.
    RenewedBehind = "renewed_behind";
    /// Keepalives and handshakes count as activity.
    AnyBytes = "any_bytes";
    /// The first report after a restart counts as activity.
    RestartIsActive = "restart_is_active";
    /// A disabled user's sessions live on.
    DisabledLives = "disabled_lives";
    /// The try is counted after the code was looked at.
    CountedAfter = "counted_after";
    /// The code that confirms an authenticator app can be used again.
    ConfirmUnburned = "confirm_unburned";
    /// Each renewal of the lease is a whole one.
    WholeLease = "whole_lease";
    /// A proof of one subject extends another's session.
    ForeignRenewal = "foreign_renewal";
    /// A renewal adds a lifetime to what is left.
    RenewalAdds = "renewal_adds";
    /// A recovery code that was used is taken again.
    RecoveryAgain = "recovery_again";
    /// Mails are not counted.
    EndlessMails = "endless_mails";
    /// A stranger's challenge makes those of the device room.
    StrangerEvicts = "stranger_evicts";
    /// A device has any number of open challenges.
    EndlessChallenges = "endless_challenges";
    /// Gateways are given the next key before the client has it.
    StagedIsGiven = "staged_given";
    /// A key is promoted that no handshake proved.
    PromotedUnproven = "promoted_unproven";
    /// A key is promoted that a connected gateway lacks.
    PromotedBehind = "promoted_behind";
    /// Keys are rotated while a gateway has just left.
    HastyRotation = "hasty_rotation";
    /// What a client says late leads a rotation back.
    WordsLeadBack = "words_lead_back";
    /// A client that takes no key is waited for for ever.
    NeverGivenUp = "never_given_up";
    /// A client that has the new key is given up like one that has not.
    GivenUpAnyway = "given_up_anyway";
    /// A rotated key is put in as a new session's is.
    RotatedAnew = "rotated_anew";
    /// A gateway that has just started does not know the key before.
    NoPrevious = "no_previous";
    /// Gateways are told of a key as the one before while it is the one in force.
    PreviousEarly = "previous_early";
    /// The next key of an ended session stays where it is.
    KeyOutlives = "key_outlives";
    /// The client forgets the key before as soon as it has another.
    ClientForgets = "client_forgets";
    /// The client that went back to the key before forgets the newer one for the next.
    ForgetsNewer = "forgets_newer";
    /// The client says that a handshake was made with a key once it is set.
    ProvenBySetting = "proven_by_setting";
}

impl core::fmt::Display for Mutant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.code())
    }
}

impl core::str::FromStr for Mutant {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.iter().copied().find(|mutant| mutant.code() == text).ok_or(Unknown)
    }
}

/// No mutant has this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unknown;

impl core::fmt::Display for Unknown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no mutant has this name")
    }
}

impl core::error::Error for Unknown {}

#[cfg(feature = "armed")]
mod armed {
    use core::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ARMED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Switches one bug on in this thread, or all off.
    pub fn arm(mutant: Option<Mutant>) {
        ARMED.set(mutant);
    }

    /// Whether this bug is on in this thread.
    #[must_use]
    pub fn on(mutant: Mutant) -> bool {
        ARMED.get() == Some(mutant)
    }
}

#[cfg(feature = "armed")]
pub use armed::{arm, on};

/// Whether this bug is on: never, without the feature `armed`.
#[cfg(not(feature = "armed"))]
#[must_use]
#[inline]
pub const fn on(_mutant: Mutant) -> bool {
    false
}
