//! How `consume` prints a record: its value, a template such as `%k\t%v`, or a JSON object per line. Writes bytes, not text,
//! so that a value comes out as it went in. Knows nothing of where records come from.

use std::io::{self, Write};
use std::str::FromStr;

use serde_json::{Map, Value, json};
use tidelog_protocol::{Offset, PartitionId, Timestamp};

use crate::base64::encode_base64;
use crate::escape::unescape;
use crate::start_position::display_time;

/// What `--format` takes, for `--help`.
pub const FORMAT_HELP: &str = "\
value, json, or a template. In a template:
  %v value   %k key   %h headers (name=value, comma between)
  %t topic   %p partition   %o offset
  %T timestamp (ms since 1970)   %D timestamp (RFC 3339)   %% a percent sign
  and the escapes \\t \\n \\r \\0 \\\\ \\xNN.
A newline follows each record.";

/// A record as it is printed.
#[derive(Clone, Debug)]
pub struct PrintedRecord<'a> {
    /// Its topic; empty where it is not known, which leaves topic and partition out of JSON.
    pub topic: &'a str,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key, where it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order; left empty where the format does not print them.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// How a record is printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordFormat {
    /// The value's bytes.
    Value,
    /// A JSON object.
    Json,
    /// Text and fields in turn.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// These bytes as they are.
    Literal(Vec<u8>),
    /// The value; nothing for a tombstone.
    RecordValue,
    /// The key; nothing where there is none.
    Key,
    /// The headers.
    Headers,
    /// The topic's name.
    Topic,
    /// The partition's index.
    Partition,
    /// The offset.
    Offset,
    /// The timestamp in milliseconds.
    TimestampMillis,
    /// The timestamp as RFC 3339.
    Date,
}

impl FromStr for RecordFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "value" => Ok(Self::Value),
            "json" => Ok(Self::Json),
            _ if !text.contains('%') => Err(format!(
                "'{text}' would print the same for every record; write value, json or a template such as '%k\\t%v'"
            )),
            _ => parse_template(&unescape(text)?).map(Self::Template),
        }
    }
}

fn parse_template(text: &[u8]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            literal.push(byte);
            continue;
        }
        let field = match bytes.next() {
            Some(b'%') => {
                literal.push(b'%');
                continue;
            }
            Some(b'v') => Piece::RecordValue,
            Some(b'k') => Piece::Key,
            Some(b'h') => Piece::Headers,
            Some(b't') => Piece::Topic,
            Some(b'p') => Piece::Partition,
            Some(b'o') => Piece::Offset,
            Some(b'T') => Piece::TimestampMillis,
            Some(b'D') => Piece::Date,
            Some(other) => {
                return Err(format!("no field '%{}'; the fields are %v %k %h %t %p %o %T %D and %%", other as char));
            }
            None => return Err("the template ends in a lone '%'; write %% for a percent sign".into()),
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(field);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

impl RecordFormat {
    /// True where headers are printed, so that they have to be read at all.
    #[must_use]
    pub fn prints_headers(&self) -> bool {
        match self {
            Self::Value => false,
            Self::Json => true,
            Self::Template(pieces) => pieces.contains(&Piece::Headers),
        }
    }

    /// Writes one record and a newline.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, record: &PrintedRecord<'_>, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Value => out.write_all(record.value.unwrap_or_default())?,
            Self::Json => serde_json::to_writer(&mut *out, &record_json(record))?,
            Self::Template(pieces) => {
                for piece in pieces {
                    write_piece(piece, record, out)?;
                }
            }
        }
        out.write_all(b"\n")
    }
}

