//! The one table of topic configuration keys: name, range, default, meaning. Parsing, describing and the written reference all
//! read it. Key names are Kafka's where the meaning is Kafka's. Knows nothing of topics or of the broker's own configuration.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidelog_protocol::Durability;
use tidelog_protocol::messages::{ConfigEntry, ConfigValue};

use crate::config_values::{limit, limit_text, ratio, ratio_text, within};
use crate::invalid_config::{InvalidConfig, shortened};
use crate::nearest::nearest;

/// The configuration of a topic, every key resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// `retention.ms`; `None` keeps records for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, per partition; `None` is unlimited.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `max.message.bytes`: the largest record batch, as it stands on the wire.
    pub batch_bytes_max: u32,
    /// `durability`.
    pub durability: Durability,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `delete.retention.ms`: how long tombstones stay in a compacted log once they are the last word on their keys.
    pub delete_retention_ms: u64,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_cleanable_dirty_millionths: u32,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `min.insync.replicas`.
    pub min_in_sync_replicas: u16,
}

/// What becomes of old segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CleanupPolicy {
    /// They are deleted when retention says so.
    #[default]
    Delete,
    /// Of each key the latest record is kept, for ever.
    Compact,
    /// Of each key the latest record is kept, until retention says otherwise.
    CompactAndDelete,
}

impl CleanupPolicy {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Delete, "delete"), (Self::Compact, "compact"), (Self::CompactAndDelete, "compact,delete")];

    /// Whether old values of a key go.
    #[must_use]
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }

    /// Whether retention deletes segments.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("", |(_, text)| text)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = if text == "delete,compact" { "compact,delete" } else { text };
        Self::ALL.iter().find(|(_, known)| *known == text).map(|(policy, _)| *policy)
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            segment_ms: 7 * DAY_MS,
            batch_bytes_max: 1_048_588,
            durability: Durability::Flushed,
            cleanup_policy: CleanupPolicy::Delete,
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_millionths: 500_000,
            min_compaction_lag_ms: 0,
            min_in_sync_replicas: 1,
        }
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What the values of a key are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueKind {
    /// A word.
    Word,
    /// Words between commas.
    Words,
    /// A whole number of at most 32 bits.
    Integer,
    /// A whole number of at most 64 bits.
    Long,
    /// A part of one.
    Fraction,
}

/// One row of the table.
pub struct TopicKey {
    /// The key.
    pub name: &'static str,
    /// What its values are.
    pub kind: ValueKind,
    /// Which values are possible, with their unit.
    pub range: &'static str,
    /// What it does.
    pub doc: &'static str,
    show: fn(&TopicConfig) -> String,
    set: fn(&mut TopicConfig, &str) -> Option<()>,
}

impl TopicKey {
    /// The value where a topic does not set it.
    #[must_use]
    pub fn default_value(&self) -> String {
        (self.show)(&TopicConfig::default())
    }

    /// What it does, with the values that are possible and the default.
    #[must_use]
    pub fn documentation(&self) -> String {
        format!("{} Values: {}. Default: {}.", self.doc, self.range, self.default_value())
    }

    /// The value that `config` holds, as text.
    #[must_use]
    pub fn value_in(&self, config: &TopicConfig) -> String {
        (self.show)(config)
    }
}

