//! Configuration as Kafka's clients see it: their numbers for kinds, sources and types, what they may say of a topic that is so here anyway, and
//! their names for keys of a broker that mean the same. Knows nothing of requests.

use tidelog_coordination::TopicImage;
use tidelog_coordination::topic_config::{TOPIC_KEYS, ValueKind};
use tidelog_protocol::messages::ConfigEntry;

use crate::config::{Config, ConfigRow};

/// What has a configuration.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Where a value comes from.
pub(super) const OF_TOPIC: i8 = 1;
pub(super) const OF_BROKER: i8 = 4;
pub(super) const OF_DEFAULTS: i8 = 5;

/// What a value is.
const BOOLEAN: i8 = 1;
const TEXT: i8 = 2;
const INTEGER: i8 = 3;
const LONG: i8 = 5;
const FRACTION: i8 = 6;
const LIST: i8 = 7;

/// A value that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    /// Its key.
    pub(super) name: &'static str,
    /// What the key is called where it is set.
    pub(super) set_as: &'static str,
    pub(super) value: String,
    /// The value where none is set.
    pub(super) default: String,
    pub(super) source: i8,
    pub(super) kind: i8,
    /// Whether no request changes it.
    pub(super) read_only: bool,
    /// What it does.
    pub(super) doc: String,
}

/// A key that Kafka's clients may set, to the one value that it has here.
struct Always {
    name: &'static str,
    value: &'static str,
    kind: i8,
    doc: &'static str,
}

const ALWAYS: [Always; 3] = [
    Always {
        name: "compression.type",
        value: "producer",
        kind: TEXT,
        doc: "Batches stay in the compression that their producer chose.",
    },
    Always {
        name: "message.timestamp.type",
        value: "CreateTime",
        kind: TEXT,
        doc: "Records keep the time that their producer gave them.",
    },
    Always {
        name: "unclean.leader.election.enable",
        value: "false",
        kind: BOOLEAN,
        doc: "A replica that may lack records leads by an operator's order only, one partition at a time.",
    },
];

/// Keys of a broker, and what Kafka calls those that mean the same there.
const KEYS_OF_BROKERS: [(&str, &str); 8] = [
    ("broker_id", "broker.id"),
    ("connections_max", "max.connections"),
    ("data", "log.dirs"),
    ("default_partitions", "num.partitions"),
    ("idle_timeout_ms", "connections.max.idle.ms"),
    ("kafka_auto_create_topics", "auto.create.topics.enable"),
    ("producer_id_expiration_ms", "producer.id.expiration.ms"),
    ("rack", "broker.rack"),
];

/// What holds for a topic.
pub(super) fn of_topic(topic: &TopicImage) -> Vec<Setting> {
    let keys = TOPIC_KEYS.iter().map(|key| Setting {
        name: key.name,
        set_as: key.name,
        value: key.value_in(&topic.config),
        default: key.default_value(),
        source: if topic.overrides.contains_key(key.name) { OF_TOPIC } else { OF_DEFAULTS },
        kind: match key.kind {
            ValueKind::Word => TEXT,
            ValueKind::Words => LIST,
            ValueKind::Integer => INTEGER,
            ValueKind::Long => LONG,
            ValueKind::Fraction => FRACTION,
        },
        read_only: false,
        doc: key.documentation(),
    });
    let always = ALWAYS.iter().map(|always| Setting {
        name: always.name,
        set_as: always.name,
        value: always.value.into(),
        default: always.value.into(),
        source: OF_DEFAULTS,
        kind: always.kind,
        read_only: true,
        doc: always.doc.into(),
    });
    keys.chain(always).collect()
}

/// What holds for this broker; it is read once, when it starts.
pub(super) fn of_broker(config: &Config) -> Vec<Setting> {
    let setting = |row: ConfigRow| {
        let theirs = KEYS_OF_BROKERS.iter().find(|(ours, _)| *ours == row.key);
        Setting {
            name: theirs.map_or(row.key, |(_, theirs)| theirs),
            set_as: row.key,
            source: if row.value == row.default { OF_DEFAULTS } else { OF_BROKER },
            kind: match row.default.parse::<bool>() {
                Ok(_) => BOOLEAN,
                Err(_) if row.is_number => LONG,
                Err(_) => TEXT,
            },
            read_only: true,
            doc: format!("{} Expects {}.", row.doc.concat().trim(), row.expected),
            value: row.value,
            default: row.default,
        }
    };
    config.rows().into_iter().map(setting).collect()
}