fn write_piece(piece: &Piece, record: &PrintedRecord<'_>, out: &mut impl Write) -> io::Result<()> {
    match piece {
        Piece::Literal(bytes) => out.write_all(bytes),
        Piece::RecordValue => out.write_all(record.value.unwrap_or_default()),
        Piece::Key => out.write_all(record.key.unwrap_or_default()),
        Piece::Topic => out.write_all(record.topic.as_bytes()),
        Piece::Partition => write!(out, "{}", record.partition),
        Piece::Offset => write!(out, "{}", record.offset),
        Piece::TimestampMillis => write!(out, "{}", record.timestamp),
        Piece::Date => out.write_all(display_time(record.timestamp).as_bytes()),
        Piece::Headers => {
            for (at, (name, value)) in record.headers.iter().enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                out.write_all(name)?;
                out.write_all(b"=")?;
                out.write_all(value.unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

/// A record as a JSON object. A key or value that is not UTF-8 appears as `key_base64` or `value_base64` instead; absent is `null`.
#[must_use]
pub fn record_json(record: &PrintedRecord<'_>) -> Value {
    let mut object = Map::new();
    if !record.topic.is_empty() {
        object.insert("topic".into(), json!(record.topic));
        object.insert("partition".into(), json!(record.partition.0));
    }
    object.insert("offset".into(), json!(record.offset.0));
    object.insert("timestamp_ms".into(), json!(record.timestamp.0));
    object.insert("time".into(), json!(display_time(record.timestamp)));
    insert_bytes(&mut object, "key", record.key);
    insert_bytes(&mut object, "value", record.value);
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".into(), json!(String::from_utf8_lossy(name)));
        insert_bytes(&mut header, "value", *value);
        Value::Object(header)
    });
    object.insert("headers".into(), headers.collect());
    Value::Object(object)
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => object.insert(name.into(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.into(), json!(text)),
        Some((bytes, Err(_))) => object.insert(format!("{name}_base64"), json!(encode_base64(bytes))),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> PrintedRecord<'a> {
        PrintedRecord {
            topic: "logs",
            partition: PartitionId(2),
            offset: Offset(41),
            timestamp: Timestamp(1500),
            key,
            value,
            headers: vec![(b"trace", Some(b"abc")), (b"empty", None)],
        }
    }

    fn printed(format: &str, record: &PrintedRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        format.parse::<RecordFormat>().unwrap().write(record, &mut out).unwrap();
        out
    }

    #[test]
    fn values_come_out_byte_for_byte() {
        assert_eq!(printed("value", &record(None, Some(b"\xff\0\r"))), b"\xff\0\r\n");
        assert_eq!(printed("value", &record(None, None)), b"\n");
    }

    #[test]
    fn a_template_prints_every_field() {
        let record = record(Some(b"k"), Some(b"v\xff"));
        assert_eq!(printed(r"%k\t%v", &record), b"k\tv\xff\n");
        assert_eq!(printed("%t/%p@%o %T %D 100%%", &record), b"logs/2@41 1500 1970-01-01T00:00:01.500Z 100%\n");
        assert_eq!(printed(r"%h\x21\0\\", &record), b"trace=abc,empty=!\0\\\n");
    }

    #[test]
    fn json_says_when_bytes_are_not_text() {
        let line = printed("json", &record(None, Some(b"\xff")));
        let object: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["value_base64"], "/w==");
        assert_eq!(object["key"], Value::Null);
        assert_eq!(object.get("value"), None);
        assert_eq!(object["offset"], 41);
        assert_eq!(object["headers"][0], json!({"name": "trace", "value": "abc"}));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_bad_template_is_refused_with_the_fields_there_are() {
        for (text, part) in [
            ("%x", "no field '%x'; the fields are %v %k"),
            ("100%", "lone '%'"),
            ("text", "same for every record"),
            (r"%v\q", r"no escape '\q'"),
            (r"%v\x4", "two hexadecimal digits"),
        ] {
            let refused = text.parse::<RecordFormat>().unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    #[test]
    fn headers_are_read_only_where_they_are_printed() {
        assert!("json".parse::<RecordFormat>().unwrap().prints_headers());
        assert!("%h".parse::<RecordFormat>().unwrap().prints_headers());
        assert!(!"%k%v".parse::<RecordFormat>().unwrap().prints_headers());
    }
}
