//! What each column means, and which must not be used.
//!
//! A feature must be known when the request arrives. The target, its end and everything computed from them are not; a
//! column that is one of these by name or by its values is refused, with all other findings at once. What merely looks
//! wrong is a warning.

use foretide_loadtest::replay::moment;

use crate::WorkbenchError;
use crate::known::{Known, is_variant};
use crate::leak::{self, Judged, Leak};
use crate::read::Format;
use crate::table::Table;

/// Numeric query parameters of a log that become parameters unless columns are named: the most frequent ones.
const MOST_QUERY_COLUMNS: usize = 8;
/// A query parameter in fewer rows than this share of the learning part is left out.
const LEAST_SHARE: f64 = 0.01;
/// Rows of the learning part that a column is judged by, evenly spread.
const JUDGED_ROWS: usize = 20_000;

/// Columns as the user named them; empty: the format's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnNames {
    /// What to predict.
    pub target: Option<String>,
    /// What is asked; several are joined.
    pub route: Vec<String>,
    /// Who asks.
    pub source: Option<String>,
    /// What the request carries.
    pub params: Vec<String>,
    /// When it came.
    pub time: Option<String>,
    /// When it ended.
    pub end: Option<String>,
    /// Columns that are known on arrival although they look like the answer.
    pub trust: Vec<String>,
}

/// Columns by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// What to predict.
    pub target: usize,
    /// What is asked.
    pub route: Vec<usize>,
    /// Who asks.
    pub source: Option<usize>,
    /// What the request carries.
    pub params: Vec<usize>,
    /// When it came.
    pub time: Option<usize>,
    /// When it ended.
    pub end: Option<usize>,
}

/// Columns and what is odd about them.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The columns.
    pub columns: Columns,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// Settles the columns of a table; `learn_rows`: the first rows of the table, by which values are judged.
///
/// # Errors
/// Everything that is wrong with the columns, at once.
pub fn settle(
    table: &Table,
    format: Format,
    names: &ColumnNames,
    learn_rows: usize,
) -> Result<Settled, WorkbenchError> {
    let names = with_defaults(table, format, names, learn_rows);
    let mut findings = Vec::new();
    let mut place = |flag: &str, name: &String| {
        let found = table.column(name);
        if found.is_none() {
            findings.push(format!("{flag} {name}: no such column{}", hint(table, name)));
        }
        found
    };
    let target = names.target.as_ref().map(|name| place("--target", name));
    let route: Vec<usize> = names.route.iter().filter_map(|name| place("--route", name)).collect();
    let source = names.source.as_ref().and_then(|name| place("--source", name));
    let params: Vec<usize> = names.params.iter().filter_map(|name| place("--params", name)).collect();
    let time = names.time.as_ref().and_then(|name| place("--time", name));
    let end = names.end.as_ref().and_then(|name| place("--end", name));
    for name in &names.trust {
        place("--known-on-arrival", name);
    }
    let Some(target) = target else {
        findings.push(no_target(table, format));
        return Err(WorkbenchError::Columns(findings));
    };
    let mut warnings = Vec::new();
    if let Some(target) = target {
        let columns = Columns { target, route, source, params, time, end };
        let judge = Judge { table, columns: &columns, names: &names, format, learn_rows };
        judge.features(&mut findings, &mut warnings);
        if findings.is_empty() {
            return Ok(Settled { columns, warnings });
        }
    }
    Err(WorkbenchError::Columns(findings))
}

fn hint(table: &Table, name: &str) -> String {
    let near = |column: &&str| strsim::damerau_levenshtein(&column.to_lowercase(), &name.to_lowercase());
    match table.names().min_by_key(near).filter(|column| near(column) <= 1 + name.chars().count() / 3) {
        Some(column) => format!("; did you mean {column}?"),
        None => format!("; there are {}", table.names().collect::<Vec<_>>().join(", ")),
    }
}

fn no_target(table: &Table, format: Format) -> String {
    let there = table.names().collect::<Vec<_>>().join(", ");
    match format {
        Format::Combined => format!(
            "this log has no duration: add $request_time (nginx) or %D (Apache) to its format, or name another \
             --target; there are {there}"
        ),
        Format::Json | Format::Envoy => {
            format!("this log has no duration; name a --target; there are {there}")
        }
        Format::Csv => format!("name what to predict with --target; there are {there}"),
    }
}

