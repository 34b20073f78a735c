//! Escapes: on the command line, where tabs and zero bytes are hard to type, `\t \n \r \0 \\ \xNN`; and of others' text on its way to a terminal.

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

/// Text for a terminal, on one line and without what would steer it: as it is where it holds nothing of that kind, else with that escaped as
/// in Rust, and backslashes with it.
#[must_use]
pub fn printable(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    let but = |kept: &[char]| {
        let (mut shown, mut rest) = (String::with_capacity(escaped.len()), escaped.chars().peekable());
        while let Some(character) = rest.next() {
            match (character, rest.next_if(|next| character == '\\' && (kept.contains(next) || *next == '\\'))) {
                ('\\', Some('\\')) if !kept.contains(&'\\') => shown.push_str("\\\\"),
                (_, Some(kept)) => shown.push(kept),
                (other, None) => shown.push(other),
            }
        }
        shown
    };
    let plain = but(&['\'', '"', '\\']);
    if plain == text { plain } else { but(&['\'', '"']) }
}

/// The text that [`printable`] shows as this, where it shows any but this itself so.
#[must_use]
pub fn printed(shown: &str) -> Option<String> {
    let (mut text, mut rest) = (String::with_capacity(shown.len()), shown);
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let mut behind = escape.chars();
        text.push(match behind.next()? {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            '0' => '\0',
            '\\' => '\\',
            'u' => {
                let (digits, after) = behind.as_str().strip_prefix('{')?.split_once('}')?;
                behind = after.chars();
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            _ => return None,
        });
        rest = behind.as_str();
    }
    text.push_str(rest);
    (text != shown).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_steers_no_terminal_and_stands_for_the_text() {
        for plain in ["no such customer 'x'", r"cannot open C:\new", "\"quoted\"", "naïve 漢字"] {
            assert_eq!(printable(plain), plain);
        }
        for text in ["\x1b[2J it's", "two\nlines", "a\tb\\n\u{202e}", "\0\r\u{7f}\\"] {
            let shown = printable(text);
            assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown}");
            assert!(!shown.contains("\\'"), "{shown}");
            assert_eq!(printed(&shown).as_deref(), Some(text), "{shown}");
        }
        for nothing in ["plain", r"\d", r"\", r"\u{}", r"\u{d800}", ""] {
            assert_eq!(printed(nothing), None, "{nothing}");
        }
    }

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