/// What of this is to be set in a topic: without what is so here anyway.
///
/// # Errors
/// Why not, where something can only be otherwise than it is asked for.
pub(super) fn settable(entries: Vec<ConfigEntry>) -> Result<Vec<ConfigEntry>, String> {
    let unless_so = |entry: ConfigEntry| match always(&entry.key) {
        None => Some(Ok(entry)),
        Some(always) if always.value == entry.value => None,
        Some(always) => Some(Err(format!(
            "{} is '{}' here and nothing else: leave it out. {}",
            always.name, always.value, always.doc
        ))),
    };
    entries.into_iter().filter_map(unless_so).collect()
}

/// Whether a topic has the key without being able to set it.
pub(super) fn is_fixed(key: &str) -> bool {
    always(key).is_some()
}

fn always(key: &str) -> Option<&'static Always> {
    ALWAYS.iter().find(|always| always.name == key)
}

/// A list with more in it; what stands there stays in its place.
///
/// # Errors
/// Where the key has no list.
pub(super) fn appended(key: &str, list: &str, more: &str) -> Result<String, String> {
    check_is_list(key)?;
    let mut words: Vec<&str> = words(list).collect();
    for word in self::words(more) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(words.join(","))
}

/// A list without these.
///
/// # Errors
/// Where the key has no list.
pub(super) fn subtracted(key: &str, list: &str, less: &str) -> Result<String, String> {
    check_is_list(key)?;
    let gone: Vec<&str> = words(less).collect();
    Ok(words(list).filter(|word| !gone.contains(word)).collect::<Vec<_>>().join(","))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn check_is_list(key: &str) -> Result<(), String> {
    let is_list = |row: &&tidelog_coordination::topic_config::TopicKey| row.kind == ValueKind::Words;
    if TOPIC_KEYS.iter().filter(is_list).any(|row| row.name == key) {
        return Ok(());
    }
    Err(format!("{key} is no list: it can be set and put back, nothing can be added to it or taken from it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> ConfigEntry {
        ConfigEntry { key: key.into(), value: value.into() }
    }

    #[test]
    fn what_is_so_anyway_may_be_said_and_nothing_else() {
        let said = vec![entry("compression.type", "producer"), entry("retention.ms", "5"), entry("x", "y")];
        assert_eq!(settable(said), Ok(vec![entry("retention.ms", "5"), entry("x", "y")]));
        let refused = settable(vec![entry("message.timestamp.type", "LogAppendTime")]).unwrap_err();
        assert!(refused.starts_with("message.timestamp.type is 'CreateTime' here"), "{refused}");
    }

    #[test]
    fn no_key_has_two_meanings() {
        let config = Config::default();
        let mut names: Vec<_> = of_broker(&config).iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Config::KEYS.len());
        assert!(KEYS_OF_BROKERS.iter().all(|(ours, theirs)| Config::KEYS.contains(ours) && names.contains(theirs)));
        assert!(ALWAYS.iter().all(|always| TOPIC_KEYS.iter().all(|key| key.name != always.name)));
    }

    #[test]
    fn a_value_of_a_broker_is_its_own_once_it_is_not_the_default() {
        let mut config = Config::default();
        config.set("default_partitions", "7").unwrap();
        let settings = of_broker(&config);
        let found = |name| settings.iter().find(|setting| setting.name == name).unwrap();
        let partitions = found("num.partitions");
        assert_eq!((&*partitions.value, &*partitions.default, partitions.source), ("7", "1", OF_BROKER));
        assert_eq!((partitions.set_as, partitions.kind), ("default_partitions", LONG));
        assert_eq!((found("auto.create.topics.enable").kind, found("listen").kind), (BOOLEAN, TEXT));
        assert_eq!(found("listen").source, OF_DEFAULTS);
    }

    #[test]
    fn lists_grow_and_shrink_and_nothing_else_does() {
        let key = "cleanup.policy";
        assert_eq!(appended(key, "delete", "compact").unwrap(), "delete,compact");
        assert_eq!(appended(key, "compact,delete", " delete ,").unwrap(), "compact,delete");
        assert_eq!(subtracted(key, "compact,delete", "compact").unwrap(), "delete");
        assert_eq!(subtracted(key, "delete", "compact").unwrap(), "delete");
        assert!(appended("retention.ms", "1", "2").is_err() && subtracted("nothing", "1", "2").is_err());
    }
}
