//! Which of the appends that wait go into the next conditional batch, and what the others are told. Pure: knows the index and the requests,
//! nothing of sockets.
//!
//! A batch is written where the partition ends at exactly the offset up to which the index has seen everything, or not at all. So what is
//! checked against the index here holds at the moment of writing, and each event knows its offset before it is written. Within a batch
//! requests are checked as if those before them had been carried out; one that they get in the way of waits until the fate of the batch is
//! known, since nobody may be told of a version that does not exist yet.

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use tidelog_protocol::{Offset, PartitionId};

use super::envelope::{self, EventEnvelope};
use super::error::AppendError;
use super::event::{Appended, Expected, NewEvent, Version};
use super::index::Index;

/// Appends to one aggregate that belong together: each builds on the one before it, so that all are made, one after the other, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) id: Bytes,
    /// What the first of them expects.
    pub(super) expected: Expected,
    pub(super) links: Vec<Link>,
    /// The index has come as far as the partition did after the request was made: a version that is not there does not exist.
    pub(super) is_index_sure: bool,
}

/// One append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) append: [u8; 16],
    pub(super) command: Option<Bytes>,
    pub(super) events: Vec<NewEvent>,
}

/// What becomes of a request now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is in the batch.
    Staged(Vec<Appended>),
    /// Ask again once the fate of the batch is known.
    Later,
    /// It expects a version beyond what is known: look how far the partition is, then ask again.
    Unseen,
    /// It is answered; one answer for each link.
    Answered(Vec<Result<Appended, AppendError>>),
}

/// A record as it will be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StagedEvent {
    pub(super) id: Bytes,
    pub(super) envelope: EventEnvelope,
    pub(super) header: Bytes,
    pub(super) payload: Bytes,
}

/// A batch in the making.
#[derive(Debug)]
pub(super) struct Batch<'i> {
    index: &'i Index,
    partition: PartitionId,
    bytes: usize,
    bytes_max: usize,
    events: Vec<StagedEvent>,
    /// Aggregates as they will be with the batch.
    changed: HashMap<Bytes, (Version, Option<Offset>)>,
    commands: HashSet<(Bytes, Bytes)>,
}

/// What a record takes besides what the application says, at most: lengths, the name of its header, and what stands there of the store's.
const RECORD_BYTES: usize = 128;

impl Request {
    /// About how many bytes its records take.
    pub(super) fn bytes(&self) -> usize {
        self.links.iter().map(|link| events_bytes(self.id.len(), link.command.as_ref(), &link.events)).sum()
    }
}

/// About how many bytes the records of an append take.
pub(super) fn events_bytes(id: usize, command: Option<&Bytes>, events: &[NewEvent]) -> usize {
    let command = command.map_or(0, Bytes::len);
    events.iter().map(|event| id + command + event.kind.len() + event.payload.len() + RECORD_BYTES).sum()
}

impl<'i> Batch<'i> {
    /// To be written where the index ends, in at most so many bytes.
    pub(super) fn new(index: &'i Index, partition: PartitionId, bytes_max: usize) -> Self {
        Self {
            index,
            partition,
            bytes: 0,
            bytes_max,
            events: Vec::new(),
            changed: HashMap::new(),
            commands: HashSet::new(),
        }
    }

    /// Takes the request into the batch, if it may be.
    pub(super) fn offer(&mut self, request: &Request) -> Verdict {
        let id = &request.id;
        if let Some(answers) = self.repeated(request) {
            return Verdict::Answered(answers);
        }
        let is_same_command = |link: &Link| {
            link.command.as_ref().is_some_and(|command| self.commands.contains(&(id.clone(), command.clone())))
        };
        if request.links.iter().any(is_same_command) {
            return Verdict::Later;
        }
        let staged = self.changed.get(id).copied();
        let entry = self.index.entry(id);
        let (version, latest) = staged.unwrap_or((entry.version, entry.latest()));
        match request.expected {
            Expected::Any => {}
            Expected::Version(expected) if expected == version => {}
            // Versions only grow, but for what is retired: what is below the version that is stored will not be it again.
            Expected::Version(expected) if expected < entry.version => return self.conflict(request, entry.version),
            Expected::Version(_) if staged.is_some() => return Verdict::Later,
            Expected::Version(_) if request.is_index_sure => return self.conflict(request, entry.version),
            Expected::Version(_) => return Verdict::Unseen,
        }
        let bytes = self.bytes + request.bytes();
        if bytes > self.bytes_max && !self.events.is_empty() {
            return Verdict::Later;
        }
        self.bytes = bytes;
        Verdict::Staged(self.stage(request, version, latest))
    }

    /// The batch: where it is to be written, and what.
    pub(super) fn finish(self) -> (Offset, Vec<StagedEvent>) {
        (self.index.end(), self.events)
    }

