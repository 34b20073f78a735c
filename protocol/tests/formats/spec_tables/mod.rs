//! The tables of the specification that the code itself can write. Knows nothing of the text around them; `spec.rs` puts
//! them between their markers and compares.

use std::collections::BTreeMap;

use tidelog_protocol::api::{Api, message_specs};
use tidelog_protocol::error::Actor;
use tidelog_protocol::frame::{self, Flags, FrameKind, FrameLimits};
use tidelog_protocol::message::FieldSpec;
use tidelog_protocol::messages::*;
use tidelog_protocol::records::{self, Compression};
use tidelog_protocol::{ErrorCode, Message, ProtocolVersion, TopicName};

/// Every generated section: the name in its marker, and its text.
pub fn sections() -> Vec<(&'static str, String)> {
    vec![
        ("constants", constants()),
        ("kinds", kinds()),
        ("apis", apis()),
        ("errors", errors()),
        ("messages", messages()),
        ("structures", structures()),
        ("enums", enums()),
        ("codecs", codecs()),
    ]
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).into()).collect();
    let mut text = line(&head) + &format!("|{}\n", "---|".repeat(head.len()));
    rows.into_iter().for_each(|row| text += &line(&row));
    text
}

fn constants() -> String {
    let (handshake, default) = (FrameLimits::HANDSHAKE, FrameLimits::DEFAULT);
    let rows: [(&str, u64); 12] = [
        ("Newest protocol version", ProtocolVersion::CURRENT.0.into()),
        ("Oldest protocol version still spoken", ProtocolVersion::OLDEST.0.into()),
        ("Bytes of the preface", frame::PREFACE_BYTES as u64),
        ("Bytes of a frame header", frame::HEADER_BYTES as u64),
        ("Bytes of a trace context", frame::TRACE_BYTES as u64),
        ("Largest frame before Hello, in bytes", handshake.frame_bytes.into()),
        ("Largest frame after it unless configured, in bytes", default.frame_bytes.into()),
        ("Largest body after it, in bytes", default.body_bytes.into()),
        ("Longest topic name, in bytes", TopicName::MAX_BYTES as u64),
        ("Bytes of a batch header", records::HEADER_BYTES as u64),
        ("Largest batch unless configured, in bytes", records::ProduceLimits::default().batch_bytes_max as u64),
        ("Largest records of a batch once decompressed, in bytes", records::DEFAULT_DECOMPRESSED_BYTES_MAX as u64),
    ];
    table(&["what", "value"], rows.map(|(what, value)| vec![what.into(), value.to_string()]))
}

fn kinds() -> String {
    let kinds = [FrameKind::Request, FrameKind::Response, FrameKind::Push, FrameKind::Signal];
    let meaning = |kind| match kind {
        FrameKind::Request => {
            "client to broker; answered by exactly one response (a Produce with acks None only where it is refused)"
        }
        FrameKind::Response => "broker to client, with the correlation id of its request",
        FrameKind::Push => "broker to client: an item of a stream, with the stream's id; or unasked, with id 0",
        FrameKind::Signal => "client to broker, never answered; correlation id 0",
    };
    let mut text = table(
        &["kind", "name", "direction and meaning"],
        kinds.map(|kind| vec![(kind as u8).to_string(), format!("{kind:?}"), meaning(kind).into()]),
    );
    let flags = [
        (Flags::FAULT, "FAULT", "the body is a [Fault](#fault) in place of the message of its API"),
        (Flags::TRACE, "TRACE", "the body begins with a trace context; the message follows it"),
    ];
    text += "\n";
    text += &table(
        &["flag", "name", "meaning"],
        flags.map(|(flag, name, meaning)| vec![format!("{:#04x}", flag.0), name.into(), meaning.into()]),
    );
    text
}

fn apis() -> String {
    let kind_of = |api: Api| {
        let kinds: Vec<String> =
            message_specs().iter().filter(|spec| spec.api == api).map(|spec| format!("{:?}", spec.kind)).collect();
        kinds.join(", ")
    };
    let mut apis = Api::ALL.to_vec();
    apis.sort();
    let row = |api: Api| vec![(api as u16).to_string(), api.name().into(), kind_of(api), api.meaning()];
    table(&["number", "name", "kinds", "what it is for"], apis.into_iter().map(row))
}

fn errors() -> String {
    let actor = |actor| match actor {
        Actor::ClientRefreshes => "client, after refreshing its metadata",
        Actor::ClientBacksOff => "client, after a delay",
        Actor::ClientRejoins => "client, by joining its group anew",
        Actor::ClientAborts => "client, by aborting its transaction",
        Actor::ClientStops => "client, by stopping",
        Actor::Operator => "operator",
        Actor::Programmer => "programmer",
    };
    let row = |code: &ErrorCode| {
        let retriable = if code.is_retriable() { "yes" } else { "no" };
        let cells = [&(*code as u16).to_string(), code.name(), retriable, actor(code.actor()), &code.meaning()];
        cells.map(Into::into).to_vec()
    };
    table(&["code", "name", "retriable", "who acts", "meaning"], ErrorCode::ALL.iter().map(row))
}

fn messages() -> String {
    let mut by_api: BTreeMap<Api, String> = BTreeMap::new();
    for spec in message_specs() {
        let text = by_api.entry(spec.api).or_insert_with(|| format!("### {} {}\n\n", spec.api as u16, spec.api.name()));
        *text += &format!("**{}** ({:?}): {}\n\n{}\n", spec.name, spec.kind, spec.doc, fields(&spec.fields));
    }
    by_api.into_values().collect::<String>().trim_end().to_owned() + "\n"
}