/// Logs say themselves what their columns mean.
fn with_defaults(table: &Table, format: Format, names: &ColumnNames, learn_rows: usize) -> ColumnNames {
    let mut names = names.clone();
    if !format.is_log() {
        return names;
    }
    let there = |name: &str| table.column(name).map(|_| name.to_owned());
    names.target = names.target.or_else(|| there("duration_us"));
    names.time = names.time.or_else(|| there("arrival_us"));
    names.end = names.end.or_else(|| there("end_us"));
    names.source = names.source.or_else(|| there("consumer"));
    if names.route.is_empty() {
        names.route.extend(there("endpoint"));
    }
    if names.params.is_empty() {
        names.params = query_columns(table, learn_rows);
        names.params.extend(there("bytes_received"));
    }
    names
}

/// Query parameters that are numbers, the most frequent in the learning part first.
fn query_columns(table: &Table, learn_rows: usize) -> Vec<String> {
    let learned = learn_rows.min(table.rows());
    let filled = |column: usize| {
        let cells = (0..learned).map(|row| table.cell(column, row)).filter(|cell| !cell.is_empty());
        let mut count = 0;
        for cell in cells {
            count += 1;
            if cell.parse::<f64>().is_err() {
                return 0;
            }
        }
        count
    };
    let mut found: Vec<(usize, String)> = table
        .names()
        .enumerate()
        .filter(|(_, name)| name.starts_with("query."))
        .map(|(column, name)| (filled(column), name.to_owned()))
        .filter(|(count, _)| *count as f64 > LEAST_SHARE * learned as f64)
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().take(MOST_QUERY_COLUMNS).map(|(_, name)| name).collect()
}

/// Looks for features that give the answer away.
struct Judge<'a> {
    table: &'a Table,
    columns: &'a Columns,
    names: &'a ColumnNames,
    format: Format,
    learn_rows: usize,
}