/// The table.
pub static TOPIC_KEYS: [TopicKey; 11] = [
    TopicKey {
        name: "cleanup.policy",
        kind: ValueKind::Words,
        range: "delete, compact or compact,delete",
        doc: "What becomes of old records: 'delete' removes whole segments when retention says so; 'compact' keeps the latest record \
              of each key, a record without value deletes its key, and records without key are refused.",
        show: |config| config.cleanup_policy.text().into(),
        set: |config, text| CleanupPolicy::parse(text).map(|policy| config.cleanup_policy = policy),
    },
    TopicKey {
        name: "delete.retention.ms",
        kind: ValueKind::Long,
        range: "0 to 9223372036854775807 milliseconds",
        doc: "How long compaction keeps a record without value, once every older record of its key is gone: who reads the topic from \
              its start has that long to see that the key was deleted.",
        show: |config| config.delete_retention_ms.to_string(),
        set: |config, text| within(text, 0, i64::MAX as u64).map(|ms| config.delete_retention_ms = ms),
    },
    TopicKey {
        name: "durability",
        kind: ValueKind::Word,
        range: "flushed or written",
        doc: "When a record counts as stored: 'flushed' on the disk of every in-sync replica, so that an acknowledged record \
              survives power loss; 'written' in their page cache, as Kafka does.",
        show: |config| config.durability.to_string(),
        set: |config, text| text.parse().ok().map(|durability| config.durability = durability),
    },
    TopicKey {
        name: "max.message.bytes",
        kind: ValueKind::Integer,
        range: "1024 to 67108864 bytes",
        doc: "The largest record batch that is accepted, as it stands on the wire; at most segment.bytes.",
        show: |config| config.batch_bytes_max.to_string(),
        set: |config, text| within(text, 1_024, 64 << 20).map(|bytes| config.batch_bytes_max = bytes),
    },
    TopicKey {
        name: "min.cleanable.dirty.ratio",
        kind: ValueKind::Fraction,
        range: "0 to 1, with at most six decimals",
        doc: "What part of a log must have been written since it was last compacted for it to be compacted again. Less keeps fewer old \
              records and rewrites more often.",
        show: |config| ratio_text(config.min_cleanable_dirty_millionths),
        set: |config, text| ratio(text).map(|millionths| config.min_cleanable_dirty_millionths = millionths),
    },
    TopicKey {
        name: "min.compaction.lag.ms",
        kind: ValueKind::Long,
        range: "0 to 9223372036854775807 milliseconds",
        doc: "How long compaction leaves a segment alone after the time of its youngest record.",
        show: |config| config.min_compaction_lag_ms.to_string(),
        set: |config, text| within(text, 0, i64::MAX as u64).map(|ms| config.min_compaction_lag_ms = ms),
    },
    TopicKey {
        name: "min.insync.replicas",
        kind: ValueKind::Integer,
        range: "1 to 32767 replicas",
        doc: "How many replicas must be in sync for acks=all to be accepted and for records to become readable; at most the \
              replication factor. A topic that is created with three replicas or more gets 2 where none is given.",
        show: |config| config.min_in_sync_replicas.to_string(),
        set: |config, text| within(text, 1, 32_767).map(|replicas| config.min_in_sync_replicas = replicas),
    },
    TopicKey {
        name: "retention.bytes",
        kind: ValueKind::Long,
        range: "0 to 9223372036854775807 bytes, or -1 for unlimited",
        doc: "How large the log of a partition may grow before its oldest segments are deleted. The newest segment stays.",
        show: |config| limit_text(config.retention_bytes),
        set: |config, text| limit(text).map(|bytes| config.retention_bytes = bytes),
    },
    TopicKey {
        name: "retention.ms",
        kind: ValueKind::Long,
        range: "0 to 9223372036854775807 milliseconds, or -1 for unlimited",
        doc: "How long records are kept at least. A segment is deleted when its youngest record is older. The newest segment stays.",
        show: |config| limit_text(config.retention_ms),
        set: |config, text| limit(text).map(|ms| config.retention_ms = ms),
    },
    TopicKey {
        name: "segment.bytes",
        kind: ValueKind::Integer,
        range: "65536 to 1073741824 bytes",
        doc: "How large a segment of a partition's log becomes; retention deletes whole segments. A change holds from the next \
              segment on.",
        show: |config| config.segment_bytes.to_string(),
        set: |config, text| within(text, 64 << 10, 1 << 30).map(|bytes| config.segment_bytes = bytes),
    },
    TopicKey {
        name: "segment.ms",
        kind: ValueKind::Long,
        range: "1 to 9223372036854775807 milliseconds",
        doc: "After which time a segment that holds records is closed and a new one begun, though it is not full.",
        show: |config| config.segment_ms.to_string(),
        set: |config, text| within(text, 1, i64::MAX as u64).map(|ms| config.segment_ms = ms),
    },
];

/// What a topic sets itself: key to value, in the order of the keys.
pub type Overrides = BTreeMap<String, String>;

