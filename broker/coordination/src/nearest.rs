//! The known name nearest to one that was misspelt, for "did you mean". Knows nothing of what the names stand for.

use alloc::vec::Vec;

/// The candidate that differs from `name` by the fewest inserted, deleted or replaced bytes; `None` where even that is more
/// than a third of its length, because such a guess would mislead.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names arrive from outside: the work is bounded before it is done.
    if name.len() > 64 {
        return None;
    }
    let (distance, best) = candidates.into_iter().map(|known| (distance(name, known), known)).min()?;
    (distance * 3 <= best.len()).then_some(best)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["retention.ms", "retention.bytes", "durability"];

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("retention_ms", KEYS), Some("retention.ms"));
        assert_eq!(nearest("Retention.Byte", KEYS), Some("retention.bytes"));
        assert_eq!(nearest("durabilty", KEYS), Some("durability"));
    }

    #[test]
    fn a_wild_guess_is_not_offered() {
        assert_eq!(nearest("colour", KEYS), None);
        assert_eq!(nearest(&"retention.ms".repeat(1_000), KEYS), None);
    }
}
