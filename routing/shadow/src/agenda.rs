//! What is to come, earliest first; what is due at the same moment in order of entry.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Things with a moment each.
#[derive(Clone, Debug)]
pub struct Agenda<T> {
    entries: BinaryHeap<Entry<T>>,
    entered: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    at: f64,
    number: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), entered: 0 }
    }
}

impl<T> Agenda<T> {
    /// Enters something.
    pub fn push(&mut self, at: f64, what: T) {
        self.entered += 1;
        self.entries.push(Entry { at, number: self.entered, what });
    }

    /// The earliest moment; infinite when there is nothing to come.
    pub fn next_at(&self) -> f64 {
        self.entries.peek().map_or(f64::INFINITY, |entry| entry.at)
    }

    /// Takes the earliest out.
    pub fn pop(&mut self) -> Option<T> {
        self.entries.pop().map(|entry| entry.what)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to come.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its largest.
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_then_in_order_of_entry() {
        let mut agenda = Agenda::default();
        for (at, what) in [(2.0, 'c'), (1.0, 'a'), (2.0, 'd'), (1.0, 'b')] {
            agenda.push(at, what);
        }
        assert_eq!((agenda.next_at(), agenda.len(), agenda.is_empty()), (1.0, 4, false));
        assert_eq!(std::iter::from_fn(|| agenda.pop()).collect::<String>(), "abcd");
        assert_eq!(agenda.next_at(), f64::INFINITY);
    }
}
