//! Why the configuration of a topic is refused, in sentences that say what would be possible.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::topic_config::{TOPIC_KEYS, TopicKey};

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InvalidConfig {
    /// No such key.
    UnknownKey {
        /// What was given.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A value that its key does not allow.
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        range: &'static str,
    },
    /// The same key more than once in one request.
    Twice {
        /// The key.
        key: &'static str,
    },
    /// A value that does not fit the rest of the topic.
    Conflict {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must not be above.
        limit: String,
    },
}

impl InvalidConfig {
    pub(crate) fn value(key: &TopicKey, value: &str) -> Self {
        Self::Value { key: key.name, value: shortened(value), range: key.range }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // As much a topic's own as any config, but where replicas are is decided one by one.
            Self::UnknownKey { key, .. } if key == "replication.factor" => {
                write!(f, "{key} is no topic config: replicas are added and moved by `tidelog cluster reassign`")
            }
            Self::UnknownKey { key, nearest: Some(nearest) } => {
                write!(f, "there is no topic config '{key}'; did you mean '{nearest}'?")
            }
            Self::UnknownKey { key, nearest: None } => {
                write!(f, "there is no topic config '{key}'; possible are")?;
                for (i, known) in TOPIC_KEYS.iter().enumerate() {
                    write!(f, "{} {}", if i == 0 { "" } else { "," }, known.name)?;
                }
                Ok(())
            }
            Self::Value { key, value, range } => write!(f, "{key} cannot be '{value}'; possible is {range}"),
            Self::Twice { key } => write!(f, "{key} is given twice; give it once"),
            Self::Conflict { key, value, limit } => write!(f, "{key} cannot be {value}: it must not be above {limit}"),
        }
    }
}

impl core::error::Error for InvalidConfig {}

/// Text from outside, short enough for a sentence.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
