//! Holds a history against what must hold, as the test bed's checkers do: nothing acknowledged is lost, nothing stands twice (unless
//! producers are not idempotent and an acknowledgement was lost), each producer's records stand in its order, nothing is read that was not
//! sent, and who reads along is handed everything once and in its order. Knows nothing of clients and brokers.
//!
//! Memory: 24 bytes for each record sent, whatever the size of the history, about 60 for each that stands twice, and [`EVIDENCE_MAX`]
//! findings of each kind. The file is read twice: once to judge, once for what was read along and for the times of what was found.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::Path;

use super::events::{Event, Outcome, for_each_line, record_of};
use super::reading_along::{Misstep, ReadingAlong};
use super::verdict::{Finding, Kind, Verdict};

/// Findings of one kind that are told in full; the others are counted.
pub const EVIDENCE_MAX: usize = 100;

/// Not there.
const NOWHERE: u64 = u64::MAX;

/// What is known of a record.
#[derive(Clone, Copy, Debug)]
struct Fate {
    told: Told,
    maybe_twice: bool,
    /// It was found to be lost.
    is_lost: bool,
    acked_at: u64,
    /// The first place where it was read at the end.
    first_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    NotSent,
    Unknown,
    Acked,
    Refused,
}

impl Fate {
    const NOT_SENT: Self =
        Self { told: Told::NotSent, maybe_twice: false, is_lost: false, acked_at: NOWHERE, first_at: NOWHERE };
}

/// Judges a history.
///
/// # Errors
/// Where the file cannot be read, does not begin as a history does, or lacks the last reading of a partition.
pub fn judge(path: &Path) -> io::Result<Verdict> {
    let mut judge = Judge::default();
    for_each_line(path, |line| judge.take(line.event))?;
    judge.check_is_whole()?;
    judge.look_for_lost();
    judge.along = true;
    // What consumers read along is held against what stands there at the end.
    for_each_line(path, |line| judge.take_again(line.at_us, line.event))?;
    Ok(judge.verdict)
}

#[derive(Debug, Default)]
struct Judge {
    run: String,
    own_topic: bool,
    idempotent: bool,
    partitions: u32,
    began: bool,
    fates: Vec<Vec<Fate>>,
    /// The last place read at the end, and how far the partition was read.
    ends: BTreeMap<u32, u64>,
    /// The newest record of each producer and partition that was met in the last reading, and where.
    newest: HashMap<(u32, u32), (u64, u64)>,
    /// Where records stand beside their first place, for those read along. As many as there are doubles, which are few.
    others: HashMap<(u32, u64), Vec<u64>>,
    /// Findings by the record that they are about, for their times.
    about: HashMap<(u32, u64), Vec<(Kind, usize)>>,
    /// Offsets whose records were deleted before they were read at the end, by partition.
    deleted: BTreeMap<u32, Vec<Range<u64>>>,
    /// Where phantoms were found, so that reading them along is not another one; the first of them.
    phantoms: HashSet<(u32, u64)>,
    /// What consumers were handed, by partition.
    reading_along: BTreeMap<u32, ReadingAlong>,
    /// Whether the last reading is judged, or what was read along.
    along: bool,
    verdict: Verdict,
}

impl Judge {
    fn take(&mut self, event: Event) {
        match event {
            Event::Begin { run, topic, own_topic, partitions, producers, idempotent } => {
                self.idempotent = idempotent;
                (self.run, self.own_topic, self.partitions, self.began) = (run, own_topic, partitions.max(1), true);
                self.fates = vec![Vec::new(); producers.min(u32::from(u16::MAX)) as usize];
                (self.verdict.topic, self.verdict.partitions) = (topic, partitions);
            }
            Event::Invoke { producer, sequence } => {
                let Some(fates) = self.fates.get_mut(producer as usize) else { return };
                // Records are sent in their order, so a history never makes this larger than itself.
                if fates.len() as u64 == sequence {
                    fates.push(Fate { told: Told::Unknown, ..Fate::NOT_SENT });
                    self.verdict.sent += 1;
                }
            }
            Event::Complete { producer, sequence, outcome } => {
                let Some(fate) = fate(&mut self.fates, producer, sequence) else { return };
                match outcome {
                    Outcome::Acked { offset, maybe_twice } => {
                        (fate.told, fate.acked_at, fate.maybe_twice) = (Told::Acked, offset, maybe_twice);
                    }
                    Outcome::Refused { error } => {
                        fate.told = Told::Refused;
                        self.verdict.last_error = Some(error);
                    }
                    Outcome::Unknown { error } => self.verdict.last_error = Some(error),
                }
            }
            Event::Read { values, .. } => self.verdict.read_along += values.len() as u64,
            Event::ReadDone { .. } => self.verdict.read_to_end += 1,
            Event::LastRead { partition, offset, values } => {
                self.reading_along.entry(partition).or_default().stand(offset, values.len() as u64);
                for (offset, value) in (offset..).zip(&values) {
                    self.read_at_last(partition, offset, value);
                }
            }
            Event::Deleted { partition, from, to } => {
                self.deleted.entry(partition).or_default().push(from..to);
                self.verdict.deleted.push((partition, from..to));
            }
            Event::LastReadDone { partition, end } => {
                self.ends.insert(partition, end);
            }
        }
    }

