//! Which factors a user has, and where each serves.

use std::sync::Arc;

use mfa_core::method::Method;
use mfa_core::policy::MethodRefused;
use mfa_store::{Location, Snapshot, User};
use mfa_wire::http as wire;
use wg_types::PublicKey;

use super::{Holder, MfaError};
use crate::app::App;
use crate::flows::status;
use crate::text::masked;

/// Lists every method that this server knows, with why one is of no use.
///
/// # Errors
///
/// [`MfaError`].
pub async fn list(app: &Arc<App>, device: PublicKey) -> Result<wire::MfaList, MfaError> {
    let (now, work) = (app.clock.now(), Arc::clone(app));
    app.store
        .read(move |view| {
            let user = Holder::Device(device).user(view, now)?;
            let locations = view.locations_of(user.id)?;
            let mut methods = Vec::new();
            for method in Method::ALL {
                methods.push(describe(&work, view, &user, method, &locations)?);
            }
            let recovery_codes_left = status::count(view.recovery_codes(user.id)?.len());
            Ok(wire::MfaList { methods, recovery_codes_left })
        })
        .await
}

fn describe(
    app: &App,
    view: &mut Snapshot,
    user: &User,
    method: Method,
    locations: &[Location],
) -> Result<wire::MethodStatus, MfaError> {
    let unavailable = app.unavailable(method, user);
    let usable = app.usable(view, user)?;
    let at = |location: &Location| {
        let refused = match location.settings.policy.admit(method, usable) {
            Ok(()) => None,
            Err(MethodRefused::MfaOff) => Some("this location asks for no code".to_owned()),
            Err(MethodRefused::NotAllowed) => Some("this location does not allow it".to_owned()),
            Err(MethodRefused::NotEnabled) => {
                Some(unavailable.unwrap_or("it is not set up on this account").to_owned())
            }
        };
        let name = location.settings.name.clone();
        wire::MethodAtLocation { location_id: location.id.get(), name, refused }
    };
    let email = &user.details.email;
    Ok(wire::MethodStatus {
        method: status::method(method),
        set_up: view.enabled_methods(user.id)?.contains(method),
        unavailable: unavailable.map(str::to_owned),
        sent_to: (method == Method::Email && !email.is_empty()).then(|| masked(email)),
        locations: locations.iter().map(at).collect(),
    })
}
