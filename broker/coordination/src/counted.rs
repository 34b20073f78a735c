//! A count with its noun, as sentences need it. No logic.

use alloc::format;
use alloc::string::String;

/// `1 partition`, `3 partitions`.
#[must_use]
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural_and_none_is() {
        assert_eq!(
            [0_u32, 1, 2].map(|count| counted(count, "partition")),
            ["0 partitions", "1 partition", "2 partitions"]
        );
    }
}