    fn read_at_last(&mut self, partition: u32, offset: u64, value: &str) {
        self.verdict.read_at_last += 1;
        let Some((producer, sequence)) = self.sent_there(partition, offset, value) else { return };
        let Some(fate) = fate(&mut self.fates, producer, sequence) else { return };
        if fate.first_at != NOWHERE {
            let (first, lost_ack) = (fate.first_at, fate.maybe_twice || fate.told == Told::Unknown);
            self.others.entry((producer, sequence)).or_default().push(offset);
            let name = self.name(producer, sequence);
            if lost_ack && !self.idempotent {
                self.verdict.doubled_by_lost_acks += 1;
            } else {
                let what = format!("{name} stands at {partition}/{first} and again at {partition}/{offset}");
                self.find(Kind::Duplicated, Some((producer, sequence)), what);
            }
            return;
        }
        fate.first_at = offset;
        let told = fate.told;
        if told == Told::Refused {
            let what = format!("{} stands at {partition}/{offset} and was refused", self.name(producer, sequence));
            self.find(Kind::Phantom, Some((producer, sequence)), what);
        }
        // One whose fate is unknown may come late: only what was acknowledged has a place in the order.
        if told == Told::Acked {
            let newest = self.newest.entry((producer, partition)).or_insert((sequence, offset));
            if sequence < newest.0 {
                let (before, at) = *newest;
                let (late, early) = (self.name(producer, sequence), self.name(producer, before));
                let what = format!(
                    "{late} was sent before {early} and stands behind it: {partition}/{offset}, {partition}/{at}"
                );
                self.find(Kind::Reordered, Some((producer, sequence)), what);
            } else {
                *newest = (sequence, offset);
            }
        }
    }

    /// The record of a value, if it was sent to this partition; tells of a phantom else.
    fn sent_there(&mut self, partition: u32, offset: u64, value: &str) -> Option<(u32, u64)> {
        let record = record_of(&self.run, value);
        let sent = record.filter(|(producer, sequence)| {
            (sequence % u64::from(self.partitions)) as u32 == partition
                && fate(&mut self.fates, *producer, *sequence).is_some()
        });
        match (sent, record) {
            (Some(sent), _) => Some(sent),
            // Somebody else writes there too.
            (None, None) if !self.own_topic => {
                self.verdict.foreign += u64::from(!self.along);
                None
            }
            (None, _) if self.along && self.phantoms.contains(&(partition, offset)) => None,
            (None, _) => {
                if self.phantoms.len() < EVIDENCE_MAX {
                    self.phantoms.insert((partition, offset));
                }
                let shown: String = value.chars().take(100).collect();
                self.find(Kind::Phantom, None, format!("{shown:?} at {partition}/{offset} was never sent there"));
                None
            }
        }
    }

    fn check_is_whole(&self) -> io::Result<()> {
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if !self.began {
            return refuse("it does not begin as a history does".into());
        }
        match (0..self.partitions).find(|partition| !self.ends.contains_key(partition)) {
            Some(missing) => refuse(format!("partition {missing} was not read to its end, so nothing can be said")),
            None => Ok(()),
        }
    }

    fn look_for_lost(&mut self) {
        for producer in 0..self.fates.len() {
            for sequence in 0..self.fates[producer].len() {
                let (fate, sequence) = (self.fates[producer][sequence], sequence as u64);
                match fate.told {
                    Told::Acked => self.verdict.acked += 1,
                    Told::Refused => self.verdict.refused += 1,
                    Told::Unknown => self.verdict.unknown += 1,
                    Told::NotSent => {}
                }
                if fate.told != Told::Acked {
                    continue;
                }
                let partition = (sequence % u64::from(self.partitions)) as u32;
                let (producer, at) = (producer as u32, fate.acked_at);
                // Whether it stood there nobody can tell any more.
                if self.was_deleted(partition, at) {
                    self.verdict.unchecked += 1;
                    continue;
                }
                let name = self.name(producer, sequence);
                if fate.first_at == NOWHERE {
                    let end = self.ends.get(&partition).copied().unwrap_or_default();
                    let what =
                        format!("{name} was acknowledged at {partition}/{at} and is not there; the log ends at {end}");
                    self.find_lost((producer, sequence), what);
                } else if !self.stands_at(producer, sequence, at) {
                    let first = fate.first_at;
                    let what = format!("{name} was acknowledged at {partition}/{at} and stands at {partition}/{first}");
                    self.find_lost((producer, sequence), what);
                }
            }
        }
    }

