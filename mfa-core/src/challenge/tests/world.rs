//! A user with all factors, before one challenge.

use super::super::*;
use crate::factor::email_code::EmailCode;
use crate::factor::recovery::RecoveryCode;
use crate::factor::totp::{TotpSecret, TotpStep};
use crate::factor::{CodeDigest, CodeKey};
use crate::id::{DeviceId, LocationId, UserId};
use crate::method::MethodSet;
use crate::policy::LocationPolicy;

/// 2023-11-14, at the beginning of a TOTP step.
const START: u64 = 1_699_999_980;

pub(super) const ALICE: Subject =
    Subject { user: UserId::new(1), device: DeviceId::new(10), location: LocationId::new(100) };

/// A user with an app, a mailbox and a sheet of recovery codes, before one challenge.
pub(super) struct World {
    pub(super) challenge: Challenge,
    pub(super) budget: GuessBudget,
    pub(super) now: Timestamp,
    pub(super) subject: Subject,
    pub(super) access: Access,
    pub(super) policy: LocationPolicy,
    pub(super) enabled: MethodSet,
    pub(super) totp: Option<TotpSecret>,
    pub(super) last_step: Option<TotpStep>,
    pub(super) recovery: Vec<CodeDigest>,
}

impl World {
    pub(super) fn new(method: Method) -> Self {
        let token = TokenDigest::from_bytes([1; 32]);
        let question = match method {
            Method::Totp => Question::Totp,
            Method::Email => Question::Email(mailed_code().digest(&key(), &token)),
        };
        let policy = LocationPolicy::recommended();
        let standing =
            Standing { access: Access::Granted, policy: &policy, enabled: MethodSet::ALL };
        let challenge =
            Challenge::start(token, ALICE, Lane::Proven, question, &standing, at(0)).unwrap();
        let digest = |number| recovery_code(number).digest(&key(), ALICE.user);
        Self {
            budget: GuessBudget::new(challenge.guess_key()),
            challenge,
            now: at(0),
            subject: ALICE,
            access: Access::Granted,
            policy,
            enabled: MethodSet::ALL,
            totp: Some(totp_secret()),
            last_step: None,
            recovery: (0..10).map(digest).collect(),
        }
    }

    pub(super) fn right(&self) -> Answer {
        match self.challenge.method() {
            Method::Totp => Answer::Totp(totp_secret().code_at(self.now)),
            Method::Email => Answer::Email(mailed_code()),
        }
    }

    pub(super) fn wrong(&self) -> Answer {
        match self.challenge.method() {
            Method::Totp => Answer::Recovery(RecoveryCode::sheet(&[0xff; 100])[0].clone()),
            Method::Email => Answer::Email(EmailCode::parse("00000000").unwrap()),
        }
    }

    pub(super) fn count(&mut self, answer: Answer) -> Result<Attempt, TryRefused> {
        self.challenge.count_try(answer, &mut self.budget, self.now)
    }

    pub(super) fn verify(&mut self, attempt: &Attempt) -> Result<Verified, Refused> {
        let key = key();
        let secret = self.totp.clone();
        let totp = secret.as_ref();
        let totp = totp.map(|secret| TotpEvidence { secret, last_step: self.last_step });
        let evidence = Evidence { key: &key, totp, recovery: &self.recovery };
        let policy = self.policy;
        let standing = Standing { access: self.access, policy: &policy, enabled: self.enabled };
        self.challenge.verify(attempt, &self.subject, &evidence, &standing, self.now)
    }

    /// Counts and looks, as a flow does.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<Verified, Refused> {
        match self.count(answer) {
            Ok(attempt) => self.verify(&attempt),
            Err(TryRefused::NotOpen(why)) => Err(why.into()),
            Err(why) => panic!("{why}"),
        }
    }

    pub(super) fn standing(&self) -> Standing<'_> {
        Standing { access: self.access, policy: &self.policy, enabled: self.enabled }
    }
}

pub(super) fn wrong(tries_left: u8) -> Refused {
    Refused::Wrong { tries_left }
}

pub(super) fn totp_secret() -> TotpSecret {
    TotpSecret::from_bytes(*b"12345678901234567890")
}

pub(super) fn mailed_code() -> EmailCode {
    EmailCode::parse("31415926").unwrap()
}

pub(super) fn recovery_code(number: usize) -> RecoveryCode {
    let mut random = [0; 100];
    for (byte, value) in random.iter_mut().zip(0..) {
        *byte = value;
    }
    RecoveryCode::sheet(&random)[number].clone()
}

pub(super) fn key() -> CodeKey {
    CodeKey::from_bytes([0x42; 32])
}

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_millis((START + secs) * 1000)
}
