//! Where the fuzzer begins: small inputs that reach far into each target. Knows the form of their inputs; what becomes of the corpora
//! is the fuzzer's.

use tidelog_protocol::api::message_specs;
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::frame::{Flags, FrameKind, Header, Preface};
use tidelog_protocol::kafka::api as kafka;
use tidelog_protocol::records::{
    BatchBuilder, Compression, ControlRecord, NO_HEADERS, Producer, compress, control_batch, stamp,
};
use tidelog_protocol::{
    CorrelationId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, ProtocolVersion, Sequence, Timestamp,
};

use super::recovery;

/// Name of the target, and an input.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let named = |name: &'static str, inputs: Vec<Vec<u8>>| inputs.into_iter().map(move |input| (name, input));
    let frames = named("frame", frames());
    let messages = named("messages", messages());
    let kafka = named("kafka", kafka());
    let batches = named("batches", batches());
    let compressed = named("decompression", compressed());
    frames.chain(messages).chain(kafka).chain(batches).chain(compressed).chain(named("recovery", folders())).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let preface = Preface { version: ProtocolVersion::CURRENT, features: 0 }.encode();
    let frame = |kind, flags, body: &[u8], payload: &[u8]| {
        let header = Header {
            kind,
            flags,
            api: 20,
            correlation: CorrelationId(1),
            timeout_ms: 1_000,
            body_bytes: body.len() as u32,
            payload_bytes: payload.len() as u32,
        };
        [&header.encode(&[body])[..], body, payload].concat()
    };
    let plain = Flags::default();
    let all = [
        frame(FrameKind::Request, plain, b"body", b"payload"),
        frame(FrameKind::Response, Flags::FAULT, b"fault", b""),
        frame(FrameKind::Push, Flags::TRACE, &[1; 30], b"items"),
        frame(FrameKind::Signal, plain, b"", b""),
    ];
    all.iter().map(|one| [&preface[..], one].concat()).chain([[&preface[..], &all.concat()].concat()]).collect()
}

fn messages() -> Vec<Vec<u8>> {
    let sampled = message_specs().into_iter().enumerate().flat_map(|(index, spec)| {
        (0..2).map(move |seed| {
            let body = (spec.sample)(&mut Entropy::new(seed), ProtocolVersion::CURRENT);
            [&[index as u8, 0][..], &body].concat()
        })
    });
    sampled.collect()
}

/// Each message in its first and its last version.
fn kafka() -> Vec<Vec<u8>> {
    let sampled = kafka::message_specs().into_iter().enumerate().flat_map(|(index, spec)| {
        let last = spec.api.versions().count() - 1;
        [0, last].map(|at| {
            let version = spec.api.versions().nth(at).expect("one of them");
            let body = (spec.sample)(&mut Entropy::new(at as u64), spec.api, version);
            [&[index as u8, at as u8][..], &body].concat()
        })
    });
    sampled.collect()
}

fn batch(codec: Compression, records: usize, producer: Producer) -> Vec<u8> {
    let mut builder = BatchBuilder::new(4096);
    builder.set_producer(producer);
    for index in 0..records {
        let key = [index as u8; 3];
        let value = [b'v'; 40];
        let time = Timestamp(1_700_000_000_000 + index as i64 * 3);
        let added = match index % 3 {
            0 => builder.append(time, Some(&key), Some(&value), NO_HEADERS),
            1 => builder.append(time, None, Some(b""), [("name", Some(&b"value"[..])), ("none", None)]),
            _ => builder.append(time, Some(b""), None, NO_HEADERS),
        };
        added.expect("a few small records fit");
    }
    builder.finish(codec).expect("the codec is there and so are records").to_vec()
}

