//! What a judge found, as text and as JSON. Knows nothing of how.

use std::ops::Range;

use serde_json::{Value, json};

use crate::byte_size::{counted, display_count};

/// What must not be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Acknowledged or read, and not there.
    Lost,
    /// There twice, though no acknowledgement was lost.
    Duplicated,
    /// Behind a record that the same producer sent later.
    Reordered,
    /// There, and never sent, or refused.
    Phantom,
    /// There, and not handed to a consumer that read on behind it.
    Skipped,
    /// Handed once more to a consumer that had read on behind it.
    Repeated,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Duplicated, Self::Reordered, Self::Phantom, Self::Skipped, Self::Repeated];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Phantom => "phantom",
            Self::Skipped => "skipped",
            Self::Repeated => "repeated",
        }
    }
}

/// One thing that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which value, where.
    pub what: String,
    /// When it was sent, in microseconds since the run began.
    pub sent_at_us: Option<u64>,
    /// When its producer was told.
    pub told_at_us: Option<u64>,
}

/// What it comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conclusion {
    /// Something was promised, and all of it is as it must be.
    Holds,
    /// Something is as it must not be.
    Violated,
    /// Nothing is as it must not be, but of what was acknowledged something was deleted before it could be checked.
    Unchecked,
    /// Nothing was acknowledged, so nothing was promised that could have been broken.
    NothingToJudge,
}

/// So many deleted ranges are named.
const GAPS_MAX: usize = 10;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Records sent.
    pub sent: u64,
    /// Those of them acknowledged.
    pub acked: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
    /// Records that consumers read along.
    pub read_along: u64,
    /// Partitions of which consumers were handed all that was acknowledged, by what they say themselves.
    pub read_to_end: u32,
    /// Records that fresh consumers read at the end.
    pub read_at_last: u64,
    /// Records that stand once more because an acknowledgement was lost: allowed where producers are not idempotent.
    pub doubled_by_lost_acks: u64,
    /// Records that were acknowledged, and deleted before they could be read at the end: whether they were kept until then nobody can tell.
    pub unchecked: u64,
    /// The offsets that were deleted, each range with its partition.
    pub deleted: Vec<(u32, Range<u64>)>,
    /// Records of others in a topic that is not the run's own.
    pub foreign: u64,
    /// What a producer was told last whose record was not acknowledged.
    pub last_error: Option<String>,
    counts: [u64; 6],
    findings: [Vec<Finding>; 6],
}

