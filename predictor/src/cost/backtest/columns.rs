//! From named columns of a table (a CSV file, a log) to [`CostQuery`], as a route with these parameters would make it.
//!
//! A column is a number if all its values that are not empty are finite numbers >= 0, else a category. Numbers take the
//! slots of numbers in the order of the columns, those beyond [`NUMBERS`] become categories; categories beyond
//! [`CATEGORIES`] share the last slot, as one combined category. An empty value is an absent parameter.

use crate::cost::query::{ABSENT, CATEGORIES, CostQuery, NUMBERS};
use crate::hash;
use crate::id::RouteId;

/// Watches values and decides what kind of parameter each column is.
#[derive(Clone, Debug)]
pub struct ColumnKinds {
    numeric: Vec<bool>,
    seen: Vec<bool>,
}

/// Makes queries from rows of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryColumns {
    slots: Vec<Slot>,
}

/// Where a column goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Number(usize),
    Category(usize),
}

impl ColumnKinds {
    /// For so many parameter columns.
    pub fn new(columns: usize) -> Self {
        Self { numeric: vec![true; columns], seen: vec![false; columns] }
    }

    /// Looks at the parameter values of one row, in the order of the columns. Show it rows of the learning part only.
    pub fn look<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        for (column, value) in values.into_iter().enumerate().take(self.numeric.len()) {
            if !value.is_empty() {
                self.seen[column] = true;
                self.numeric[column] &= number(value).is_some();
            }
        }
    }

    /// Decides. A column that never held a value counts as a category.
    pub fn decide(&self) -> QueryColumns {
        let (mut numbers, mut categories) = (0, 0);
        let kinds = self.numeric.iter().zip(&self.seen);
        let slot = |(&numeric, &seen): (&bool, &bool)| {
            if numeric && seen && numbers < NUMBERS {
                numbers += 1;
                Slot::Number(numbers - 1)
            } else {
                categories += 1;
                Slot::Category((categories - 1).min(CATEGORIES - 1))
            }
        };
        QueryColumns { slots: kinds.map(slot).collect() }
    }
}

impl QueryColumns {
    /// The query of one row. Empty route and source are fine: then all rows share them.
    pub fn query<'a>(
        &self,
        route: &str,
        source: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> CostQuery {
        let mut query =
            CostQuery::new(RouteId(0), hash::bytes(route.as_bytes()), hash::bytes(source.as_bytes()));
        for (slot, value) in self.slots.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
            match *slot {
                Slot::Number(slot) => query.numbers[slot] = number(value).unwrap_or(ABSENT),
                Slot::Category(slot) => {
                    let category = hash::bytes(value.as_bytes());
                    let shared = query.categories[slot];
                    query.categories[slot] =
                        if shared == 0 { category } else { hash::pair(shared, category) };
                }
            }
        }
        query
    }

    /// Whether a column (by its place) is used as a number.
    pub fn is_number(&self, column: usize) -> bool {
        matches!(self.slots.get(column), Some(Slot::Number(_)))
    }
}

fn number(value: &str) -> Option<f32> {
    value.trim().parse::<f32>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_numbers_or_categories_by_what_they_hold() {
        let mut kinds = ColumnKinds::new(4);
        kinds.look(["1", "a", "", "3"]);
        kinds.look(["", "7", "", "-2"]);
        let columns = kinds.decide();
        assert_eq!([0, 1, 2, 3].map(|column| columns.is_number(column)), [true, false, false, false]);
        let query = columns.query("item", "tenant", ["5", "a", "", "-2"]);
        assert_eq!(query.numbers[..2], [5.0, ABSENT]);
        assert_eq!(query.categories[..3], [hash::bytes(b"a"), 0, hash::bytes(b"-2")]);
        assert_eq!(query.route_key, hash::bytes(b"item"));
        assert_eq!(columns.query("item", "tenant", ["x"]).numbers[0], ABSENT, "not a number after all");
    }

    #[test]
    fn columns_beyond_the_slots_still_tell_requests_apart() {
        let mut kinds = ColumnKinds::new(NUMBERS + CATEGORIES + 3);
        kinds.look(std::iter::repeat_n("4", NUMBERS + CATEGORIES + 3));
        let columns = kinds.decide();
        let row = |last: &'static str| std::iter::repeat_n("4", NUMBERS + CATEGORIES + 2).chain([last]);
        assert_ne!(columns.query("r", "s", row("4")), columns.query("r", "s", row("5")));
    }
}