    fn stage(&mut self, request: &Request, version: Version, latest: Option<Offset>) -> Vec<Appended> {
        let (mut version, mut previous) = (version, latest);
        let mut appended = Vec::with_capacity(request.links.len());
        for link in &request.links {
            for (place, event) in link.events.iter().enumerate() {
                version = version.plus(1);
                let envelope = EventEnvelope {
                    version: version.0,
                    previous,
                    append: link.append,
                    place: place as u16,
                    count: link.events.len() as u16,
                    kind: event.kind.clone(),
                    schema: event.schema,
                    command: link.command.clone(),
                };
                previous = Some(self.index.end().plus(self.events.len() as u64));
                let header = envelope::encode_event(&envelope);
                let (id, payload) = (request.id.clone(), event.payload.clone());
                self.events.push(StagedEvent { id, envelope, header, payload });
            }
            let offset = previous.unwrap_or_default();
            appended.push(Appended { version, partition: self.partition, offset, repeated: false });
            if let Some(command) = &link.command {
                self.commands.insert((request.id.clone(), command.clone()));
            }
        }
        let is_retired = self.events.last().is_some_and(|last| last.envelope.is_retirement());
        let after = if is_retired { (Version::NONE, None) } else { (version, previous) };
        self.changed.insert(request.id.clone(), after);
        appended
    }

    /// Where a command of the request was carried out before: it is answered as then. What builds on it was decided in ignorance of that.
    fn repeated(&self, request: &Request) -> Option<Vec<Result<Appended, AppendError>>> {
        let find = |link: &Link| link.command.as_ref().and_then(|command| self.index.command(&request.id, command));
        let found: Vec<_> = request.links.iter().map(find).collect();
        found.iter().any(Option::is_some).then(|| {
            let current = self.index.entry(&request.id).version;
            let answer = |seen: Option<super::commands::Seen>| match seen {
                Some(seen) => {
                    let (version, offset) = (seen.version, seen.offset);
                    Ok(Appended { version, partition: self.partition, offset, repeated: true })
                }
                None => Err(Self::conflicting(request, current)),
            };
            found.into_iter().map(answer).collect()
        })
    }

    fn conflict(&self, request: &Request, current: Version) -> Verdict {
        let conflict = Self::conflicting(request, current);
        Verdict::Answered(request.links.iter().map(|_| Err(conflict.clone())).collect())
    }

