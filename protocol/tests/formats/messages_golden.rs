//! Every message of the API table and a frame of every kind, kept as bytes with the values they stand for: what was once written
//! must mean the same for ever. Lines are only added (`UPDATE_GOLDEN=1`), when a message or a protocol version is new; the
//! bytes of a line that exists are never rewritten.

use std::collections::BTreeMap;
use std::fmt::Write;

use tidelog_protocol::api::{Api, MessageSpec, message_specs};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::frame::{Flags, FrameKind, FrameLimits, HEADER_BYTES, Header, TRACE_BYTES, verify};
use tidelog_protocol::{CorrelationId, ProtocolVersion};

const MESSAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/messages.txt");
const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/frames.txt");
/// Several of each message, so that optional fields are there and absent, and numbers at their bounds.
const SEEDS: u64 = 4;

/// Protocol version, message, seed.
type Key = (u16, String, u64);
/// Bytes, and what they show.
type Golden = (Vec<u8>, String);

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Two lines to an entry: `VERSION NAME SEED HEX`, and the value behind four blanks.
fn parse(text: &str) -> BTreeMap<Key, Golden> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut entries = BTreeMap::new();
    for pair in lines.chunks(2) {
        let [version, name, seed, bytes] = pair[0].split(' ').collect::<Vec<_>>()[..] else { panic!("{}", pair[0]) };
        let key = (version.parse().unwrap(), name.to_owned(), seed.parse().unwrap());
        let old = entries.insert(key, (unhex(bytes), pair[1].strip_prefix("    ").unwrap().to_owned()));
        assert!(old.is_none(), "{} stands twice", pair[0]);
    }
    entries
}

fn golden() -> BTreeMap<Key, Golden> {
    parse(&std::fs::read_to_string(MESSAGES).unwrap_or_default())
}

fn versions() -> impl Iterator<Item = ProtocolVersion> {
    (ProtocolVersion::OLDEST.0..=ProtocolVersion::CURRENT.0).map(ProtocolVersion)
}

fn spec(name: &str) -> MessageSpec {
    let found = message_specs().into_iter().find(|spec| spec.name == name);
    found.unwrap_or_else(|| panic!("{name} is gone from the table, though its bytes may still be sent"))
}

#[test]
fn every_message_has_golden_bytes_at_every_version_spoken() {
    let mut entries = golden();
    for spec in message_specs() {
        for version in versions() {
            for seed in 0..SEEDS {
                let key = (version.0, spec.name.to_owned(), seed);
                if !updating() {
                    assert!(entries.contains_key(&key), "{key:?} is missing; run with UPDATE_GOLDEN=1");
                    continue;
                }
                let (bytes, shown) = entries.entry(key).or_default();
                if shown.is_empty() {
                    *bytes = (spec.sample)(&mut Entropy::new(seed), version);
                }
                // A newer release shows more fields of the same bytes.
                *shown = (spec.show)(bytes, version).unwrap();
            }
        }
    }
    if updating() {
        let mut text = String::from("# VERSION NAME SEED BYTES, then what they mean. Lines are only ever added.\n");
        for ((version, name, seed), (bytes, shown)) in entries {
            writeln!(text, "{version} {name} {seed} {}\n    {shown}", hex(&bytes)).unwrap();
        }
        std::fs::write(MESSAGES, text).unwrap();
    }
}

#[test]
fn golden_bytes_mean_what_they_meant_and_are_written_the_same() {
    for ((version, name, seed), (bytes, shown)) in golden() {
        let (spec, version) = (spec(&name), ProtocolVersion(version));
        assert_eq!((spec.show)(&bytes, version).as_ref(), Ok(&shown), "{name} seed {seed}");
        assert_eq!((spec.reencode)(&bytes, version), Ok(bytes), "{name} seed {seed}");
    }
}

#[test]
fn bytes_of_every_spoken_version_are_read_alike_at_every_other() {
    for ((written, name, seed), (bytes, shown)) in golden() {
        for read in versions() {
            // Newer to older: fields that the reader's version lacks read as their defaults, and nothing else differs.
            if read.0 >= written {
                assert_eq!((spec(&name).show)(&bytes, read).as_ref(), Ok(&shown), "{name} seed {seed} at {read}");
            } else {
                assert!((spec(&name).show)(&bytes, read).is_ok(), "{name} seed {seed} at {read}");
            }
        }
    }
}

#[test]
fn bytes_after_the_last_known_field_are_skipped() {
    for ((version, name, seed), (mut bytes, shown)) in golden() {
        bytes.extend_from_slice(b"from a later version");
        let version = ProtocolVersion(version);
        assert_eq!((spec(&name).show)(&bytes, version), Ok(shown), "{name} seed {seed}");
    }
}

/// Name, header, body and payload of a frame of every kind.
fn frames() -> Vec<(&'static str, Header, Vec<u8>, Vec<u8>)> {
    let header = |kind, flags, api: Api, correlation, timeout_ms| Header {
        kind,
        flags,
        api: api as u16,
        correlation: CorrelationId(correlation),
        timeout_ms,
        body_bytes: 0,
        payload_bytes: 0,
    };
    let plain = Flags::default();
    let trace = vec![0x5a; TRACE_BYTES];
    let both = Flags(Flags::FAULT.0 | Flags::TRACE.0);
    vec![
        ("request", header(FrameKind::Request, plain, Api::Metadata, 1, 30_000), b"body".to_vec(), vec![]),
        ("request-with-payload", header(FrameKind::Request, plain, Api::Produce, 2, 0), b"body".to_vec(), vec![1; 9]),
        (
            "request-traced",
            header(FrameKind::Request, Flags::TRACE, Api::Ping, u64::MAX, u32::MAX),
            trace.clone(),
            vec![],
        ),
        ("response", header(FrameKind::Response, plain, Api::Ping, 3, 0), vec![0; 8], vec![]),
        ("response-fault", header(FrameKind::Response, Flags::FAULT, Api::Produce, 4, 0), b"fault".to_vec(), vec![]),
        ("response-fault-traced", header(FrameKind::Response, both, Api::Produce, 4, 0), trace, vec![]),
        ("push", header(FrameKind::Push, plain, Api::StreamItem, 5, 0), b"item".to_vec(), vec![2; 3]),
        ("signal", header(FrameKind::Signal, plain, Api::Credit, 0, 0), b"credit".to_vec(), vec![]),
    ]
}

#[test]
fn frames_are_written_and_read_as_they_always_were() {
    let mut text = String::from("# NAME BYTES. Lines are only ever added.\n");
    for (name, header, body, payload) in frames() {
        let header = Header { body_bytes: body.len() as u32, payload_bytes: payload.len() as u32, ..header };
        writeln!(text, "{name} {}", hex(&[&header.encode(&[&body])[..], &body, &payload].concat())).unwrap();
    }
    if updating() {
        std::fs::write(FRAMES, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(FRAMES).unwrap(), text);

    let lines = text.lines().skip(1);
    for ((name, header, body, payload), line) in frames().into_iter().zip(lines) {
        let bytes = unhex(line.split(' ').nth(1).unwrap());
        let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        let read = Header::decode(head, FrameLimits::HANDSHAKE).unwrap();
        assert_eq!(verify(head, &rest[..read.body_bytes as usize]), Ok(()), "{name}");
        assert_eq!(rest, [body.clone(), payload.clone()].concat(), "{name}");
        assert_eq!(
            read,
            Header { body_bytes: body.len() as u32, payload_bytes: payload.len() as u32, ..header },
            "{name}"
        );
    }
}
