//! Cuts a stream of bytes into lines. Lines are bytes, not text: nothing is decoded, trimmed or normalised; a carriage
//! return stays where it is, and a last line without its newline counts as a line. Knows nothing of where the bytes come from.

use bytes::{Bytes, BytesMut};

/// A line is longer than the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineTooLong {
    /// Its number, from 1.
    pub line: u64,
    /// The limit, in bytes.
    pub bytes_max: usize,
}

/// Cuts chunks into lines. A line inside one chunk is a slice of it; only a line that spans chunks is copied.
#[derive(Debug)]
pub struct LineSplitter {
    /// The front of a line whose newline has not come yet.
    partial: BytesMut,
    bytes_max: usize,
    lines: u64,
}

impl LineSplitter {
    /// A splitter that refuses lines over `bytes_max`, so that endless input without newlines cannot take all memory.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { partial: BytesMut::new(), bytes_max, lines: 0 }
    }

    /// Takes the next chunk and adds the lines that end in it, without their newlines, to `lines`.
    ///
    /// # Errors
    /// [`LineTooLong`]; the lines before it have been added.
    pub fn push(&mut self, chunk: &Bytes, lines: &mut Vec<Bytes>) -> Result<(), LineTooLong> {
        let mut from = 0;
        while let Some(length) = chunk[from..].iter().position(|byte| *byte == b'\n') {
            self.check_length(length)?;
            self.lines += 1;
            if self.partial.is_empty() {
                lines.push(chunk.slice(from..from + length));
            } else {
                self.partial.extend_from_slice(&chunk[from..from + length]);
                lines.push(self.partial.split().freeze());
            }
            from += length + 1;
        }
        self.check_length(chunk.len() - from)?;
        self.partial.extend_from_slice(&chunk[from..]);
        Ok(())
    }

    /// The input has ended: the last line, where it has no newline.
    #[must_use]
    pub fn finish(self) -> Option<Bytes> {
        if self.partial.is_empty() { None } else { Some(self.partial.freeze()) }
    }

    fn check_length(&self, more: usize) -> Result<(), LineTooLong> {
        if self.partial.len() + more > self.bytes_max {
            return Err(LineTooLong { line: self.lines + 1, bytes_max: self.bytes_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `input`, handed over in chunks of `chunk_bytes`.
    fn lines_of(input: &[u8], chunk_bytes: usize) -> Vec<Bytes> {
        let mut splitter = LineSplitter::new(1000);
        let mut lines = Vec::new();
        for chunk in input.chunks(chunk_bytes) {
            splitter.push(&Bytes::copy_from_slice(chunk), &mut lines).unwrap();
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn chunks_of_any_size_give_the_same_lines() {
        let input = b"one\r\n\n\xff\xfe not text\nlast \0 line";
        let expected: [&[u8]; 4] = [b"one\r", b"", b"\xff\xfe not text", b"last \0 line"];
        for chunk_bytes in 1..=input.len() {
            assert_eq!(lines_of(input, chunk_bytes), expected, "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn a_last_newline_does_not_add_a_line() {
        assert_eq!(lines_of(b"a\nb\n", 3), ["a", "b"]);
        assert_eq!(lines_of(b"a\nb", 3), ["a", "b"]);
        assert_eq!(lines_of(b"\n", 3), [""]);
        assert!(lines_of(b"", 3).is_empty());
    }

    #[test]
    fn an_endless_line_is_refused_by_its_number() {
        let mut splitter = LineSplitter::new(4);
        let mut lines = Vec::new();
        splitter.push(&Bytes::from_static(b"1234\n56"), &mut lines).unwrap();
        let refused = splitter.push(&Bytes::from_static(b"789"), &mut lines);
        assert_eq!(refused, Err(LineTooLong { line: 2, bytes_max: 4 }));
        assert_eq!(lines, ["1234"]);
    }
}
