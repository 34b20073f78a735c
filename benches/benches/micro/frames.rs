//! Frames: header and body written, read and checked; the checksum alone. Knows nothing of payloads, which no frame looks at.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{Flags, FrameKind, FrameLimits, HEADER_BYTES, Header, verify};
use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::{CorrelationId, LeaderEpoch, Message, PartitionId, ProtocolVersion, TopicId};

use crate::samples;

fn request() -> ProduceRequest {
    ProduceRequest {
        topic_id: TopicId([7; 16]),
        partition: PartitionId(3),
        leader_epoch: Some(LeaderEpoch(1)),
        acks: Acks::All,
        expected_log_end: None,
        transactional_id: None,
    }
}

/// Header and body of one produce request.
fn encode(request: &ProduceRequest, payload_bytes: u32) -> ([u8; HEADER_BYTES], Vec<u8>) {
    let body = request.to_body(ProtocolVersion::CURRENT);
    let header = Header {
        kind: FrameKind::Request,
        flags: Flags::default(),
        api: Api::Produce as u16,
        correlation: CorrelationId(42),
        timeout_ms: 30_000,
        body_bytes: body.len() as u32,
        payload_bytes,
    };
    (header.encode(&[&body]), body.to_vec())
}

pub fn all(criterion: &mut Criterion) {
    let (head, body) = encode(&request(), 256 << 10);
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes((head.len() + body.len()) as u64));
    group.bench_function("encode produce", |bencher| {
        let request = request();
        bencher.iter(|| encode(black_box(&request), 256 << 10));
    });
    group.bench_function("decode produce", |bencher| {
        bencher.iter(|| {
            let header = Header::decode(black_box(&head), FrameLimits::DEFAULT).unwrap();
            verify(&head, &body).unwrap();
            (header, ProduceRequest::from_body(&body, ProtocolVersion::CURRENT).unwrap())
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("crc32c");
    for bytes in [64, 1 << 10, 256 << 10] {
        let data = samples::text(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        // The checksum of a frame is the only one that can be asked for any bytes; the header adds 24.
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| verify(black_box(&[0; HEADER_BYTES]), black_box(&data)));
        });
    }
    group.finish();
}
