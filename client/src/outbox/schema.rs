//! Tables and columns of an outbox and what they are called, after Debezium's conventions. Knows nothing of what is done with them.

use crate::sql::{Name, Statement};

/// The version of the tables that this release makes and knows.
pub(crate) const VERSION: i64 = 1;

/// What the tables and columns of an outbox are called.
///
/// By default the table is `outboxevent(id, aggregatetype, aggregateid, type, payload)`, to which come `seq` (the order), `slot` (which shard of the
/// relay has it), `staged_ms` and `published_ms`. Beside it lie tables with its name and an ending: `_dead` (what cannot be sent, with the cause), `_lease`
/// (who publishes) and `_meta`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schema {
    pub(crate) table: Name,
    id: Name,
    aggregate_type: Name,
    aggregate_id: Name,
    event_type: Name,
    payload: Name,
}

/// A column whose name can be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// The event's id; `id` by default. In PostgreSQL of type `uuid`, `text` or `varchar`.
    Id,
    /// The kind of aggregate, which names the topic; `aggregatetype` by default.
    AggregateType,
    /// Which aggregate, the record's key; `aggregateid` by default.
    AggregateId,
    /// The kind of event; `type` by default.
    Type,
    /// The record's value; `payload` by default. In PostgreSQL of type `bytea`, which `migrate` makes, `text`, `varchar`, `json` or `jsonb`, of which the
    /// text is published; in SQLite of any.
    Payload,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Id, Self::AggregateType, Self::AggregateId, Self::Type, Self::Payload];

    /// What it is called where nothing else is said.
    #[must_use]
    pub const fn usual_name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::AggregateType => "aggregatetype",
            Self::AggregateId => "aggregateid",
            Self::Type => "type",
            Self::Payload => "payload",
        }
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            table: Name::known("outboxevent"),
            id: Name::known(Column::Id.usual_name()),
            aggregate_type: Name::known(Column::AggregateType.usual_name()),
            aggregate_id: Name::known(Column::AggregateId.usual_name()),
            event_type: Name::known(Column::Type.usual_name()),
            payload: Name::known(Column::Payload.usual_name()),
        }
    }
}

impl Schema {
    /// With this table, and others beside it whose names begin with its.
    #[must_use]
    pub fn table(mut self, table: Name) -> Self {
        self.table = table;
        self
    }

    /// With a column of another name.
    #[must_use]
    pub fn column(mut self, column: Column, name: Name) -> Self {
        match column {
            Column::Id => self.id = name,
            Column::AggregateType => self.aggregate_type = name,
            Column::AggregateId => self.aggregate_id = name,
            Column::Type => self.event_type = name,
            Column::Payload => self.payload = name,
        }
        self
    }

    /// What the column is called.
    #[cfg(feature = "outbox-postgres")]
    pub(crate) const fn named(&self, column: Column) -> &Name {
        match column {
            Column::Id => &self.id,
            Column::AggregateType => &self.aggregate_type,
            Column::AggregateId => &self.aggregate_id,
            Column::Type => &self.event_type,
            Column::Payload => &self.payload,
        }
    }

    /// The statement that `template` is with these names.
    pub(crate) fn statement(&self, template: &str, now: &str) -> Statement {
        let words = [
            ("table", self.table.as_str()),
            ("bare", self.table.bare()),
            ("id", self.id.as_str()),
            ("aggregate_type", self.aggregate_type.as_str()),
            ("aggregate_id", self.aggregate_id.as_str()),
            ("event_type", self.event_type.as_str()),
            ("payload", self.payload.as_str()),
            ("now", now),
        ];
        Statement::of(template, &words)
    }

    /// The table of leases.
    pub(crate) fn leases(&self) -> String {
        format!("{}_lease", self.table)
    }

    /// What PostgreSQL says as something was staged.
    #[cfg(feature = "outbox-postgres")]
    pub(crate) fn channel(&self) -> String {
        format!("{}_staged", self.table.bare())
    }
}
