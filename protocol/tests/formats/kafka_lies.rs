//! What no honest client sends: every Kafka decoder answers with an error, reserves no memory for a length that lies, and never panics.

use bytes::Bytes;
use tidelog_protocol::codec::{DecodeError, Entropy};
use tidelog_protocol::kafka::api::message_specs;
use tidelog_protocol::kafka::codec::Reader;
use tidelog_protocol::kafka::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::kafka::{ApiKey, Message, RequestHeader, fetch, produce};

fn decode<M: Message>(bytes: &[u8], version: i16, flexible: bool) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(&Bytes::copy_from_slice(bytes)), version, flexible)
}

fn metadata_of(bytes: &[u8], version: i16) -> Result<MetadataRequest, DecodeError> {
    decode(bytes, version, ApiKey::Metadata.is_flexible(version))
}

#[test]
fn a_list_of_two_billion_is_an_error_before_anything_is_reserved() {
    assert!(matches!(metadata_of(&[0x7f, 0xff, 0xff, 0xff], 1), Err(DecodeError::Short { needed: 2_147_483_647, .. })));
    // The compact form of the same.
    assert!(matches!(metadata_of(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 9), Err(DecodeError::Short { .. })));
}

#[test]
fn a_length_below_minus_one_is_an_error() {
    for bytes in [[0xff, 0xff, 0xff, 0xfe], [0x80, 0, 0, 0]] {
        assert_eq!(metadata_of(&bytes, 1), Err(DecodeError::Value { field: "topics" }));
    }
    let name = [0, 0, 0, 1, 0xff, 0xfe];
    assert_eq!(metadata_of(&name, 1), Err(DecodeError::Value { field: "name" }));
}

#[test]
fn null_is_an_error_where_nothing_may_be_null() {
    let null = [0xff, 0xff, 0xff, 0xff];
    assert_eq!(metadata_of(&null, 0), Err(DecodeError::Value { field: "topics" }));
    assert_eq!(metadata_of(&null, 1).map(|request| request.topics), Ok(None));
    // A topic without a name, which version 9 does not have and version 10 has.
    let request = MetadataRequest { topics: Some(vec![MetadataRequestTopic::default()]), ..Default::default() };
    let mut bytes = request.to_bytes(10, true).to_vec();
    assert!(metadata_of(&bytes, 10).is_ok());
    bytes.drain(1..17);
    assert_eq!(metadata_of(&bytes, 9), Err(DecodeError::Value { field: "name" }));
}

#[test]
fn a_varint_that_does_not_end_is_an_error() {
    assert_eq!(metadata_of(&[0xff; 12], 9), Err(DecodeError::Value { field: "topics" }));
}

#[test]
fn what_is_small_on_the_wire_and_large_in_memory_is_counted() {
    // Lists of lists, a few bytes each on the wire.
    let topics = (0..60_000u32).flat_map(|_| [0, 1, b't', 0, 0, 0, 3].into_iter().chain([0; 24])).collect::<Vec<u8>>();
    let head = [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &60_000u32.to_be_bytes()].concat();
    let read = decode::<produce::ProduceRequest>(&[head, topics].concat(), 3, false);
    assert_eq!(read, Err(DecodeError::Value { field: "partition_data" }));
}

#[test]
fn a_text_that_is_no_text_is_an_error() {
    assert_eq!(metadata_of(&[0, 0, 0, 1, 0, 1, 0xff], 1), Err(DecodeError::Text { field: "name" }));
}

#[test]
fn a_text_is_no_longer_in_the_compact_form_than_in_the_other() {
    let named = |length: usize| {
        let topic = MetadataRequestTopic { name: Some("n".repeat(length)), ..Default::default() };
        metadata_of(&MetadataRequest { topics: Some(vec![topic]), ..Default::default() }.to_bytes(9, true), 9)
    };
    assert!(named(32_767).is_ok());
    assert_eq!(named(32_768), Err(DecodeError::Value { field: "name" }));
}

#[test]
fn a_message_has_so_many_items_and_no_more() {
    let items = |count: usize| {
        let topic = MetadataRequestTopic { name: Some(String::new()), ..Default::default() };
        metadata_of(&MetadataRequest { topics: Some(vec![topic; count]), ..Default::default() }.to_bytes(9, true), 9)
    };
    assert!(items(Reader::ITEMS_MAX as usize).is_ok());
    assert_eq!(items(Reader::ITEMS_MAX as usize + 1), Err(DecodeError::Value { field: "topics" }));
}

#[test]
fn a_tagged_field_reaches_no_further_than_it_says() {
    // The cluster's name claims more bytes than its field has; those are there, but belong to what follows.
    let mut bytes = fetch::FetchRequest::default().to_bytes(12, true).to_vec();
    bytes.truncate(bytes.len() - 1);
    bytes.extend([1, 0, 2, 9, b'c', b'l', b'u', b's', b't', b'e', b'r', b's']);
    assert!(matches!(
        decode::<fetch::FetchRequest>(&bytes, 12, true),
        Err(DecodeError::Short { field: "cluster_id", needed: 8, available: 1 })
    ));
}

#[test]
fn of_an_unknown_version_only_what_never_changes_is_read() {
    let bytes = Bytes::from_static(&[0, 18, 0x7f, 0xff, 0, 0, 0, 5, 0xff, 0xff, 0xff]);
    let header = RequestHeader::decode(&mut Reader::new(&bytes)).unwrap();
    assert_eq!((header.api_key, header.correlation_id, header.served()), (18, 5, None));
}

#[test]
fn torn_and_changed_messages_are_errors_or_others() {
    for spec in message_specs() {
        for version in spec.api.versions() {
            for seed in 0..20 {
                let mut entropy = Entropy::new(seed);
                let bytes = (spec.sample)(&mut entropy, spec.api, version);
                let read = |bytes: Bytes| (spec.rewrite)(&bytes, spec.api, version);
                for cut in 0..bytes.len() {
                    assert!(read(bytes.slice(..cut)).is_err(), "{} version {version} cut at {cut}", spec.name);
                }
                for _ in 0..200 {
                    let mut changed = bytes.to_vec();
                    if !changed.is_empty() {
                        let at = entropy.below(changed.len() as u64) as usize;
                        changed[at] = [0, 0x7f, 0x80, 0xff, entropy.next() as u8][entropy.below(5) as usize];
                    }
                    if let Ok((written, _)) = read(changed.into()) {
                        assert_eq!(read(written.clone()), Ok((written, 0)), "{} version {version}", spec.name);
                    }
                }
            }
        }
    }
}
