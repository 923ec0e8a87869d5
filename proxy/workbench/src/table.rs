//! Rows of text in columns, with the place in the file that each came from.
//!
//! A CSV file has its columns from the start. A log grows them as fields turn up: a column that comes late is empty in
//! the rows before. Bounded: rows, columns, bad rows kept.

use std::collections::BTreeMap;

use crate::known::{Known, known_by_name};

/// Rows kept: more would need gigabytes. Later ones are counted.
pub const MOST_ROWS: usize = 2_000_000;
/// Columns kept; a log's query parameters are its clients' to name.
const MOST_COLUMNS: usize = 96;
/// Bad rows kept with their reasons.
const BAD_ROWS_KEPT: usize = 5;

/// Rows that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadRows {
    /// How many.
    pub count: usize,
    /// The first of them: 1-based line, and why.
    pub first: Vec<(u64, String)>,
}

impl BadRows {
    /// One more.
    pub fn add(&mut self, line: u64, reason: String) {
        self.count += 1;
        if self.first.len() < BAD_ROWS_KEPT {
            self.first.push((line, reason));
        }
    }
}

/// A column of text; the cells lie one after another.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    known: Known,
    text: String,
    ends: Vec<usize>,
}

impl Column {
    fn new(name: &str, known: Known, empty_rows: usize) -> Self {
        Self { name: name.to_owned(), known, text: String::new(), ends: vec![0; empty_rows] }
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }
}

/// A named cell of a log's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name of its column.
    pub name: String,
    /// The text.
    pub value: String,
}

/// The rows of a file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    places: BTreeMap<String, usize>,
    /// 0-based row in the file (headers and blank lines are no rows) and 1-based line.
    origins: Vec<(u64, u64)>,
    /// Rows that could not be read.
    pub bad: BadRows,
    /// Rows of requests that failed: how long they took is not what they cost.
    pub failed: usize,
    /// Good rows for which there was no room.
    pub not_kept: usize,
}

impl Table {
    /// With these columns.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Self::default();
        for name in names {
            table.places.entry(name.to_owned()).or_insert(table.columns.len());
            table.columns.push(Column::new(name, known_by_name(name, false), 0));
        }
        table
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Name of a column.
    pub fn name(&self, column: usize) -> &str {
        &self.columns[column].name
    }

    /// When a column's values are known.
    pub fn known(&self, column: usize) -> Known {
        self.columns[column].known
    }

    /// Rows kept.
    pub fn rows(&self) -> usize {
        self.origins.len()
    }

    /// A cell; empty where the row has none.
    pub fn cell(&self, column: usize, row: usize) -> &str {
        let Column { text, ends, .. } = &self.columns[column];
        let start = if row == 0 { 0 } else { ends[row - 1] };
        &text[start..ends[row]]
    }

    /// 0-based row in the file.
    pub fn row_in_file(&self, row: usize) -> u64 {
        self.origins[row].0
    }

    /// 1-based line in the file.
    pub fn line(&self, row: usize) -> u64 {
        self.origins[row].1
    }

    /// Adds a row with a cell for each column, from this row and line of the file.
    pub fn push<'a>(&mut self, origin: (u64, u64), cells: impl IntoIterator<Item = &'a str>) {
        if self.origins.len() >= MOST_ROWS {
            self.not_kept += 1;
            return;
        }
        self.origins.push(origin);
        self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        self.fill_up();
    }

    /// Adds a row of named cells; of two with the same name the first counts.
    pub fn push_fields(&mut self, origin: (u64, u64), fields: &[Field]) {
        if self.origins.len() >= MOST_ROWS {
            self.not_kept += 1;
            return;
        }
        let row = self.origins.len();
        self.origins.push(origin);
        for field in fields {
            let Some(column) = self.column_for(field, row) else { continue };
            if self.columns[column].ends.len() == row {
                self.columns[column].push(&field.value);
            }
        }
        self.fill_up();
    }

    fn column_for(&mut self, field: &Field, row: usize) -> Option<usize> {
        if let Some(&column) = self.places.get(&field.name) {
            return Some(column);
        }
        (self.columns.len() < MOST_COLUMNS).then(|| {
            self.places.insert(field.name.clone(), self.columns.len());
            self.columns.push(Column::new(&field.name, known_by_name(&field.name, true), row));
            self.columns.len() - 1
        })
    }

    fn fill_up(&mut self) {
        for column in self.columns.iter_mut().filter(|column| column.ends.len() < self.origins.len()) {
            column.push("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.into(), value: value.into() }
    }

    #[test]
    fn columns_that_come_late_are_empty_before() {
        let mut table = Table::default();
        table.push_fields((0, 1), &[field("a", "1")]);
        table.push_fields((1, 2), &[field("b", "2"), field("b", "again")]);
        table.push_fields((3, 5), &[field("b", ""), field("a", "long")]);
        let column =
            |name| (0..3).map(|row| table.cell(table.column(name).unwrap(), row)).collect::<Vec<_>>();
        assert_eq!((column("a"), column("b")), (vec!["1", "", "long"], vec!["", "2", ""]));
        assert_eq!((table.row_in_file(2), table.line(2)), (3, 5));
    }

    #[test]
    fn clients_cannot_make_columns_without_end() {
        let mut table = Table::default();
        let fields: Vec<Field> = (0..500).map(|i| field(&format!("query.{i}"), "1")).collect();
        table.push_fields((0, 1), &fields);
        assert_eq!(table.names().count(), MOST_COLUMNS);
    }
}
