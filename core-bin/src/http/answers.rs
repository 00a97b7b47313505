//! What each flow's refusals are to a client: the statuses and short texts that clients in use match
//! on, and our own code and sentence beside them.

use axum::http::StatusCode;
use mfa_core::budget::GuessRefused;
use mfa_core::challenge::{NotAdmitted, NotOpen, Refused, TryRefused};
use mfa_core::policy::MethodRefused;
use mfa_wire::http::Problem;

use super::problem::Refusal;
use crate::flows::connect::{FinishError, RenewError, StartError};
use crate::flows::disconnect::DisconnectError;
use crate::flows::enroll::EnrollError;
use crate::flows::mfa::MfaError;
use crate::flows::poll::PollError;
use crate::flows::rotate::RotateError;
use crate::flows::status::StatusError;
use crate::mail::MailError;
use crate::password::PasswordError;

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
const CONFLICT: StatusCode = StatusCode::CONFLICT;

/// The one spelling of a wrong code that every client explains correctly.
const WRONG_CODE: &str = "Unauthorized";
const NOT_AVAILABLE: &str = "selected MFA method not available";
const NOT_SUPPORTED: &str = "selected MFA method not supported by location";

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        let (status, text, code) = match &error {
            StartError::LocationNotFound => (BAD, "location not found", Problem::LocationNotFound),
            StartError::DeviceNotFound => (BAD, "device not found", Problem::DeviceNotFound),
            StartError::UserNotFound => (BAD, "user not found", Problem::UserNotFound),
            StartError::ForeignProof => (UNAUTHORIZED, "invalid proof", Problem::ProofInvalid),
            StartError::UserDisabled => (UNAUTHORIZED, "unauthorized", Problem::Disabled),
            StartError::NotPermitted => (UNAUTHORIZED, "unauthorized", Problem::NotAllowed),
            StartError::ConfigStale => {
                (CONFLICT, "configuration is out of date", Problem::ConfigStale)
            }
            StartError::MfaOff => (BAD, "MFA not enabled for location", Problem::MfaNotEnabled),
            StartError::MethodNotAllowed { .. } => (BAD, NOT_SUPPORTED, Problem::MethodNotAllowed),
            StartError::MethodNotSetUp { .. } => (BAD, NOT_AVAILABLE, Problem::MethodNotSetUp),
            StartError::MethodUnavailable { .. } => {
                (BAD, NOT_AVAILABLE, Problem::MethodUnavailable)
            }
            StartError::NoGateway { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no gateway of the location is connected",
                Problem::GatewayOffline,
            ),
            StartError::Guess(refused) => return guess(*refused),
            StartError::MailBudget(refused) => {
                let wait = refused.retry_after;
                return Self::too_many(Problem::TooManyRequests, wait, refused);
            }
            StartError::Mail(refused) => return mail(*refused),
            StartError::Throttled { retry_after } => {
                return Self::too_many(Problem::TooManyRequests, *retry_after, &error);
            }
            StartError::Store(_) => return store(error),
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<FinishError> for Refusal {
    fn from(error: FinishError) -> Self {
        let refusal = match &error {
            FinishError::Unknown => Self::new(BAD, "invalid token", Problem::ChallengeInvalid),
            FinishError::Malformed(_) => Self::new(BAD, "invalid code", Problem::CodeMalformed),
            FinishError::Try(TryRefused::Guess(refused)) => return guess(*refused),
            FinishError::Try(TryRefused::NotOpen(closed))
            | FinishError::Refused(Refused::NotOpen(closed)) => not_open(*closed),
            FinishError::Refused(Refused::NotAdmitted(refused)) => not_admitted(*refused),
            FinishError::Refused(Refused::Wrong { .. }) => {
                Self::new(UNAUTHORIZED, WRONG_CODE, Problem::CodeWrong)
            }
            FinishError::Refused(Refused::Replayed) => {
                Self::new(UNAUTHORIZED, WRONG_CODE, Problem::CodeUsed)
            }
            FinishError::Try(TryRefused::ForeignBudget)
            | FinishError::Refused(Refused::NotCounted | Refused::ForeignSubject) => {
                Self::new(BAD, "login session not found", Problem::ChallengeInvalid)
            }
            FinishError::Spent => not_open(NotOpen::Used),
            FinishError::Throttled { retry_after } => {
                return Self::too_many(Problem::TooManyRequests, *retry_after, &error);
            }
            FinishError::Store(_) => return finish_store(error),
        };
        refusal.detail(error)
    }
}

fn not_open(closed: NotOpen) -> Refusal {
    match closed {
        NotOpen::Used => Refusal::new(CONFLICT, "login session not found", Problem::ChallengeSpent),
        NotOpen::Exhausted => {
            Refusal::new(BAD, "login session not found", Problem::ChallengeInvalid)
        }
        NotOpen::Expired => Refusal::new(BAD, "invalid token", Problem::ChallengeInvalid),
    }
}

fn not_admitted(refused: NotAdmitted) -> Refusal {
    match refused {
        NotAdmitted::UserDisabled => Refusal::new(UNAUTHORIZED, "unauthorized", Problem::Disabled),
        NotAdmitted::DeviceRemoved => {
            Refusal::new(BAD, "device not found", Problem::DeviceNotFound)
        }
        NotAdmitted::NotPermitted => {
            Refusal::new(UNAUTHORIZED, "unauthorized", Problem::NotAllowed)
        }
        NotAdmitted::Method(MethodRefused::MfaOff) => {
            Refusal::new(BAD, "MFA not enabled for location", Problem::MfaNotEnabled)
        }
        NotAdmitted::Method(MethodRefused::NotAllowed) => {
            Refusal::new(BAD, NOT_SUPPORTED, Problem::MethodNotAllowed)
        }
        NotAdmitted::Method(MethodRefused::NotEnabled) => {
            Refusal::new(BAD, NOT_AVAILABLE, Problem::MethodNotSetUp)
        }
    }
}

fn guess(refused: GuessRefused) -> Refusal {
    match refused {
        GuessRefused::Exhausted { retry_after } => {
            Refusal::too_many(Problem::TooManyTries, retry_after, refused)
        }
        GuessRefused::Locked => {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "method locked", Problem::MethodLocked)
                .detail(refused)
        }
    }
}