fn batches() -> Vec<Vec<u8>> {
    let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence: Sequence(3) };
    let mut inputs: Vec<_> = Compression::ALL.map(|codec| batch(codec, 4, producer)).to_vec();
    inputs.push([batch(Compression::None, 1, Producer::NONE), batch(Compression::Lz4, 2, Producer::NONE)].concat());
    let marker = ControlRecord::Commit { coordinator_epoch: 2 };
    inputs.push(control_batch(marker, ProducerId(7), ProducerEpoch(1), Timestamp(5)).to_vec());
    inputs.into_iter().flat_map(|input| [0, 1].map(|first| [&[first][..], &input].concat())).collect()
}

fn compressed() -> Vec<Vec<u8>> {
    let texts = [b"".to_vec(), b"the tide comes in, the tide goes out; ".repeat(5), vec![0; 3_000]];
    let input = |(index, codec): (usize, Compression)| {
        texts.iter().flat_map(move |text| {
            let mut bytes = vec![index as u8, 2];
            compress(codec, text, &mut bytes).expect("every codec is there");
            let capped = [&[index as u8, 1][..], &bytes[2..]].concat();
            [bytes, capped]
        })
    };
    Compression::ALL.into_iter().enumerate().flat_map(input).collect::<Vec<_>>()
}

fn section(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u16).to_le_bytes(), bytes].concat()
}

/// The kind byte of a file.
fn kind(name: &str) -> u8 {
    recovery::FILES.iter().position(|file| *file == name).expect("a known file") as u8
}

/// A segment of `count` batches from `base` on.
fn segment(base: u64, count: u64, epoch: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..count {
        let mut batch = batch(Compression::None, 2, Producer::NONE);
        stamp(&mut batch, Offset(base + 2 * index), LeaderEpoch(epoch));
        bytes.extend_from_slice(&batch);
    }
    bytes
}

fn folders() -> Vec<Vec<u8>> {
    let log = kind("log") | recovery::MEND;
    let patch = |name: &str, at: u16, bytes: &[u8]| {
        section(kind(name) | recovery::PATCH, &[&at.to_le_bytes()[..], bytes].concat())
    };
    let life = |appends: &[u8]| section(recovery::LIFE, appends);
    let cut_short = |appends: &[u8]| section(recovery::LIFE | 1, appends);
    let (first, second) = (segment(0, 3, 1), segment(6, 2, 2));
    let whole = [section(log, &first), section(log | recovery::ZEROS, &second)].concat();
    let torn = &first[..first.len() - 20];
    let mut rotten = first.clone();
    rotten[150] ^= 1;
    let many: Vec<u8> = (0..30).map(|index| index * 8).collect();
    vec![
        Vec::new(),
        section(log, &first),
        section(log | recovery::ZEROS, &first),
        whole.clone(),
        section(log, torn),
        [section(log, torn), section(log, &second)].concat(),
        [section(kind("log"), &rotten), section(log, &second)].concat(),
        [life(&[1, 2, 3]), life(&[4])].concat(),
        [life(&many), cut_short(&[1, 2])].concat(),
        [life(&[9; 5]), patch("log", 80, b"rot")].concat(),
        [life(&[9; 5]), patch("log", 150, b"")].concat(),
        [cut_short(&[9; 5]), patch("log", 200, b"")].concat(),
        [life(&many), patch("checkpoint", 20, b"rot")].concat(),
        [life(&many), patch("leader-epochs", 16, b""), patch("index", 3, b"rot"), cut_short(&[7])].concat(),
        [whole, life(&[1]), patch("timeindex", 0, b""), life(&many)].concat(),
        [section(recovery::LIFE | recovery::DELETES | 1, &many), patch("checkpoint", 20, b"rot"), life(&[1])].concat(),
        [
            section(recovery::LIFE | recovery::DELETES, &[3; 9]),
            patch("checkpoint", 9, b""),
            patch("log-start", 15, b"rot"),
        ]
        .concat(),
        [section(recovery::LIFE | recovery::DELETES, &[3; 9]), patch("log", 80, b"")].concat(),
    ]
}
