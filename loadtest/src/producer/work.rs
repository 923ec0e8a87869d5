//! The kinds of work: real queries, compression, hashing and scaling, cut into steps of about half a millisecond.
//!
//! Costs are not written anywhere; they follow from the parameters and from what the tenant owns. In a release build
//! they run from about 0.5 to 150 ms of CPU.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use foretide_predictor::hash;
use image::imageops::{self, FilterType};
use rand_pcg::Pcg64Mcg;
use rusqlite::params;
use sha2::{Digest, Sha256};

use super::emulated_core::Progress;
use super::warehouse::{self, PICTURE_SIDE, Warehouse};

/// Rows scanned in a step.
const SCAN_STEP: u32 = 500;
/// Hashes in a step.
const HASH_STEP: u32 = 2_000;
/// Bytes compressed in a step.
const EXPORT_STEP: usize = 16 * 1024;
/// Rows of the picture scaled in a step.
const SCALE_STEP: u32 = 32;
/// Rows a search returns.
const HITS: u32 = 20;

/// One request's work and how far it has come.
pub(super) enum Work {
    /// Scan, filter and sort rows.
    Search { rows: u32, done: u32, pattern: String, hits: Vec<(f64, u32, String)> },
    /// Aggregate rows and render JSON.
    Report { rows: u32, done: u32, groups: BTreeMap<u32, Group>, batches: Vec<serde_json::Value> },
    /// Write text and compress it.
    Export { bytes_left: usize, vocabulary: usize, rng: Pcg64Mcg, encoder: GzEncoder<Vec<u8>> },
    /// A chain of SHA-256.
    Hash { left: u32, digest: [u8; 32] },
    /// Scale the picture.
    Thumbnail { size: u32, done: u32, pixels: Vec<u8> },
}

/// Sums of one group of items.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Group {
    items: u64,
    stock: u64,
    value: f64,
    dearest: f64,
}

impl Work {
    /// Reads path and query; `None`: no such endpoint. The error says which parameter is wrong.
    pub(super) fn parse(path: &str, query: &str, tenant: &str) -> Option<Result<Self, String>> {
        let number = |name, default, most| parameter(query, name, default, most);
        let rows_seen = |rows: u32| rows.min(warehouse::rows_of(tenant));
        Some(match path {
            "/search" => number("rows", 2_000, warehouse::ITEMS).map(|rows| {
                let pattern = format!("%{}%", value(query, "q").unwrap_or("tide"));
                Self::Search { rows: rows_seen(rows), done: 0, pattern, hits: Vec::new() }
            }),
            "/report" => number("rows", 5_000, warehouse::ITEMS).map(|rows| Self::Report {
                rows: rows_seen(rows),
                done: 0,
                groups: BTreeMap::new(),
                batches: Vec::new(),
            }),
            "/export" => number("kb", 64, 2_048).map(|kb| Self::Export {
                bytes_left: kb as usize * 1_024,
                vocabulary: warehouse::vocabulary_of(tenant),
                rng: warehouse::stream(hash::bytes(tenant.as_bytes()), "export"),
                encoder: GzEncoder::new(Vec::new(), Compression::default()),
            }),
            "/hash" => number("n", 10_000, 500_000)
                .map(|n| Self::Hash { left: n, digest: Sha256::digest(tenant.as_bytes()).into() }),
            "/thumbnail" => number("size", 128, PICTURE_SIDE).map(|size| Self::Thumbnail {
                size: size.max(8),
                done: 0,
                pixels: Vec::new(),
            }),
            _ => return None,
        })
    }

