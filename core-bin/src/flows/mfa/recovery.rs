//! A new sheet of recovery codes, in place of the old one.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::finish::{SheetBytes, new_sheet};
use super::{Holder, MfaError};
use crate::app::App;

/// Replaces the user's recovery codes. Returns the new ones, to be shown once.
///
/// # Errors
///
/// [`MfaError`].
pub async fn renew_recovery(
    app: &Arc<App>,
    holder: Holder,
) -> Result<Vec<Zeroizing<String>>, MfaError> {
    let now = app.clock.now();
    let random: SheetBytes = app.rng.bytes();
    let work = Arc::clone(app);
    app.store
        .write(move |tx| {
            let user = holder.user(tx, now)?;
            new_sheet(&work, tx, &user, &random, now)
        })
        .await
}
