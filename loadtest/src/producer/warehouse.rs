//! The data the sample producer works on: a table of items in SQLite's memory, and a picture.
//!
//! All tenants share the rows; each sees only its first `rows_of(tenant)`. So the same request really costs different
//! tenants differently, and no tenant, real or invented by an attacker, makes the process grow.

use foretide_predictor::hash;
use image::RgbImage;
use rand::SeedableRng;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64Mcg;
use rusqlite::{Connection, params};

/// Rows of the table: about 10 MB, a fifth of a second of one core to fill, and a full scan with a sort costs some
/// 50 ms: the heaviest thing an ordinary tenant can ask for.
pub(super) const ITEMS: u32 = 40_000;

/// The smallest tenant's table. The largest has all items: a ratio of 80, spread evenly on a log scale.
const FEWEST_ITEMS: f64 = 500.0;

/// Rows filled in one piece: about half a millisecond of CPU.
const FILL_STEP: u32 = 250;

/// Side of the square picture, pixels.
pub(super) const PICTURE_SIDE: u32 = 768;

const WORDS: [&str; 32] = [
    "amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbour", "indigo", "juniper", "kelp",
    "lagoon", "marble", "nectar", "ochre", "pebble", "quartz", "reef", "saffron", "tide", "umber", "velvet",
    "willow", "xenon", "yarrow", "zephyr", "anchor", "breaker", "current", "drift", "eddy", "foam",
];

/// Everything a job works on.
pub(super) struct Warehouse {
    /// Table `item(id, grp, price, stock, body)` with ids 1 to [`ITEMS`].
    pub(super) items: Connection,
    /// A picture with smooth parts and noise.
    pub(super) picture: RgbImage,
}

impl Warehouse {
    /// One with all rows and the picture painted. `work` does the pieces it is given, each some half a millisecond of
    /// CPU. `None` only if SQLite has no memory.
    pub(super) fn stocked(seed: u64, mut work: impl FnMut(&mut dyn FnMut())) -> Option<Self> {
        let mut warehouse = Self::open().ok()?;
        let mut rng = stream(seed, "items");
        let mut filled = Ok(0);
        while let Ok(done @ 0..ITEMS) = filled {
            work(&mut || filled = warehouse.fill(done, &mut rng));
        }
        filled.ok()?;
        let mut rng = stream(seed, "picture");
        for y in 0..PICTURE_SIDE {
            work(&mut || warehouse.paint(y, &mut rng));
        }
        Some(warehouse)
    }

    fn open() -> rusqlite::Result<Self> {
        let items = Connection::open_in_memory()?;
        items.execute_batch(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, price REAL NOT NULL,
                                stock INTEGER NOT NULL, body TEXT NOT NULL);",
        )?;
        Ok(Self { items, picture: RgbImage::new(PICTURE_SIDE, PICTURE_SIDE) })
    }

    /// Writes the rows after `done`, at most [`FILL_STEP`]; returns how many there are then.
    fn fill(&mut self, done: u32, rng: &mut Pcg64Mcg) -> rusqlite::Result<u32> {
        let until = ITEMS.min(done + FILL_STEP);
        let batch = self.items.transaction()?;
        {
            let mut insert = batch.prepare_cached("INSERT INTO item VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for id in done + 1..=until {
                let price = f64::from(rng.random_range(100..100_000_u32)) / 100.0;
                let (group, stock) = (rng.random_range(0..64_u32), rng.random_range(0..500_u32));
                insert.execute(params![id, group, price, stock, words(24, WORDS.len(), rng)])?;
            }
        }
        batch.commit()?;
        Ok(until)
    }

    /// Paints row `y` of the picture.
    fn paint(&mut self, y: u32, rng: &mut Pcg64Mcg) {
        for x in 0..PICTURE_SIDE {
            let noise = (rng.next_u32() & 31) as u8;
            let shade = |v: u32| (v * 220 / (2 * PICTURE_SIDE)) as u8 + noise;
            self.picture.put_pixel(x, y, image::Rgb([shade(x + y), shade(2 * x), shade(2 * y)]));
        }
    }
}

/// The producer's own stream of randomness for one purpose.
pub(super) fn stream(seed: u64, purpose: &str) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(hash::mix(seed ^ hash::bytes(purpose.as_bytes())))
}

/// `count` words of the first `vocabulary` ones: the fewer, the better it compresses.
pub(super) fn words(count: usize, vocabulary: usize, rng: &mut Pcg64Mcg) -> String {
    let mut text = String::with_capacity(count * 8);
    for _ in 0..count {
        text.push_str(WORDS[rng.random_range(0..vocabulary.clamp(1, WORDS.len()))]);
        text.push(' ');
    }
    text
}

/// Rows that a tenant sees, the same in every process.
pub(super) fn rows_of(tenant: &str) -> u32 {
    let share = (hash::mix(hash::bytes(tenant.as_bytes())) >> 11) as f64 / (1_u64 << 53) as f64;
    (FEWEST_ITEMS * (f64::from(ITEMS) / FEWEST_ITEMS).powf(share)) as u32
}

/// Words in a tenant's exports, 2 to 32.
pub(super) fn vocabulary_of(tenant: &str) -> usize {
    2 + (hash::mix(!hash::bytes(tenant.as_bytes())) % 31) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_tables_of_very_different_size() {
        let sizes: Vec<u32> = (0..100).map(|i| rows_of(&format!("tenant-{i}"))).collect();
        assert!(sizes.iter().all(|&rows| (500..=ITEMS).contains(&rows)), "{sizes:?}");
        assert!(
            sizes.iter().any(|&rows| rows < 1_000) && sizes.iter().any(|&rows| rows > 20_000),
            "{sizes:?}"
        );
        assert_eq!(rows_of("tenant-7"), rows_of("tenant-7"));
    }

    #[test]
    fn filling_stops_at_the_last_row() {
        let mut warehouse = Warehouse::open().unwrap();
        let mut rng = stream(1, "items");
        assert_eq!(warehouse.fill(0, &mut rng).unwrap(), FILL_STEP);
        assert_eq!(warehouse.fill(ITEMS - 3, &mut rng).unwrap(), ITEMS);
        let count: u32 =
            warehouse.items.query_row("SELECT count(*) FROM item", [], |row| row.get(0)).unwrap();
        assert_eq!(count, FILL_STEP + 3);
    }
}
