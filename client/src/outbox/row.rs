//! A staged event as it stands in its table, and the record that it becomes. Pure.

use bytes::Bytes;

use crate::{Record, TopicName};

/// A row that waits to be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its place in the order.
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) payload: Option<Bytes>,
    pub(crate) staged_ms: i64,
}

impl Row {
    /// What it is called by.
    pub(crate) fn mark(&self) -> Mark {
        Mark { seq: self.seq, id: self.id.clone() }
    }

    /// The topic that it goes to.
    ///
    /// # Errors
    /// Where the aggregate type makes no name of a topic.
    pub(crate) fn topic(&self, prefix: &str) -> Result<String, String> {
        let topic = format!("{prefix}{}", self.aggregate_type);
        match TopicName::new(&topic) {
            Ok(_) => Ok(topic),
            Err(error) => Err(format!("{topic:?} is no name of a topic: {error}")),
        }
    }

    /// The record, for `topic`.
    pub(crate) fn record(&self, topic: &str) -> Record {
        let mut record = Record::to(topic).key(self.aggregate_id.clone());
        record.value = self.payload.clone();
        record.header("id", self.id.clone()).header("type", self.event_type.clone())
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.id.len() + self.aggregate_type.len() + self.aggregate_id.len() + self.event_type.len();
        texts + self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// What a row is recognised by. Its place alone is not enough: a table that was restored gives the same places to other events.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mark {
    pub(crate) seq: i64,
    pub(crate) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, aggregate_type: &str, payload: usize) -> Row {
        Row {
            seq,
            id: "i".into(),
            aggregate_type: aggregate_type.into(),
            aggregate_id: "a".into(),
            event_type: "t".into(),
            payload: Some(vec![b'x'; payload].into()),
            staged_ms: 0,
        }
    }

    #[test]
    fn the_aggregate_names_topic_and_key() {
        let row = row(1, "order", 3);
        let record = row.record(&row.topic("outbox.event.").unwrap());
        assert_eq!(&*record.topic, "outbox.event.order");
        assert_eq!(record.key.as_deref(), Some(&b"a"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"xxx"[..]));
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "type"]);
    }

    #[test]
    fn an_aggregate_type_that_names_no_topic_is_said_so() {
        assert!(row(1, "or der", 1).topic("outbox.event.").unwrap_err().contains("or der"));
    }
}
