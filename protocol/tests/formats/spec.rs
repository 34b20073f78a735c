//! Holds `SPEC.md` and the code together. Tables that the code can write are regenerated and compared (`UPDATE_SPEC=1` writes
//! them); byte tables and worked examples, which people wrote, are checked against what the code encodes.

use crate::spec_tables;
use tidelog_protocol::api::{Api, message_specs};
use tidelog_protocol::frame::{self, Flags, FrameKind, FrameLimits, Header, Preface};
use tidelog_protocol::messages::{Fault, PingRequest, PingResponse};
use tidelog_protocol::records::{
    Attributes, BatchBuilder, BatchHeader, Compression, ControlRecord, NO_HEADERS, control_batch,
};
use tidelog_protocol::{
    CorrelationId, ErrorCode, LeaderEpoch, Message, Offset, ProducerEpoch, ProducerId, ProtocolVersion, Sequence,
    Timestamp, WireError,
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/SPEC.md");
const V1: ProtocolVersion = ProtocolVersion(1);

fn text() -> String {
    std::fs::read_to_string(PATH).unwrap()
}

/// `text` with the lines between the markers of `name` replaced; `None` where the markers are missing.
fn with_section(text: &str, name: &str, content: &str) -> Option<String> {
    let open = format!("<!-- generated: {name} -->\n");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find("<!-- end -->")?;
    Some(format!("{}{content}{}", &text[..start], &text[end..]))
}

#[test]
fn generated_tables_are_those_of_the_code() {
    let written = text();
    let mut expected = written.clone();
    for (name, content) in spec_tables::sections() {
        expected = with_section(&expected, name, &content)
            .unwrap_or_else(|| panic!("SPEC.md has no section between markers named '{name}'"));
    }
    if std::env::var_os("UPDATE_SPEC").is_some() {
        std::fs::write(PATH, &expected).unwrap();
    } else if let Some((number, (is, should))) =
        written.lines().zip(expected.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!("SPEC.md:{}\n  says      {is}\n  code says {should}\nrun with UPDATE_SPEC=1 and review", number + 1);
    } else {
        assert!(written == expected, "SPEC.md lacks generated lines at its end; run with UPDATE_SPEC=1");
    }
}

#[test]
fn no_generated_section_is_left_without_its_table() {
    let known: Vec<_> = spec_tables::sections().into_iter().map(|(name, _)| name).collect();
    for line in text().lines() {
        if let Some(name) = line.strip_prefix("<!-- generated: ").and_then(|rest| rest.strip_suffix(" -->")) {
            assert!(known.contains(&name), "nothing generates '{name}'");
        }
    }
}

#[test]
fn every_type_that_a_message_names_is_specified() {
    let nested = spec_tables::nested();
    let enums = spec_tables::wire_enums();
    let fields = message_specs().into_iter().flat_map(|spec| spec.fields);
    for field in fields.chain(nested.iter().flat_map(|(_, _, fields)| fields.clone())) {
        let bare = field.type_name.replace("optional ", "").replace("list of ", "");
        let name = bare.split(" (").next().unwrap_or_default();
        let is_enum = bare.contains("(u8: ");
        let is_scalar = !is_enum && (bare.contains(" (") || is_raw(name));
        let is_specified = is_scalar
            || nested.iter().any(|(known, _, _)| *known == name)
            || enums.iter().any(|(known, _)| *known == name);
        assert!(is_specified, "'{}' has type '{}', which SPEC.md does not specify", field.name, field.type_name);
    }
}

/// The types of the table in the section "Field encodings" that need no more words.
fn is_raw(name: &str) -> bool {
    assert!(text().contains("### Field encodings"));
    ["u8", "u16", "u32", "u64", "i16", "i32", "i64", "16 bytes"].contains(&name)
}

/// The rows `| at | bytes | field | ...` of the table under the heading `heading`.
fn byte_table(text: &str, heading: &str) -> Vec<(usize, usize, String)> {
    let section = text.split(&format!("# {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading '{heading}'"));
    let rows = section.lines().skip_while(|line| !line.starts_with("| at |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells[1].parse().unwrap(), cells[2].parse().unwrap(), cells[3].to_owned())
        })
        .collect()
}

/// Asserts that the rows leave no byte of `total` out, and that `changed`, the bytes which differ once a field is changed,
/// lie in that field's row or in a row whose value follows from others.
fn assert_field(rows: &[(usize, usize, String)], field: &str, before: &[u8], after: &[u8], derived: &[&str]) {
    let row = |name: &str| rows.iter().find(|(_, _, n)| n == name).unwrap_or_else(|| panic!("no row '{name}'"));
    let within = |name: &str, at: usize| (row(name).0..row(name).0 + row(name).1).contains(&at);
    let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
    assert!(changed.iter().any(|at| within(field, *at)), "changing '{field}' changed none of its bytes: {changed:?}");
    let strays: Vec<_> =
        changed.iter().filter(|at| !within(field, **at) && !derived.iter().any(|name| within(name, **at))).collect();
    assert!(strays.is_empty(), "changing '{field}' also changed bytes {strays:?}");
}

fn assert_gapless(rows: &[(usize, usize, String)], total: usize) {
    let mut next = 0;
    for (at, bytes, name) in rows {
        assert_eq!(*at, next, "row '{name}' does not begin where the one before ends");
        next = at + bytes;
    }
    assert_eq!(next, total);
}

#[test]
fn the_byte_table_of_the_preface_is_right() {
    let rows = byte_table(&text(), "Preface");
    assert_gapless(&rows, frame::PREFACE_BYTES);
    let base = Preface { version: ProtocolVersion(0), features: 0 };
    assert_field(&rows, "magic", &[0; 8], &base.encode(), &[]);
    let version = Preface { version: ProtocolVersion(0xffff), ..base };
    assert_field(&rows, "version", &base.encode(), &version.encode(), &[]);
    assert_field(&rows, "features", &base.encode(), &Preface { features: 0xffff, ..base }.encode(), &[]);
}

#[test]
fn the_byte_table_of_the_frame_header_is_right() {
    let rows = byte_table(&text(), "Frame header");
    assert_gapless(&rows, frame::HEADER_BYTES);
    let base = Header {
        kind: FrameKind::Request,
        flags: Flags(0),
        api: 0,
        correlation: CorrelationId(0),
        timeout_ms: 0,
        body_bytes: 0,
        payload_bytes: 0,
    };
    let changed = [
        ("kind", Header { kind: FrameKind::Push, ..base }),
        ("flags", Header { flags: Flags(0xff), ..base }),
        ("api", Header { api: 0xffff, ..base }),
        ("correlation id", Header { correlation: CorrelationId(u64::MAX), ..base }),
        ("timeout", Header { timeout_ms: u32::MAX, ..base }),
        ("frame length", Header { payload_bytes: 0x7f00_0000, ..base }),
    ];
    for (field, header) in changed {
        assert_field(&rows, field, &base.encode(&[]), &header.encode(&[]), &["checksum"]);
    }
    let body = [7; 300];
    let header = Header { body_bytes: 300, ..base };
    assert_field(&rows, "body length", &base.encode(&[]), &header.encode(&[&body]), &["frame length", "checksum"]);
}

#[test]
fn the_byte_table_of_the_batch_header_is_right() {
    let rows = byte_table(&text(), "Batch header");
    assert_gapless(&rows, tidelog_protocol::records::HEADER_BYTES);
    let base = BatchHeader {
        base_offset: Offset(0),
        batch_length: 0,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: 0,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ProducerId(0),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(0),
        record_count: 0,
    };
    assert_field(&rows, "magic", &[0; 61], &base.encode(), &["leader epoch"]);
    let changed = [
        ("base offset", BatchHeader { base_offset: Offset(u64::MAX), ..base }),
        ("batch length", BatchHeader { batch_length: u32::MAX, ..base }),
        ("leader epoch", BatchHeader { leader_epoch: Some(LeaderEpoch(0)), ..base }),
        ("checksum", BatchHeader { crc: u32::MAX, ..base }),
        ("attributes", BatchHeader { attributes: Attributes(u16::MAX), ..base }),
        ("last offset delta", BatchHeader { last_offset_delta: u32::MAX, ..base }),
        ("base timestamp", BatchHeader { base_timestamp: Timestamp(-1), ..base }),
        ("max timestamp", BatchHeader { max_timestamp: Timestamp(-1), ..base }),
        ("producer id", BatchHeader { producer_id: ProducerId(-1), ..base }),
        ("producer epoch", BatchHeader { producer_epoch: ProducerEpoch(-1), ..base }),
        ("base sequence", BatchHeader { base_sequence: Sequence(-1), ..base }),
        ("record count", BatchHeader { record_count: u32::MAX, ..base }),
    ];
    for (field, header) in changed {
        assert_field(&rows, field, &base.encode(), &header.encode(), &[]);
    }
}

/// The bytes of the worked example `name`: hexadecimal up to `;` on each line of the block behind its marker.
fn example(text: &str, name: &str) -> Vec<u8> {
    let marker = format!("<!-- example: {name} -->\n```text\n");
    let block = text.split(&marker).nth(1).unwrap_or_else(|| panic!("no example '{name}'"));
    let digits: Vec<u8> = (block.lines().take_while(|line| *line != "```"))
        .flat_map(|line| line.split(';').next().unwrap_or_default().chars())
        .filter_map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn framed(header: Header, body: &[u8]) -> Vec<u8> {
    let header = Header { body_bytes: body.len() as u32, ..header };
    let bytes = [&header.encode(&[body])[..], body].concat();
    assert_eq!(Header::decode(bytes.first_chunk().unwrap(), FrameLimits::HANDSHAKE), Ok(header));
    bytes
}

fn assert_example(name: &str, encoded: &[u8]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let shown = example(&text(), name);
    assert_eq!(hex(&shown), hex(encoded), "the example '{name}' is not what the code writes");
}

#[test]
fn the_worked_examples_of_frames_are_what_the_code_writes() {
    assert_example("preface", &Preface { version: V1, features: 0 }.encode());

    let request = Header {
        kind: FrameKind::Request,
        flags: Flags(0),
        api: Api::Ping as u16,
        correlation: CorrelationId(1),
        timeout_ms: 5_000,
        body_bytes: 0,
        payload_bytes: 0,
    };
    assert_example("ping request", &framed(request, &PingRequest {}.to_body(V1)));

    let response = Header { kind: FrameKind::Response, timeout_ms: 0, ..request };
    let body = PingResponse { broker_time: Timestamp(1_700_000_000_000) }.to_body(V1);
    assert_example("ping response", &framed(response, &body));

    let fault = WireError { retry_after_ms: 250, ..WireError::new(ErrorCode::Overloaded, "busy") };
    let fault_header = Header { flags: Flags::FAULT, ..response };
    assert_example("fault", &framed(fault_header, &Fault::from(fault).to_body(V1)));
}

#[test]
fn the_worked_examples_of_batches_are_what_the_code_writes() {
    let mut builder = BatchBuilder::new(1024);
    builder.append(Timestamp(1_700_000_000_000), Some(b"k"), Some(b"hello"), NO_HEADERS).unwrap();
    builder.append(Timestamp(1_700_000_000_003), None, Some(b""), [("h", None)]).unwrap();
    assert_example("batch", &builder.finish(Compression::None).unwrap());

    let marker = ControlRecord::Commit { coordinator_epoch: 3 };
    assert_example("commit", &control_batch(marker, ProducerId(7), ProducerEpoch(1), Timestamp(1_700_000_000_000)));
}

#[test]
fn the_checks_of_this_file_can_fail() {
    let page = "# T\n| at | bytes | field |\n|---|---|---|\n| 0 | 2 | a |\n| 2 | 1 | b |\n\n\
        <!-- generated: x -->\nold\n<!-- end -->\n<!-- example: e -->\n```text\n0a ff ; x\n01\n```\n";
    let rows = byte_table(page, "T");
    assert_eq!(rows, [(0, 2, "a".to_owned()), (2, 1, "b".to_owned())]);
    assert_eq!(with_section(page, "x", "new\n").unwrap(), page.replace("old", "new"));
    assert_eq!(with_section(page, "y", ""), None);
    assert_eq!(example(page, "e"), [0x0a, 0xff, 0x01]);
    let fails = |check: &(dyn Fn() + std::panic::RefUnwindSafe)| std::panic::catch_unwind(check).is_err();
    let gaps = [(0, 2, "a".to_owned()), (3, 1, "b".to_owned())];
    assert!(fails(&|| assert_gapless(&gaps, 4)));
    let rows = rows.clone();
    assert!(fails(&|| assert_field(&rows, "a", &[0, 0, 0], &[0, 0, 1], &[])));
    assert!(fails(&|| assert_field(&rows, "a", &[0, 0, 0], &[1, 0, 1], &[])));
    assert!(!fails(&|| assert_field(&rows, "a", &[0, 0, 0], &[1, 0, 1], &["b"])));
    assert!(!fails(&|| assert_field(&rows, "b", &[0, 0, 0], &[0, 0, 1], &[])));
}
