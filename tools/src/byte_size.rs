//! Sizes in bytes on the command line (`256KiB`, `1MB`) and for people (`1.5 GiB`), and counts for people. Knows nothing of what is sized.

/// Reads a size: a number with or without a unit. `KiB`, `MiB`, `GiB` count in steps of 1024; `KB`, `MB`, `GB` in steps of 1000.
///
/// # Errors
/// A sentence for the command line, naming the text and an example.
pub fn parse_byte_size(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is no size in bytes; write 1000, 256KiB or 1MB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(refused()),
    };
    number.checked_mul(factor).ok_or_else(refused)
}

/// As [`parse_byte_size`], for sizes that must fit 32 bits and not be zero.
///
/// # Errors
/// As [`parse_byte_size`], and for zero or over 2 GiB.
pub fn parse_small_byte_size(text: &str) -> Result<u32, String> {
    match parse_byte_size(text)? {
        0 => Err("must be at least 1 byte".into()),
        size if size > 1 << 31 => Err(format!("'{text}' is too large; the limit is 2GiB")),
        size => Ok(size as u32),
    }
}

/// A size for people, in steps of 1024.
#[must_use]
pub fn display_byte_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count for people, with a comma between thousands: `1,234,567`.
#[must_use]
pub fn display_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 partition`, `3 partitions`.
#[must_use]
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    format!("{} {noun}{}", display_count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, expected) in [
            ("100", 100),
            ("1KB", 1000),
            ("256KiB", 262_144),
            ("256k", 262_144),
            ("1 MiB", 1_048_576),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse_byte_size(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "KB", "-1", "1.5MB", "5 elephants", "99999999999GiB"] {
            assert!(parse_byte_size(text).unwrap_err().contains("256KiB"), "{text}");
        }
        assert!(parse_small_byte_size("0").is_err());
        assert!(parse_small_byte_size("3GiB").is_err());
        assert_eq!(parse_small_byte_size("1KiB"), Ok(1024));
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(display_byte_size(512), "512 B");
        assert_eq!(display_byte_size(1536), "1.5 KiB");
        assert_eq!(display_byte_size(200 << 20), "200 MiB");
        assert_eq!(display_count(0), "0");
        assert_eq!(display_count(999), "999");
        assert_eq!(display_count(1_234_567), "1,234,567");
        assert_eq!(counted(1u32, "partition"), "1 partition");
        assert_eq!(counted(1200u32, "record"), "1,200 records");
    }
}