    fn conflicting(request: &Request, current: Version) -> AppendError {
        AppendError::Conflict { id: request.id.clone(), expected: request.expected, current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(id: &str, expected: impl Into<Expected>, links: &[(&str, usize)]) -> Request {
        let link = |(command, events): &(&str, usize)| Link {
            append: [1; 16],
            command: (!command.is_empty()).then(|| Bytes::from(command.to_string())),
            events: (0..*events).map(|_| NewEvent::new("k", "v")).collect(),
        };
        Request {
            id: Bytes::from(id.to_string()),
            expected: expected.into(),
            links: links.iter().map(link).collect(),
            is_index_sure: false,
        }
    }

    fn at(version: u64) -> Expected {
        Expected::Version(Version(version))
    }

    /// The batch is written: the index takes it, as it takes what is read.
    fn write(index: &mut Index, events: &[StagedEvent]) {
        let base = index.end();
        for (place, event) in events.iter().enumerate() {
            index.take(base.plus(place as u64), &event.id, &event.envelope).unwrap();
        }
    }

    fn appended(verdict: &Verdict) -> Vec<(u64, u64)> {
        let Verdict::Staged(appended) = verdict else { panic!("{verdict:?}") };
        appended.iter().map(|appended| (appended.version.0, appended.offset.0)).collect()
    }

    fn is_conflict(verdict: &Verdict, with: u64) -> bool {
        let Verdict::Answered(answers) = verdict else { return false };
        answers.iter().all(|answer| matches!(answer, Err(AppendError::Conflict { current, .. }) if current.0 == with))
    }

    #[test]
    fn of_two_that_expect_the_same_version_one_is_staged_and_the_other_hears_once_that_is_written() {
        let mut index = Index::new(100, 1 << 20);
        let mut batch = Batch::new(&index, PartitionId(0), 1 << 20);
        assert_eq!(appended(&batch.offer(&request("a", at(0), &[("", 2)]))), [(2, 1)]);
        let loser = request("a", at(0), &[("", 1)]);
        assert_eq!(batch.offer(&loser), Verdict::Later, "version 2 does not exist before it is written");
        assert_eq!(appended(&batch.offer(&request("b", at(0), &[("", 1)]))), [(1, 2)], "others are not in the way");
        let (base, events) = batch.finish();
        assert_eq!((base, events.len()), (Offset(0), 3));
        write(&mut index, &events);
        assert!(is_conflict(&Batch::new(&index, PartitionId(0), 1 << 20).offer(&loser), 2));
    }

    #[test]
    fn appends_that_build_on_each_other_ride_in_one_batch() {
        let index = Index::new(100, 1 << 20);
        let mut batch = Batch::new(&index, PartitionId(0), 1 << 20);
        assert_eq!(appended(&batch.offer(&request("a", at(0), &[("x", 1), ("y", 2)]))), [(1, 0), (3, 2)]);
        assert_eq!(appended(&batch.offer(&request("a", at(3), &[("z", 1)]))), [(4, 3)]);
        assert_eq!(appended(&batch.offer(&request("a", Expected::Any, &[("", 1)]))), [(5, 4)]);
        let (_, events) = batch.finish();
        let chain: Vec<_> = events.iter().map(|event| event.envelope.previous.map(|at| at.0)).collect();
        assert_eq!(chain, [None, Some(0), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_command_that_comes_again_is_answered_as_the_first_time() {
        let mut index = Index::new(100, 1 << 20);
        let mut batch = Batch::new(&index, PartitionId(3), 1 << 20);
        let first = request("a", at(0), &[("c", 2)]);
        batch.offer(&first);
        assert_eq!(batch.offer(&first), Verdict::Later);
        let (_, events) = batch.finish();
        write(&mut index, &events);
        let mut batch = Batch::new(&index, PartitionId(3), 1 << 20);
        let again = Appended { version: Version(2), partition: PartitionId(3), offset: Offset(1), repeated: true };
        assert_eq!(batch.offer(&first), Verdict::Answered(vec![Ok(again)]));
        let Verdict::Answered(answers) = batch.offer(&request("a", at(2), &[("c", 1), ("d", 1)])) else { panic!() };
        assert_eq!(answers[0], Ok(again));
        assert!(answers[1].is_err(), "it was decided as if the first one were done now");
        appended(&batch.offer(&request("b", at(0), &[("c", 1)])));
    }

    #[test]
    fn a_version_that_nobody_has_seen_is_looked_for_before_it_is_denied() {
        let index = Index::new(100, 1 << 20);
        let mut batch = Batch::new(&index, PartitionId(0), 1 << 20);
        let mut ahead = request("a", at(7), &[("", 1)]);
        assert_eq!(batch.offer(&ahead), Verdict::Unseen);
        ahead.is_index_sure = true;
        assert!(is_conflict(&batch.offer(&ahead), 0));
    }

    #[test]
    fn a_batch_has_room_for_so_many_bytes_and_the_rest_goes_with_the_next() {
        let index = Index::new(100, 1 << 20);
        let one = request("a", Expected::Any, &[("", 1)]);
        let mut batch = Batch::new(&index, PartitionId(0), one.bytes() * 2);
        let verdicts = [batch.offer(&one), batch.offer(&one), batch.offer(&one)];
        assert!(matches!(verdicts, [Verdict::Staged(_), Verdict::Staged(_), Verdict::Later]));
    }

    #[test]
    fn behind_a_retirement_another_aggregate_begins_within_the_batch_or_after_it() {
        let mut index = Index::new(100, 1 << 20);
        index.take(Offset(0), b"a", &envelope_of("k", 1, None)).unwrap();
        let mut retiring = request("a", at(1), &[("", 1)]);
        retiring.links[0].events[0].kind = envelope::RETIRED_KIND.into();
        let mut batch = Batch::new(&index, PartitionId(0), 1 << 20);
        assert_eq!(appended(&batch.offer(&retiring)), [(2, 1)]);
        assert_eq!(appended(&batch.offer(&request("a", at(0), &[("", 2)]))), [(2, 3)]);
        let (_, events) = batch.finish();
        assert_eq!(events[1].envelope.previous, None);
        write(&mut index, &events);
        assert_eq!(index.entry(b"a").version, Version(2));
    }

    fn envelope_of(kind: &str, version: u64, previous: Option<Offset>) -> EventEnvelope {
        let (append, kind) = ([2; 16], kind.into());
        EventEnvelope { version, previous, append, place: 0, count: 1, kind, schema: 1, command: None }
    }

    proptest! {
        /// Whatever is offered, and whoever else wrote in between: versions have no gaps and no doubles, and an append that was made was made
        /// at the version that it expected.
        #[test]
        fn every_append_is_made_at_the_version_that_it_expects(
            rounds in proptest::collection::vec(
                (proptest::collection::vec((0u8..3, 0u64..6, 1usize..3), 0..8), any::<bool>()), 1..20),
        ) {
            let mut index = Index::new(100, 1 << 20);
            for (offers, is_written) in rounds {
                let mut made: HashMap<Bytes, u64> = HashMap::new();
                let mut batch = Batch::new(&index, PartitionId(0), 1 << 20);
                for (id, expected, events) in offers {
                    let offered = request(&id.to_string(), at(expected), &[("", events)]);
                    let current = made.get(&offered.id).copied().unwrap_or(index.entry(&offered.id).version.0);
                    match batch.offer(&offered) {
                        Verdict::Staged(appended) => {
                            prop_assert_eq!(expected, current);
                            prop_assert_eq!(appended[0].version.0, expected + events as u64);
                            made.insert(offered.id, appended[0].version.0);
                        }
                        verdict => {
                            prop_assert_ne!(expected, current);
                            let told = is_conflict(&verdict, index.entry(&offered.id).version.0);
                            prop_assert!(!told || expected < index.entry(&offered.id).version.0);
                        }
                    }
                }
                let (_, events) = batch.finish();
                if is_written {
                    // The index checks the chain, and `write` that it finds nothing.
                    write(&mut index, &events);
                }
            }
        }
    }
}