fn mail(refused: MailError) -> Refusal {
    match refused {
        MailError::NotSetUp | MailError::ControlCharacter => {
            Refusal::new(BAD, NOT_AVAILABLE, Problem::MethodUnavailable).detail(refused)
        }
        MailError::Busy => Refusal::busy().detail(refused),
    }
}

fn store(error: StartError) -> Refusal {
    match error {
        StartError::Store(error) => error.into(),
        other => Refusal::internal(&other),
    }
}

fn finish_store(error: FinishError) -> Refusal {
    match error {
        FinishError::Store(error) => error.into(),
        other => Refusal::internal(&other),
    }
}

impl From<EnrollError> for Refusal {
    fn from(error: EnrollError) -> Self {
        let (status, text, code) = match &error {
            EnrollError::Unknown | EnrollError::Refused(_) => {
                (UNAUTHORIZED, "unauthorized", Problem::EnrollmentInvalid)
            }
            EnrollError::Disabled => (UNAUTHORIZED, "unauthorized", Problem::Disabled),
            EnrollError::Name(_) => (BAD, "invalid name", Problem::BadRequest),
            EnrollError::Key(_) => (BAD, "invalid public key", Problem::BadRequest),
            EnrollError::KeyTaken => (CONFLICT, "device already exists", Problem::DeviceExists),
            EnrollError::TooManyDevices => (CONFLICT, "too many devices", Problem::BadRequest),
            EnrollError::DeviceNotFound => (BAD, "device not found", Problem::DeviceNotFound),
            EnrollError::Password(PasswordError::Busy) => return Self::busy(),
            EnrollError::Password(_) => (BAD, "invalid password", Problem::BadRequest),
            EnrollError::Store(_) => {
                return match error {
                    EnrollError::Store(error) => error.into(),
                    other => Self::internal(&other),
                };
            }
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<MfaError> for Refusal {
    fn from(error: MfaError) -> Self {
        let (status, text, code) = match error {
            MfaError::Enroll(error) => return error.into(),
            MfaError::Guess(refused) => return guess(refused),
            MfaError::MailBudget(refused) => {
                let wait = refused.retry_after;
                return Self::too_many(Problem::TooManyRequests, wait, refused);
            }
            MfaError::Mail(refused) => return mail(refused),
            MfaError::Store(error) => return error.into(),
            MfaError::DeviceNotFound => (BAD, "device not found", Problem::DeviceNotFound),
            MfaError::Disabled => (UNAUTHORIZED, "unauthorized", Problem::Disabled),
            MfaError::CurrentRequired => {
                (UNAUTHORIZED, "current code required", Problem::CurrentCodeRequired)
            }
            MfaError::EnrollmentRequired => {
                (UNAUTHORIZED, "enrollment required", Problem::EnrollmentRequired)
            }
            MfaError::CurrentNotSetUp { .. } => (BAD, NOT_AVAILABLE, Problem::MethodNotSetUp),
            MfaError::Unavailable { .. } => (BAD, NOT_AVAILABLE, Problem::MethodUnavailable),
            MfaError::NothingPending => {
                (BAD, "MFA setup session not found", Problem::ChallengeInvalid)
            }
            MfaError::Malformed(_) => (BAD, "invalid code", Problem::CodeMalformed),
            MfaError::Wrong => (UNAUTHORIZED, WRONG_CODE, Problem::CodeWrong),
            MfaError::Used => (UNAUTHORIZED, WRONG_CODE, Problem::CodeUsed),
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<PollError> for Refusal {
    fn from(error: PollError) -> Self {
        let (status, text, code) = match error {
            PollError::UnknownToken => (UNAUTHORIZED, "invalid token", Problem::PollTokenInvalid),
            PollError::Disabled => (UNAUTHORIZED, "unauthorized", Problem::Disabled),
            PollError::Store(error) => return error.into(),
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        let (status, text, code) = match error {
            StatusError::DeviceNotFound => (BAD, "device not found", Problem::DeviceNotFound),
            StatusError::Disabled => (UNAUTHORIZED, "unauthorized", Problem::Disabled),
            StatusError::Store(error) => return error.into(),
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<DisconnectError> for Refusal {
    fn from(error: DisconnectError) -> Self {
        match error {
            DisconnectError::DeviceNotFound => {
                Self::new(BAD, "device not found", Problem::DeviceNotFound).detail(error)
            }
            DisconnectError::Store(error) => error.into(),
        }
    }
}

impl From<RotateError> for Refusal {
    fn from(error: RotateError) -> Self {
        let (status, text, code) = match error {
            RotateError::DeviceNotFound => (BAD, "device not found", Problem::DeviceNotFound),
            RotateError::NoSession => (BAD, "no such session", Problem::SessionOver),
            RotateError::Store(error) => return error.into(),
        };
        Self::new(status, text, code).detail(error)
    }
}

impl From<RenewError> for Refusal {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Finish(error) => error.into(),
            RenewError::NoSession => {
                Self::new(BAD, "no such session", Problem::SessionOver).detail(error)
            }
        }
    }
}
