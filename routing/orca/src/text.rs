//! `name=number,name=number`: groups are written as `request_cost.NAME` and `named_metrics.NAME`.

use crate::{Field, Found, Group};

/// Items looked at; a report has a few.
const MOST_ITEMS: usize = 64;

/// Takes what it knows; items that are no name and number are passed over.
pub(crate) fn read(body: &str, found: &mut Found<'_>) {
    for item in body.split(',').take(MOST_ITEMS) {
        let Some((name, number)) = item.split_once('=') else { continue };
        let (name, Ok(number)) = (name.trim(), number.trim().parse()) else { continue };
        if let Some(field) = Field::named(name) {
            found.field(field, number);
        } else if let Some((group, name)) = name.split_once('.')
            && let Some(group) = Group::named(group)
        {
            found.named(group, name, number);
        }
    }
}