impl Verdict {
    /// What it comes to.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        match (self.counts.iter().all(|count| *count == 0), self.acked, self.unchecked) {
            (false, ..) => Conclusion::Violated,
            (true, 0, _) => Conclusion::NothingToJudge,
            (true, _, 0) => Conclusion::Holds,
            (true, ..) => Conclusion::Unchecked,
        }
    }

    /// How often something is that must not be.
    #[must_use]
    pub const fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// The first of them.
    #[must_use]
    pub fn findings(&self, kind: Kind) -> &[Finding] {
        &self.findings[kind as usize]
    }

    pub(super) const fn count_mut(&mut self, kind: Kind) -> &mut u64 {
        &mut self.counts[kind as usize]
    }

    pub(super) const fn findings_mut(&mut self, kind: Kind) -> &mut Vec<Finding> {
        &mut self.findings[kind as usize]
    }

    /// What cannot be checked any more, where something cannot.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        let ranges = self.deleted.iter().take(GAPS_MAX);
        let named = ranges.map(|(partition, range)| format!("partition {partition} before offset {}", range.end));
        let mut named: Vec<_> = named.collect();
        if self.deleted.len() > GAPS_MAX {
            named.push(format!("{} more", counted((self.deleted.len() - GAPS_MAX) as u32, "range")));
        }
        (self.unchecked > 0).then(|| {
            format!(
                "{} of {} that were acknowledged cannot be checked any more: they were deleted, by order or by retention ({})",
                display_count(self.unchecked),
                display_count(self.acked),
                named.join(", ")
            )
        })
    }

    /// Says of how many partitions a consumer was not handed all, so that nothing is said of the rest.
    fn not_to_end(&self) -> String {
        match self.partitions.saturating_sub(self.read_to_end) {
            0 => String::new(),
            unfinished => format!(" ({} not to the end)", counted(unfinished, "partition")),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let count = display_count;
        let mut text = format!(
            "Topic       {}, {}\nSent        {}: {} acknowledged, {} unknown, {} refused\nRead        {} along{}, {} at the end\n",
            self.topic,
            counted(self.partitions, "partition"),
            count(self.sent),
            count(self.acked),
            count(self.unknown),
            count(self.refused),
            count(self.read_along),
            self.not_to_end(),
            count(self.read_at_last)
        );
        if self.foreign > 0 {
            text.push_str(&format!("Of others   {}\n", count(self.foreign)));
        }
        text.push_str(&format!(
            "Lost        {}\nDuplicated  {}, and {} where an acknowledgement was lost\nReordered   {}\nPhantom     {}\nSkipped     {}\nRepeated    {}\n",
            count(self.count(Kind::Lost)),
            count(self.count(Kind::Duplicated)),
            count(self.doubled_by_lost_acks),
            count(self.count(Kind::Reordered)),
            count(self.count(Kind::Phantom)),
            count(self.count(Kind::Skipped)),
            count(self.count(Kind::Repeated))
        ));
        if let Some(gap) = self.gap() {
            text.push_str(&format!("Unchecked   {gap}\n"));
        }
        for kind in Kind::ALL {
            for finding in self.findings(kind) {
                text.push_str(&format!("  {}: {}{}\n", kind.name(), finding.what, times(finding)));
            }
            let more = self.count(kind) - self.findings(kind).len() as u64;
            if more > 0 {
                text.push_str(&format!("  {}: and {} more\n", kind.name(), count(more)));
            }
        }
        match (self.conclusion(), &self.last_error) {
            (Conclusion::Holds, _) => text.push_str("Verdict     holds\n"),
            (Conclusion::Violated, _) => text.push_str("Verdict     VIOLATED\n"),
            (Conclusion::Unchecked, _) => text.push_str("Verdict     none of all: what could be checked holds\n"),
            (Conclusion::NothingToJudge, None) => text.push_str("Verdict     none: nothing was acknowledged\n"),
            (Conclusion::NothingToJudge, Some(error)) => {
                text.push_str(&format!("Verdict     none: nothing was acknowledged; a producer was told: {error}\n"));
            }
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let evidence = |kind: Kind| -> Vec<Value> {
            let finding = |finding: &Finding| json!({"what": finding.what, "sent_at_us": finding.sent_at_us, "told_at_us": finding.told_at_us});
            self.findings(kind).iter().map(finding).collect()
        };
        let violations: serde_json::Map<_, _> = Kind::ALL
            .iter()
            .map(|kind| (kind.name().into(), json!({"count": self.count(*kind), "evidence": evidence(*kind)})))
            .collect();
        json!({
            "holds": match self.conclusion() {
                Conclusion::Holds => Some(true),
                Conclusion::Violated => Some(false),
                Conclusion::Unchecked | Conclusion::NothingToJudge => None,
            },
            "topic": self.topic,
            "partitions": self.partitions,
            "sent": self.sent,
            "acked": self.acked,
            "unknown": self.unknown,
            "refused": self.refused,
            "read_along": self.read_along,
            "read_to_end": self.read_to_end,
            "read_at_last": self.read_at_last,
            "doubled_by_lost_acks": self.doubled_by_lost_acks,
            "unchecked": self.unchecked,
            "deleted": self.deleted.iter().map(|(partition, range)| json!({"partition": partition, "from": range.start, "to": range.end})).collect::<Vec<_>>(),
            "foreign": self.foreign,
            "last_error": self.last_error,
            "violations": violations,
        })
    }
}

fn times(finding: &Finding) -> String {
    let seconds = |us: u64| format!("{:.6} s", us as f64 / 1e6);
    match (finding.sent_at_us, finding.told_at_us) {
        (Some(sent), Some(told)) => format!(" (sent at {}, told at {})", seconds(sent), seconds(told)),
        (Some(sent), None) => format!(" (sent at {}, never told)", seconds(sent)),
        _ => String::new(),
    }
}
