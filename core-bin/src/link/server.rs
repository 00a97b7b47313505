//! The three calls of our gateway protocol, up to the point where a session
//! takes over.

use std::sync::Arc;

use mfa_core::id::GatewayId;
use mfa_core::token::Token;
use mfa_store::{Actor, By, Gateway, Spent, StoreError, TokenPurpose};
use mfa_wire::gateway::gateway_server;
use mfa_wire::gateway::{
    EnrollRequest, EnrollResponse, FromGateway, RenewRequest, RenewResponse, ToGateway,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use super::listener::{Caller, Proof};
use super::registry::{Closing, Credential};
use super::session::{self, Owner};
use super::{Link, standing};
use crate::pki::{GatewayCertificate, GatewayIdentity, PkiError};

/// The longest message that is read. A report's part is at most half a megabyte.
pub const MESSAGE_MAX: usize = 1 << 20;

/// Serves our gateway protocol.
#[derive(Clone)]
pub struct GatewayService(pub(super) Arc<Link>);

impl core::fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("GatewayService(..)")
    }
}

#[tonic::async_trait]
impl gateway_server::Gateway for GatewayService {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let caller = caller(&request)?;
        if caller.proof == Proof::Plaintext {
            return Err(Status::permission_denied("a gateway enrolls over TLS only"));
        }
        let request = request.into_inner();
        let text = Zeroizing::new(request.token);
        let token = Token::parse(text.trim()).ok_or_else(no_such_token)?.digest();
        let link = Arc::clone(&self.0);
        let enrolled = self.0.store.write(move |tx| {
            let now = link.clock.now();
            let gateway = match tx.spend_token(By::new(Actor::System, now), &token)? {
                Spent::Good(TokenPurpose::Gateway(gateway)) => gateway,
                Spent::Good(TokenPurpose::Setup) | Spent::Unknown => return Err(Refused::Token),
                Spent::Used => return Err(Refused::Used),
                Spent::Expired => return Err(Refused::Expired),
            };
            let by = By::new(Actor::Gateway(gateway), now);
            let signed = link.ca.sign_gateway(&request.csr, gateway, &link.rng, now)?;
            tx.enroll_gateway(by, gateway, signed.serial.as_bytes())?;
            let row = tx.gateway(gateway)?.ok_or(Refused::Token)?;
            let location = tx.location(row.location)?.ok_or(Refused::Token)?;
            Ok((row, location.settings.name, signed))
        });
        let (row, location_name, signed) = enrolled.await.map_err(|refused: Refused| {
            tracing::warn!(remote = %caller.remote, %refused, "a gateway could not enroll");
            refused.into_status()
        })?;
        // Whoever had this identity before has it no longer.
        self.0.registry.close(row.id, Closing::CertificateSpent);
        tracing::info!(gateway = %row.id, name = row.name, remote = %caller.remote, "enrolled");
        Ok(Response::new(EnrollResponse {
            certificate: signed.certificate.to_vec(),
            ca_certificate: self.0.ca.certificate().to_vec(),
            gateway_id: row.id.get(),
            gateway_name: row.name,
            location_name,
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let (_, identity) = identified(&request)?;
        let link = Arc::clone(&self.0);
        let csr = request.into_inner().csr;
        let renewed = self.0.store.write(move |tx| {
            let now = link.clock.now();
            let gateway = identity.gateway;
            let row = tx.gateway(gateway)?.ok_or(Refused::Standing(Closing::Revoked))?;
            let shown = Credential::Certificate(identity.serial);
            standing::check(&row, &shown).map_err(Refused::Standing)?;
            let signed = link.ca.sign_gateway(&csr, gateway, &link.rng, now)?;
            let by = By::new(Actor::Gateway(gateway), now);
            let (shown, new) = (identity.serial, signed.serial);
            if !tx.renew_gateway(by, gateway, shown.as_bytes(), new.as_bytes())? {
                return Err(Refused::Standing(Closing::CertificateSpent));
            }
            Ok(signed)
        });
        let signed: GatewayCertificate = renewed.await.map_err(|refused: Refused| {
            tracing::warn!(gateway = %identity.gateway, %refused, "a certificate was not renewed");
            refused.into_status()
        })?;
        Ok(Response::new(RenewResponse {
            certificate: signed.certificate.to_vec(),
            ca_certificate: self.0.ca.certificate().to_vec(),
        }))
    }

    type LinkStream = ReceiverStream<Result<ToGateway, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromGateway>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (caller, identity) = identified(&request)?;
        let credential = Credential::Certificate(identity.serial);
        let row = self.find(identity.gateway).await?;
        standing::check(&row, &credential).map_err(session::closed)?;
        let owner = Owner {
            gateway: row.id,
            location: row.location,
            credential,
            until: identity.not_after,
            remote: caller.remote,
        };
        let (outbound, messages) = mpsc::channel(session::OUTBOUND);
        let link = Arc::clone(&self.0);
        tokio::spawn(session::serve(link, owner, request.into_inner(), outbound));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl GatewayService {
    async fn find(&self, gateway: GatewayId) -> Result<Gateway, Status> {
        let found = self.0.store.read(move |view| view.gateway(gateway)).await;
        found.map_err(unavailable)?.ok_or_else(|| session::closed(Closing::Revoked))
    }
}

/// Why a gateway got no certificate.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such token")]
    Token,
    #[error("the token has been used")]
    Used,
    #[error("the token's time is over")]
    Expired,
    #[error("the certificate that was shown is not in force")]
    Standing(Closing),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    fn into_status(self) -> Status {
        match self {
            Self::Token => no_such_token(),
            Self::Used => Status::unauthenticated(
                "this token has been used; make a new one with `core-bin gateway token`, and if \
                 it was not you who used it, revoke the gateway first",
            ),
            Self::Expired => Status::unauthenticated(
                "this token's time is over; make a new one with `core-bin gateway token`",
            ),
            Self::Standing(why) => session::closed(why),
            Self::Pki(PkiError::Request(why)) => {
                Status::invalid_argument(format!("the certificate request is refused: {why}"))
            }
            Self::Pki(_) => Status::internal("core cannot make a certificate; see its log"),
            Self::Store(error) => unavailable(error),
        }
    }
}

fn no_such_token() -> Status {
    Status::unauthenticated(
        "there is no such token; make one with `core-bin gateway token LOCATION NAME`",
    )
}

/// What a gateway hears if the store fails; why is core's business.
#[expect(clippy::needless_pass_by_value, reason = "it is the last to see the error")]
pub(super) fn unavailable(error: StoreError) -> Status {
    tracing::error!(%error, "a gateway cannot be served");
    Status::unavailable("core cannot read its database now; try again in a moment")
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().copied();
    caller.ok_or_else(|| Status::internal("the connection is not one of core's listener"))
}

/// Only a gateway that shows a certificate gets further than this.
fn identified<T>(request: &Request<T>) -> Result<(Caller, GatewayIdentity), Status> {
    let caller = caller(request)?;
    match caller.proof {
        Proof::Certificate(identity) => Ok((caller, identity)),
        Proof::Plaintext | Proof::Anonymous | Proof::Unknown => Err(Status::unauthenticated(
            "this needs a gateway's certificate; enroll first with `gateway-bin enroll`",
        )),
    }
}
