//! Escapes on the command line, where tabs and zero bytes are hard to type: `\t \n \r \0 \\ \xNN`.

/// The bytes that `text` stands for.
///
/// # Errors
/// A sentence for the command line.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('t') => bytes.push(b'\t'),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('0') => bytes.push(0),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => match (rest.next().and_then(|c| c.to_digit(16)), rest.next().and_then(|c| c.to_digit(16))) {
                (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
                _ => return Err(format!("\\x in '{text}' needs two hexadecimal digits, such as \\x1f")),
            },
            Some(other) => {
                return Err(format!("no escape '\\{other}'; the escapes are \\t \\n \\r \\0 \\\\ and \\xNN"));
            }
            None => return Err(format!("'{text}' ends in a lone backslash; write \\\\ for a backslash")),
        }
    }
    Ok(bytes)
}

/// As [`unescape`], for separators, which must not be empty.
///
/// # Errors
/// As [`unescape`], and for no bytes at all.
pub fn unescape_separator(text: &str) -> Result<bytes::Bytes, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("a separator must have at least one character".into()),
        bytes => Ok(bytes.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_their_bytes() {
        assert_eq!(unescape(r"a\t\n\r\0\\\xfFä").unwrap(), b"a\t\n\r\0\\\xff\xc3\xa4");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in [r"\q", r"\x1", r"\xzz", "\\"] {
            assert!(unescape(text).is_err(), "{text}");
        }
        assert!(unescape_separator("").is_err());
        assert_eq!(unescape_separator(r"\t").unwrap(), "\t");
    }
}