impl TopicConfig {
    /// Checks `entries` and brings their values into the one form that is stored (`007` becomes `7`).
    ///
    /// # Errors
    /// [`InvalidConfig`], for the first entry at fault or for values that do not fit each other.
    pub fn check(entries: &[ConfigEntry]) -> Result<Overrides, InvalidConfig> {
        let mut overrides = Overrides::new();
        for entry in entries {
            let key = Self::key(&entry.key)?;
            let mut alone = Self::default();
            (key.set)(&mut alone, &entry.value).ok_or_else(|| InvalidConfig::value(key, &entry.value))?;
            if overrides.insert(entry.key.clone(), (key.show)(&alone)).is_some() {
                return Err(InvalidConfig::Twice { key: key.name });
            }
        }
        Ok(overrides)
    }

    /// The row of `name`.
    ///
    /// # Errors
    /// [`InvalidConfig::UnknownKey`].
    pub fn key(name: &str) -> Result<&'static TopicKey, InvalidConfig> {
        TOPIC_KEYS.iter().find(|key| key.name == name).ok_or_else(|| InvalidConfig::UnknownKey {
            key: shortened(name),
            nearest: nearest(name, TOPIC_KEYS.iter().map(|key| key.name)),
        })
    }

    /// The configuration that holds for a topic with these overrides. What this version does not know it leaves out: overrides
    /// are checked before they are written down.
    #[must_use]
    pub fn resolve(overrides: &Overrides) -> Self {
        let mut config = Self::default();
        for key in &TOPIC_KEYS {
            if let Some(value) = overrides.get(key.name) {
                // What is written was checked before; a value of a later release may mean nothing here, and the default holds.
                let _ = (key.set)(&mut config, value);
            }
        }
        config
    }

    /// Do the values fit each other and a topic with so many replicas?
    ///
    /// # Errors
    /// [`InvalidConfig::Conflict`].
    pub fn fits(&self, replication_factor: usize) -> Result<(), InvalidConfig> {
        if self.batch_bytes_max > self.segment_bytes {
            return Err(InvalidConfig::Conflict {
                key: "max.message.bytes",
                value: self.batch_bytes_max.to_string(),
                limit: format!(
                    "segment.bytes, which is {}; lower max.message.bytes, or raise segment.bytes",
                    self.segment_bytes
                ),
            });
        }
        if usize::from(self.min_in_sync_replicas) > replication_factor {
            return Err(InvalidConfig::Conflict {
                key: "min.insync.replicas",
                value: self.min_in_sync_replicas.to_string(),
                limit: format!("the replication factor, which is {replication_factor}"),
            });
        }
        Ok(())
    }

    /// Every key with the value that holds for a topic with these overrides, as clients see it.
    #[must_use]
    pub fn describe(overrides: &Overrides) -> Vec<ConfigValue> {
        let config = Self::resolve(overrides);
        let row = |key: &TopicKey| ConfigValue {
            key: key.name.into(),
            value: (key.show)(&config),
            is_default: !overrides.contains_key(key.name),
            doc: key.documentation(),
        };
        TOPIC_KEYS.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Overrides, String> {
        let entry = |(key, value): &(&str, &str)| ConfigEntry { key: (*key).into(), value: (*value).into() };
        let entries: Vec<_> = pairs.iter().map(entry).collect();
        TopicConfig::check(&entries).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_reads_back_its_own_default_and_stands_in_order() {
        for key in &TOPIC_KEYS {
            let stored = check(&[(key.name, &key.default_value())]).unwrap();
            assert_eq!(stored[key.name], key.default_value());
            assert_eq!(TopicConfig::resolve(&stored), TopicConfig::default(), "{}", key.name);
        }
        assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name));
    }

    #[test]
    fn what_a_topic_sets_holds_and_the_rest_is_default() {
        let overrides =
            check(&[("retention.ms", "-1"), ("retention.bytes", "0010"), ("durability", "written")]).unwrap();
        assert_eq!(overrides["retention.bytes"], "10");
        let expected = TopicConfig {
            retention_ms: None,
            retention_bytes: Some(10),
            durability: Durability::Written,
            ..TopicConfig::default()
        };
        assert_eq!(TopicConfig::resolve(&overrides), expected);
        let defaults = TopicConfig::describe(&overrides).iter().filter(|value| value.is_default).count();
        assert_eq!(defaults, TOPIC_KEYS.len() - 3);
    }

    #[test]
    fn values_out_of_range_are_refused_with_key_value_and_range() {
        assert_eq!(
            check(&[("segment.bytes", "65535")]).unwrap_err(),
            "segment.bytes cannot be '65535'; possible is 65536 to 1073741824 bytes"
        );
        for value in ["", " 1", "+1", "-2", "1.5", "1e3", "9223372036854775808", "ten"] {
            assert!(check(&[("retention.ms", value)]).is_err(), "{value:?}");
            assert!(check(&[("segment.ms", value)]).is_err(), "{value:?}");
        }
        assert!(check(&[("retention.ms", "9223372036854775807")]).is_ok());
        assert!(check(&[("min.insync.replicas", "0")]).is_err());
        assert!(check(&[("durability", "Flushed")]).is_err());
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_right_one() {
        assert_eq!(
            check(&[("retention.mss", "1")]).unwrap_err(),
            "there is no topic config 'retention.mss'; did you mean 'retention.ms'?"
        );
        assert!(check(&[("x", "1")]).unwrap_err().ends_with("segment.bytes, segment.ms"));
    }

    #[test]
    fn compaction_is_chosen_alone_or_with_retention_and_nothing_else_is_a_policy() {
        for (value, stored) in [
            ("delete", "delete"),
            ("compact", "compact"),
            ("compact,delete", "compact,delete"),
            ("delete,compact", "compact,delete"),
        ] {
            let overrides = check(&[("cleanup.policy", value)]).unwrap();
            assert_eq!(overrides["cleanup.policy"], stored);
            let policy = TopicConfig::resolve(&overrides).cleanup_policy;
            assert_eq!((policy.compacts(), policy.deletes()), (stored.contains("compact"), stored.contains("delete")));
        }
        for value in ["", "compactt", "Compact", "compact,compact", "compact,", "none"] {
            let error = check(&[("cleanup.policy", value)]).unwrap_err();
            assert_eq!(
                error,
                format!("cleanup.policy cannot be '{value}'; possible is delete, compact or compact,delete")
            );
        }
    }

    #[test]
    fn a_ratio_lies_between_nothing_and_all() {
        for (value, stored) in [("0", "0"), ("0.0", "0"), ("0.50", "0.5"), ("0.000001", "0.000001"), ("1.0", "1")] {
            assert_eq!(check(&[("min.cleanable.dirty.ratio", value)]).unwrap()["min.cleanable.dirty.ratio"], stored);
        }
        for value in ["", ".5", "0.", "-0.1", "1.1", "1.000001", "2", "0.1234567", "5e-1", "0,5", "half", "0.+5"] {
            let error = check(&[("min.cleanable.dirty.ratio", value)]).unwrap_err();
            assert!(error.ends_with("possible is 0 to 1, with at most six decimals"), "{error}");
        }
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let error = check(&[("retention.ms", "1"), ("retention.ms", "1")]).unwrap_err();
        assert_eq!(error, "retention.ms is given twice; give it once");
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_refused() {
        let fits = |pairs: &[(&str, &str)], replicas| {
            TopicConfig::resolve(&check(pairs).unwrap()).fits(replicas).map_err(|error| error.to_string())
        };
        assert_eq!(fits(&[], 1), Ok(()));
        let error = fits(&[("segment.bytes", "65536")], 1).unwrap_err();
        assert_eq!(
            error,
            "max.message.bytes cannot be 1048588: it must not be above segment.bytes, which is 65536; lower max.message.bytes, or raise segment.bytes"
        );
        let error = fits(&[("min.insync.replicas", "2")], 1).unwrap_err();
        assert_eq!(error, "min.insync.replicas cannot be 2: it must not be above the replication factor, which is 1");
    }

    #[test]
    fn an_endless_value_makes_a_short_sentence() {
        let error = check(&[("retention.ms", &"ä".repeat(1 << 20))]).unwrap_err();
        assert!(error.len() < 400);
    }
}