impl Judge<'_> {
    fn features(&self, findings: &mut Vec<String>, warnings: &mut Vec<String>) {
        let Columns { target, route, source, params, time, end } = self.columns;
        let routes = route.iter().map(|&column| ("--route", column));
        let sources = source.iter().map(|&column| ("--source", column));
        let parameters = params.iter().map(|&column| ("--params", column));
        for (flag, column) in routes.chain(sources).chain(parameters) {
            match self.refusal(column) {
                Some(why) => findings.push(format!("{flag} {}: {why}", self.table.name(column))),
                None => warnings.extend(self.suspicion(flag, column)),
            }
        }
        if *time == Some(*target) || *end == Some(*target) {
            findings.push(format!("--target {}: a moment is no cost", self.table.name(*target)));
        }
        if time.is_some() && time == end {
            findings.push(format!(
                "--end {}: this is the time of arrival",
                self.names.end.as_deref().unwrap_or("")
            ));
        }
    }

    /// Why a column must not be a feature.
    fn refusal(&self, column: usize) -> Option<String> {
        let (table, target) = (self.table, self.columns.target);
        let (name, target_name) = (table.name(column), table.name(target));
        let not_known = "it is not known when the request arrives";
        if column == target {
            return Some(format!("this is the target; {not_known}"));
        }
        if Some(column) == self.columns.end {
            return Some(format!("this is when the request ended; {not_known}"));
        }
        let trusted = self.names.trust.iter().any(|trusted| trusted == name);
        if trusted || Some(column) == self.columns.time {
            return None;
        }
        let trust = format!("(if it is known all the same: --known-on-arrival {name})");
        let end_name = self.columns.end.map(|end| table.name(end));
        for other in [Some(target_name), end_name].into_iter().flatten() {
            if is_variant(name, other) {
                return Some(format!("by its name this is {other} in another form; {not_known} {trust}"));
            }
        }
        let duration = ["duration", "latency", "elapsed", "request_time", "dur"];
        if target_name == "duration_us"
            && self.format.is_log()
            && duration.iter().any(|word| is_variant(name, word))
        {
            return Some(format!("this is the logged duration, from which the target is made; {not_known}"));
        }
        match self.leak(column) {
            Some(Leak::Copy) => Some(format!("its values are those of {target_name}; {not_known} {trust}")),
            Some(Leak::End) => {
                Some(format!("its values are arrival plus {target_name}, the end; {not_known} {trust}"))
            }
            Some(Leak::Suspect(_)) | None => None,
        }
    }

    /// What is odd about a column that is not refused.
    fn suspicion(&self, flag: &str, column: usize) -> Option<String> {
        let (name, target) = (self.table.name(column), self.table.name(self.columns.target));
        if self.names.trust.iter().any(|trusted| trusted == name) {
            return None;
        }
        if let Some(Leak::Suspect(correlation)) = self.leak(column) {
            return Some(format!(
                "{flag} {name} orders requests as {target} does (rank correlation {correlation:.4} in the learning part). \
                 If it is made from the answer, every figure below is worthless"
            ));
        }
        (self.table.known(column) == Known::WithResponse).then(|| {
            format!(
                "{flag} {name}: by its name this is known only with the response. If so, every figure below is worthless"
            )
        })
    }

    fn leak(&self, column: usize) -> Option<Leak> {
        let (table, columns) = (self.table, self.columns);
        let learned = self.learn_rows.min(table.rows());
        let step = learned.div_ceil(JUDGED_ROWS).max(1);
        let number = |column: usize, row: usize| table.cell(column, row).parse::<f64>().ok();
        let judged = (0..learned).step_by(step).filter_map(|row| {
            let (value, target) = (number(column, row)?, number(columns.target, row)?);
            // Small numbers are no moments, although they can be read as seconds after 1970.
            let moment = moment::parse(table.cell(column, row)).filter(|_| value > 1e8);
            let arrival = columns.time.and_then(|time| moment::parse(table.cell(time, row)));
            let moments_us = arrival.zip(moment).map(|(arrival, moment)| (arrival as f64, moment as f64));
            (value.is_finite() && target.is_finite()).then_some(Judged { value, target, moments_us })
        });
        leak::judge(&judged.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(["start", "end_ns", "route", "rows", "cost_us", "other", "cost_ms", "done"]);
        for i in 0..200u64 {
            let cost = 100 + i * 7919 % 997;
            let start = 1_700_000_000_000_000_000 + i * 1_000_000;
            let end = start + cost * 1_000;
            let cells = [start, end, i % 3, i * 31 % 17, cost, cost * 10, cost / 1000, end / 1_000_000]
                .map(|n| n.to_string());
            table.push((i, i + 2), cells.iter().map(String::as_str));
        }
        table
    }

    fn settled(names: ColumnNames) -> Result<Settled, String> {
        settle(&table(), Format::Csv, &names, 120).map_err(|error| error.to_string())
    }

    fn names(params: &[&str]) -> ColumnNames {
        ColumnNames {
            target: Some("cost_us".into()),
            route: vec!["route".into()],
            time: Some("start".into()),
            params: params.iter().map(|name| (*name).to_owned()).collect(),
            ..ColumnNames::default()
        }
    }

    #[test]
    fn good_columns_are_found_and_nothing_is_said() {
        let settled = settled(names(&["rows"])).unwrap();
        assert_eq!(settled.columns.params, [3]);
        assert!(settled.warnings.is_empty(), "{:?}", settled.warnings);
    }

    #[test]
    fn all_leaks_are_refused_at_once() {
        let mut bad = names(&["cost_us", "end_ns", "other", "cost_ms", "rowz"]);
        bad.end = Some("end_ns".into());
        let error = settled(bad).unwrap_err();
        for words in [
            "cost_us: this is the target",
            "end_ns: this is when the request ended",
            "other: its values are those of cost_us",
            "cost_ms: by its name this is cost_us in another form",
            "rowz: no such column; did you mean rows?",
        ] {
            assert!(error.contains(words), "{words} in {error}");
        }
        let error = settled(names(&["end_ns"])).unwrap_err();
        assert!(error.contains("arrival plus cost_us"), "{error}");
    }

    #[test]
    fn a_column_can_be_vouched_for_but_not_the_target() {
        let mut vouched = names(&["other", "cost_us"]);
        vouched.trust = vec!["other".into(), "cost_us".into()];
        let error = settled(vouched).unwrap_err();
        assert!(
            error.starts_with("--params cost_us: this is the target") && error.lines().count() == 1,
            "{error}"
        );
    }

    #[test]
    fn what_to_predict_must_be_named() {
        let error = settled(ColumnNames::default()).unwrap_err();
        assert!(error.contains("--target") && error.contains("cost_us"), "{error}");
    }
}
