//! Budgets of guesses and of mails: durable, and never reset by a new challenge.

use diesel::prelude::*;
use mfa_core::budget::{GuessBudget, GuessKey, GuessParts, Lane, MailBudget};
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;

use crate::schema::{guess_budget, mail_budget};
use crate::value::{from_count, from_list, from_millis, to_count, to_list, to_millis};
use crate::{Snapshot, StoreError, Tx};

impl Snapshot {
    /// Returns a budget of guesses; a fresh one if none was ever charged.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn guess_budget(&mut self, key: GuessKey) -> Result<GuessBudget, StoreError> {
        let row: Option<(String, i64, i64)> = guess_budget::table
            .find((key.user.get(), key.method.code(), key.lane.code()))
            .select((guess_budget::recent, guess_budget::charged, guess_budget::cleared))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((recent, charged, cleared)) = row else { return Ok(GuessBudget::new(key)) };
        let parts = GuessParts {
            recent: from_times(&recent, "guess_budget")?,
            charged: from_count(charged),
            cleared: from_count(cleared),
        };
        Ok(GuessBudget::from_parts(key, parts))
    }

    /// Returns a user's budget of mails; a fresh one if none was ever charged.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn mail_budget(&mut self, user: UserId, lane: Lane) -> Result<MailBudget, StoreError> {
        let recent: Option<String> = mail_budget::table
            .find((user.get(), lane.code()))
            .select(mail_budget::recent)
            .get_result(&mut self.conn)
            .optional()?;
        let recent = from_times(&recent.unwrap_or_default(), "mail_budget")?;
        Ok(MailBudget::from_parts(lane, recent))
    }
}

impl Tx {
    /// Stores a budget of guesses. Commit it before the code is looked at.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn save_guess_budget(&mut self, budget: &GuessBudget) -> Result<(), StoreError> {
        let (key, parts) = (budget.key(), budget.to_parts());
        let recent = to_times(&parts.recent);
        let row = (
            guess_budget::recent.eq(&recent),
            guess_budget::charged.eq(to_count(parts.charged)),
            guess_budget::cleared.eq(to_count(parts.cleared)),
        );
        let place = (key.user.get(), key.method.code(), key.lane.code());
        let changed =
            diesel::update(guess_budget::table.find(place)).set(row).execute(&mut self.conn)?;
        if changed == 0 {
            diesel::insert_into(guess_budget::table)
                .values((
                    guess_budget::user_id.eq(place.0),
                    guess_budget::method.eq(place.1),
                    guess_budget::lane.eq(place.2),
                    row,
                ))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Stores a user's budget of mails. Commit it before the mail is sent.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn save_mail_budget(
        &mut self,
        user: UserId,
        budget: &MailBudget,
    ) -> Result<(), StoreError> {
        let recent = to_times(budget.recent());
        let recent = mail_budget::recent.eq(&recent);
        let place = (user.get(), budget.lane().code());
        let changed =
            diesel::update(mail_budget::table.find(place)).set(recent).execute(&mut self.conn)?;
        if changed == 0 {
            diesel::insert_into(mail_budget::table)
                .values((mail_budget::user_id.eq(place.0), mail_budget::lane.eq(place.1), recent))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }
}

fn to_times(times: &[Timestamp]) -> String {
    to_list(&times.iter().map(|at| to_millis(*at)).collect::<Vec<_>>())
}

fn from_times(text: &str, table: &'static str) -> Result<Vec<Timestamp>, StoreError> {
    Ok(from_list::<i64>(text, table)?.into_iter().map(from_millis).collect())
}
