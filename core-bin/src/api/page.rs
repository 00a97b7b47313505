//! Lists: searched, sorted and cut into pages by the database.

use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Items of a page unless a call says otherwise.
pub(super) const DEFAULT: i64 = 50;
/// Items of a page at most.
pub(super) const MAX: i64 = 1_000;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) search: String,
    pub(super) sort: Option<String>,
    pub(super) limit: Option<i64>,
    #[serde(default)]
    pub(super) offset: i64,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// How many there are that match.
    pub(super) total: u64,
    pub(super) limit: i64,
    pub(super) offset: i64,
}

impl ListQuery {
    /// Says it to the store. The first order is the usual one.
    pub(super) fn asked<S: Copy>(
        &self,
        orders: &[(&str, S)],
    ) -> Result<mfa_store::ListQuery<S>, Problem> {
        let limit = self.limit();
        if !(1..=MAX).contains(&limit) {
            return Err(Problem::bad(format!("limit is between 1 and {MAX}")));
        }
        if self.offset < 0 {
            return Err(Problem::bad("offset is 0 or more"));
        }
        let usual = orders.first().map(|order| order.0).unwrap_or_default();
        let sort = self.sort.as_deref().unwrap_or(usual);
        let (name, descending) = sort.strip_prefix('-').map_or((sort, false), |name| (name, true));
        let order = orders.iter().find(|order| order.0 == name).ok_or_else(|| {
            Problem::bad(format!("this list is sorted by {}", names(orders).join(", ")))
        })?;
        Ok(mfa_store::ListQuery {
            search: self.search.clone(),
            sort: order.1,
            descending,
            offset: self.offset,
            limit,
        })
    }

    /// Frames what the store found.
    pub(super) fn page<T>(&self, items: Vec<T>, total: u64) -> Page<T> {
        Page { items, total, limit: self.limit(), offset: self.offset }
    }

    fn limit(&self) -> i64 {
        self.limit.unwrap_or(DEFAULT)
    }
}

/// Names of orders, for the document.
pub(super) fn names<'a, S>(orders: &[(&'a str, S)]) -> Vec<&'a str> {
    orders.iter().map(|order| order.0).collect()
}