    /// Type of the answer's body.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Search { .. } | Self::Report { .. } => "application/json",
            Self::Export { .. } => "application/gzip",
            Self::Hash { .. } => "text/plain; charset=utf-8",
            Self::Thumbnail { .. } => "image/x-portable-pixmap",
        }
    }

    /// Does one step.
    pub(super) fn step(&mut self, warehouse: &mut Warehouse) -> Progress {
        match self {
            Self::Search { rows, done, pattern, hits } => {
                let until = (*rows).min(*done + SCAN_STEP);
                if search(warehouse, (*done, until), pattern, hits).is_err() {
                    return Progress::Failed;
                }
                *done = until;
                if until < *rows { Progress::More } else { Progress::Done(render_hits(*rows, hits)) }
            }
            Self::Report { rows, done, groups, batches } => {
                let until = (*rows).min(*done + SCAN_STEP);
                if aggregate(warehouse, (*done, until), groups).is_err() {
                    return Progress::Failed;
                }
                batches.push(serde_json::json!({ "until": until, "groups": &*groups }));
                *done = until;
                if until < *rows { Progress::More } else { Progress::Done(render_report(groups, batches)) }
            }
            Self::Export { bytes_left, vocabulary, rng, encoder } => {
                let text = warehouse::words((*bytes_left).min(EXPORT_STEP).div_ceil(7), *vocabulary, rng);
                let piece = text.len().min(*bytes_left).min(EXPORT_STEP);
                *bytes_left -= piece;
                if encoder.write_all(&text.as_bytes()[..piece]).is_err() {
                    return Progress::Failed;
                }
                if *bytes_left > 0 {
                    return Progress::More;
                }
                let last = std::mem::replace(encoder, GzEncoder::new(Vec::new(), Compression::none()));
                last.finish().map_or(Progress::Failed, Progress::Done)
            }
            Self::Hash { left, digest } => {
                for _ in 0..(*left).min(HASH_STEP) {
                    *digest = Sha256::digest(&digest[..]).into();
                }
                *left = left.saturating_sub(HASH_STEP);
                if *left > 0 { Progress::More } else { Progress::Done(hex(digest)) }
            }
            Self::Thumbnail { size, done, pixels } => {
                let until = PICTURE_SIDE.min(*done + SCALE_STEP);
                scale(warehouse, (*done, until), *size, pixels);
                *done = until;
                if until < PICTURE_SIDE {
                    return Progress::More;
                }
                let mut body = format!("P6\n{size} {size}\n255\n").into_bytes();
                body.append(pixels);
                Progress::Done(body)
            }
        }
    }
}

fn search(
    warehouse: &Warehouse,
    (after, until): (u32, u32),
    pattern: &str,
    hits: &mut Vec<(f64, u32, String)>,
) -> rusqlite::Result<()> {
    let mut scan = warehouse.items.prepare_cached(
        "SELECT price * stock AS worth, id, substr(body, 1, 60) FROM item
         WHERE id > ?1 AND id <= ?2 AND body LIKE ?3 ORDER BY worth DESC, id LIMIT ?4",
    )?;
    let found = scan
        .query_map(params![after, until, pattern, HITS], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for hit in found {
        hits.push(hit?);
    }
    hits.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    hits.truncate(HITS as usize);
    Ok(())
}

fn render_hits(rows: u32, hits: &[(f64, u32, String)]) -> Vec<u8> {
    let list: Vec<_> = hits.iter().map(|(worth, id, text)| serde_json::json!([id, worth, text])).collect();
    serde_json::json!({ "scanned": rows, "hits": list }).to_string().into_bytes()
}

fn aggregate(
    warehouse: &Warehouse,
    (after, until): (u32, u32),
    groups: &mut BTreeMap<u32, Group>,
) -> rusqlite::Result<()> {
    let mut scan = warehouse.items.prepare_cached(
        "SELECT grp, count(*), sum(stock), sum(price * stock), max(price) FROM item
         WHERE id > ?1 AND id <= ?2 GROUP BY grp",
    )?;
    let mut rows = scan.query(params![after, until])?;
    while let Some(row) = rows.next()? {
        let group = groups.entry(row.get(0)?).or_default();
        group.items += row.get::<_, i64>(1)? as u64;
        group.stock += row.get::<_, i64>(2)? as u64;
        group.value += row.get::<_, f64>(3)?;
        group.dearest = group.dearest.max(row.get(4)?);
    }
    Ok(())
}

fn render_report(groups: &BTreeMap<u32, Group>, batches: &[serde_json::Value]) -> Vec<u8> {
    serde_json::json!({ "groups": groups, "running": batches }).to_string().into_bytes()
}

/// Scales the picture's rows `from..until` and adds the thumbnail's rows that they make.
fn scale(warehouse: &Warehouse, (from, until): (u32, u32), size: u32, pixels: &mut Vec<u8>) {
    let (top, bottom) = (from * size / PICTURE_SIDE, until * size / PICTURE_SIDE);
    if top == bottom {
        return;
    }
    let strip = imageops::crop_imm(&warehouse.picture, 0, from, PICTURE_SIDE, until - from).to_image();
    pixels.extend_from_slice(&imageops::resize(&strip, size, bottom - top, FilterType::Triangle));
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// The value of a query parameter as it stands, not percent-decoded.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A whole number from 1 to `most`; larger ones are cut to it.
fn parameter(query: &str, name: &str, default: u32, most: u32) -> Result<u32, String> {
    match value(query, name).map(str::parse::<u32>) {
        None => Ok(default),
        Some(Ok(number)) if number > 0 => Ok(number.min(most)),
        Some(_) => Err(format!("{name} must be a whole number from 1 to {most}\n")),
    }
}
