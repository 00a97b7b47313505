//! Lists: searched, sorted and cut into pages on the server.

use core::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Items of a page unless a call says otherwise.
pub(super) const DEFAULT: usize = 50;
/// Items of a page at most.
pub(super) const MAX: usize = 1_000;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) search: String,
    pub(super) sort: Option<String>,
    pub(super) limit: Option<usize>,
    #[serde(default)]
    pub(super) offset: usize,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// How many there are that match.
    pub(super) total: usize,
    pub(super) limit: usize,
    pub(super) offset: usize,
}

/// By what a list can be sorted.
pub(super) type Order<T> = (&'static str, fn(&T, &T) -> Ordering);

impl<T> Page<T> {
    /// Cuts a page out of `all`. `words` is what is searched in an item; the first order is the usual
    /// one.
    pub(super) fn of(
        mut all: Vec<T>,
        query: &ListQuery,
        words: impl Fn(&T) -> String,
        orders: &[Order<T>],
    ) -> Result<Self, Problem> {
        let limit = query.limit.unwrap_or(DEFAULT);
        if !(1..=MAX).contains(&limit) {
            return Err(Problem::bad(format!("limit is between 1 and {MAX}")));
        }
        let search = query.search.trim().to_lowercase();
        if !search.is_empty() {
            all.retain(|item| words(item).to_lowercase().contains(&search));
        }
        let sort = query.sort.as_deref().or_else(|| orders.first().map(|order| order.0));
        let sort = sort.unwrap_or_default();
        let (name, down) = sort.strip_prefix('-').map_or((sort, false), |name| (name, true));
        let order = orders.iter().find(|order| order.0 == name).ok_or_else(|| {
            let known: Vec<&str> = orders.iter().map(|order| order.0).collect();
            Problem::bad(format!("this list is sorted by {}", known.join(", ")))
        })?;
        // Stable, so that pages of equal items do not overlap.
        all.sort_by(|a, b| if down { order.1(b, a) } else { order.1(a, b) });
        let total = all.len();
        let items = all.into_iter().skip(query.offset).take(limit).collect();
        Ok(Self { items, total, limit, offset: query.offset })
    }

    /// Makes something else of each item.
    pub(super) fn try_map<U, E>(self, make: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let Self { items, total, limit, offset } = self;
        let items = items.into_iter().map(make).collect::<Result<_, E>>()?;
        Ok(Page { items, total, limit, offset })
    }
}

/// Names of orders, for the document.
pub(super) fn names<T>(orders: &[Order<T>]) -> Vec<&'static str> {
    orders.iter().map(|order| order.0).collect()
}