    fn was_deleted(&self, partition: u32, offset: u64) -> bool {
        self.deleted.get(&partition).into_iter().flatten().any(|range| range.contains(&offset))
    }

    fn stands_at(&mut self, producer: u32, sequence: u64, offset: u64) -> bool {
        fate(&mut self.fates, producer, sequence).is_some_and(|fate| fate.first_at == offset)
            || self.others.get(&(producer, sequence)).is_some_and(|others| others.contains(&offset))
    }

    /// The second time: records read along, and the times of what was found.
    fn take_again(&mut self, at_us: u64, event: Event) {
        match event {
            Event::Invoke { producer, sequence } => {
                self.each_about(producer, sequence, |finding| finding.sent_at_us = Some(at_us));
            }
            Event::Complete { producer, sequence, .. } => {
                self.each_about(producer, sequence, |finding| finding.told_at_us = Some(at_us));
            }
            Event::Read { partition, offset, values } => {
                self.follow(partition, offset, values.len() as u64);
                for (offset, value) in (offset..).zip(&values) {
                    let Some((producer, sequence)) = self.sent_there(partition, offset, value) else { continue };
                    if !self.stands_at(producer, sequence, offset) && !self.was_deleted(partition, offset) {
                        let name = self.name(producer, sequence);
                        let what = format!("{name} was read at {partition}/{offset} and is not there any more");
                        self.find_lost((producer, sequence), what);
                    }
                }
            }
            Event::ReadDone { partition, end } => {
                let misstep = self.reading_along.entry(partition).or_default().finish(end);
                self.note_misstep(partition, end, misstep);
            }
            Event::Begin { .. } | Event::LastRead { .. } | Event::Deleted { .. } | Event::LastReadDone { .. } => {}
        }
    }

    fn follow(&mut self, partition: u32, offset: u64, count: u64) {
        let misstep = self.reading_along.entry(partition).or_default().hand_out(offset, count);
        self.note_misstep(partition, offset, misstep);
    }

    fn note_misstep(&mut self, partition: u32, offset: u64, misstep: Option<Misstep>) {
        let Some(misstep) = misstep else { return };
        let (kind, range, how) = match misstep {
            Misstep::Skipped(range) => (Kind::Skipped, range, "was not handed to the consumer that read on at"),
            Misstep::Repeated(range) => {
                (Kind::Repeated, range, "was handed out once more, or behind later records, at")
            }
        };
        let (first, last) = (range.start, range.end - 1);
        self.find(kind, None, format!("what stands from {partition}/{first} to {partition}/{last} {how} {offset}"));
    }

    fn each_about(&mut self, producer: u32, sequence: u64, set: impl Fn(&mut Finding)) {
        for (kind, at) in self.about.get(&(producer, sequence)).into_iter().flatten() {
            if let Some(finding) = self.verdict.findings_mut(*kind).get_mut(*at) {
                set(finding);
            }
        }
    }

    /// A record is lost once, however it came to be known.
    fn find_lost(&mut self, record: (u32, u64), what: String) {
        let Some(fate) = fate(&mut self.fates, record.0, record.1) else { return };
        if !std::mem::replace(&mut fate.is_lost, true) {
            self.find(Kind::Lost, Some(record), what);
        }
    }

    fn find(&mut self, kind: Kind, record: Option<(u32, u64)>, what: String) {
        *self.verdict.count_mut(kind) += 1;
        let findings = self.verdict.findings_mut(kind);
        if findings.len() < EVIDENCE_MAX {
            findings.push(Finding { what, sent_at_us: None, told_at_us: None });
            let at = findings.len() - 1;
            if let Some(record) = record {
                self.about.entry(record).or_default().push((kind, at));
            }
        }
    }

    fn name(&self, producer: u32, sequence: u64) -> String {
        super::events::value(&self.run, producer, sequence)
    }
}

fn fate(fates: &mut [Vec<Fate>], producer: u32, sequence: u64) -> Option<&mut Fate> {
    fates.get_mut(producer as usize)?.get_mut(usize::try_from(sequence).ok()?)
}