fn fields(fields: &[FieldSpec]) -> String {
    if fields.is_empty() {
        return "It has no fields yet.\n".into();
    }
    let row = |field: &FieldSpec| {
        vec![field.name.into(), shown_type(&field.type_name), field.since.to_string(), field.doc.clone()]
    };
    table(&["field", "type", "since", "meaning"], fields.iter().map(row))
}

/// A nested structure or an enum as a link to its own table; everything else as the code names it.
fn shown_type(name: &str) -> String {
    for wrapper in ["optional ", "list of "] {
        if let Some(inner) = name.strip_prefix(wrapper) {
            return format!("{wrapper}{}", shown_type(inner));
        }
    }
    let short = name.split(" (u8: ").next().unwrap_or(name);
    let is_linked =
        nested().iter().any(|(nested, _, _)| *nested == short) || wire_enums().iter().any(|(e, _)| *e == short);
    if is_linked { format!("[{short}](#{})", short.to_lowercase()) } else { name.replace("(Id)", "(16 bytes)") }
}

type Nested = (&'static str, String, Vec<FieldSpec>);

fn nested_spec<M: Message>() -> Nested {
    (M::NAME, M::doc(), M::fields())
}

/// The structures that stand inside messages. One that is missing here is found by a test of its own.
pub fn nested() -> Vec<Nested> {
    vec![
        nested_spec::<AbortedTransaction>(),
        nested_spec::<BrokerAddress>(),
        nested_spec::<BrokerDescription>(),
        nested_spec::<CommitTransaction>(),
        nested_spec::<CommittedOffset>(),
        nested_spec::<CompactionState>(),
        nested_spec::<ConfigEntry>(),
        nested_spec::<ConfigValue>(),
        nested_spec::<EndedTransaction>(),
        nested_spec::<EpochEndPoint>(),
        nested_spec::<Fault>(),
        nested_spec::<GroupListing>(),
        nested_spec::<InSyncChange>(),
        nested_spec::<InSyncOutcome>(),
        nested_spec::<InSyncReplica>(),
        nested_spec::<InSyncState>(),
        nested_spec::<MarkerOutcome>(),
        nested_spec::<MemberDescription>(),
        nested_spec::<NamedPartition>(),
        nested_spec::<OffsetAnswer>(),
        nested_spec::<OffsetQuery>(),
        nested_spec::<OffsetRange>(),
        nested_spec::<PartitionCounts>(),
        nested_spec::<PartitionDescription>(),
        nested_spec::<PartitionMetadata>(),
        nested_spec::<PartitionProgress>(),
        nested_spec::<PartitionReplicas>(),
        nested_spec::<PeerHello>(),
        nested_spec::<Position>(),
        nested_spec::<OpenTransaction>(),
        nested_spec::<ProducerIdentity>(),
        nested_spec::<ProducerStanding>(),
        nested_spec::<ProducersSnapshot>(),
        nested_spec::<RaftBallot>(),
        nested_spec::<RaftMember>(),
        nested_spec::<RaftMemberAddress>(),
        nested_spec::<RaftMembership>(),
        nested_spec::<RaftPosition>(),
        nested_spec::<RaftVoters>(),
        nested_spec::<ReplicaAssignment>(),
        nested_spec::<ReplicaReport>(),
        nested_spec::<ReportOutcome>(),
        nested_spec::<SequenceSpan>(),
        nested_spec::<UnsettledTransaction>(),
        nested_spec::<ServedApi>(),
        nested_spec::<Subscription>(),
        nested_spec::<TopicDescription>(),
        nested_spec::<TopicMetadata>(),
        nested_spec::<TopicPartitions>(),
        nested_spec::<TransactionListing>(),
        nested_spec::<TransactionMarkers>(),
        nested_spec::<UnreadShard>(),
    ]
}

fn structures() -> String {
    let section = |(name, doc, specs): Nested| format!("### {name}\n\n{doc}\n\n{}\n", fields(&specs));
    nested().into_iter().map(section).collect::<String>().trim_end().to_owned() + "\n"
}

/// Value, name and meaning.
type Values = Vec<(u8, String, String)>;

/// The enums of the wire. One that is missing here is found by a test of its own.
pub fn wire_enums() -> Vec<(&'static str, Values)> {
    macro_rules! values {
        ($($name:ident)*) => {
            vec![$((
                stringify!($name),
                $name::ALL.iter().map(|value| (*value as u8, format!("{value:?}"), value.meaning())).collect(),
            ),)*]
        };
    }
    values![
        Acks BrokerStanding CompactionStage Coordinated GroupState Isolation LogHealth PartitionFilter PositionKind RaftAppendOutcome ReplicaHolding
        ReplicaStreamOutcome TransactionEnder TransactionFate TransactionState VoterChange
    ]
}

fn enums() -> String {
    let section = |(name, values): (&str, Values)| {
        let rows = values.into_iter().map(|(value, name, meaning)| vec![value.to_string(), name, meaning]);
        format!("### {name}\n\n{}\n", table(&["value", "name", "meaning"], rows))
    };
    wire_enums().into_iter().map(section).collect::<String>().trim_end().to_owned() + "\n"
}

fn codecs() -> String {
    let framing = |codec| match codec {
        Compression::None => "the records as they are",
        Compression::Gzip => "RFC 1952, one or more members",
        Compression::Snappy => "blocks in the framing of the Java library, or one bare block",
        Compression::Lz4 => "exactly one frame of the LZ4 frame format",
        Compression::Zstd => "RFC 8878, one or more frames, a window of at most 128 MiB",
    };
    let row = |codec: Compression| vec![codec.code().to_string(), codec.name().into(), framing(codec).into()];
    table(&["code", "name", "bytes behind the header"], Compression::ALL.map(row))
}
