//! Of which types the columns of an outbox in PostgreSQL may be, and how values of these are written and read. A table that was there before the outbox has
//! those of whoever made it: Debezium's a payload of type `jsonb`. Knows nothing of statements.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgTypeKind, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type, TypeInfo, ValueRef};
use uuid::Uuid;

use super::schema::{Column, Schema};
use crate::sql::DatabaseError;

/// The byte before a text of `jsonb` in binary form.
const JSONB_VERSION: u8 = 1;

/// The columns of the table, and of that of dead events where there is one, each with its type, as [`PostgresColumn`]s.
pub(super) const COLUMNS: &str = "SELECT a.attrelid = to_regclass('{table}'), a.attname::text, coalesce(nullif(t.typbasetype, 0), t.oid)::regtype::text \
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
     WHERE a.attrelid IN (to_regclass('{table}'), to_regclass('{table}_dead')) AND a.attnum > 0 AND NOT a.attisdropped";

/// Whether it is of the table itself, its name and its type.
pub(super) type PostgresColumn = (bool, String, String);

/// What a type does with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Uuid,
    Bytes,
    Text,
    Json,
    Jsonb,
}

impl Kind {
    /// By the name that PostgreSQL, or its protocol, has for the type.
    fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("uuid") => Some(Self::Uuid),
            () if is("bytea") => Some(Self::Bytes),
            () if is("text") || is("varchar") || is("character varying") => Some(Self::Text),
            () if is("json") => Some(Self::Json),
            () if is("jsonb") => Some(Self::Jsonb),
            () => None,
        }
    }
}

impl Column {
    /// Whether it can hold what stands in it.
    fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Id => matches!(kind, Kind::Uuid | Kind::Text),
            Self::AggregateType | Self::AggregateId | Self::Type => kind == Kind::Text,
            Self::Payload => matches!(kind, Kind::Bytes | Kind::Text | Kind::Json | Kind::Jsonb),
        }
    }

    const fn types(self) -> &'static str {
        match self {
            Self::Id => "uuid, text or varchar",
            Self::AggregateType | Self::AggregateId | Self::Type => "text or varchar",
            Self::Payload => "bytea, text, varchar, json or jsonb",
        }
    }
}

/// The types of those columns that may have several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Types {
    pub(super) id: String,
    pub(super) payload: String,
}

/// The types of the table's columns. What is not there is not refused: whoever asks for it is told.
///
/// # Errors
/// [`DatabaseError::ColumnType`]: of one of them no event can be made.
pub(super) fn types(schema: &Schema, columns: &[PostgresColumn]) -> Result<Types, DatabaseError> {
    let type_of = |of_table: bool, column: Column| {
        // As it stands in no quotes.
        let name = schema.named(column).as_str().to_ascii_lowercase();
        let found = columns.iter().find(|(is_of_table, found, _)| *is_of_table == of_table && *found == name);
        found.map(|(_, _, found)| found.as_str())
    };
    let refusal = |table: String, column: Column, found: &str, needed: String| {
        let column = schema.named(column).to_string();
        Err(DatabaseError::ColumnType { table, column, found: found.into(), needed })
    };
    for column in Column::ALL {
        let Some(found) = type_of(true, column) else { continue };
        let kind = Kind::of(found);
        if !kind.is_some_and(|kind| column.takes(kind)) {
            return refusal(schema.table.to_string(), column, found, column.types().into());
        }
        // Events go over into it as they are.
        if let Some(dead) = type_of(false, column)
            && Kind::of(dead) != kind
        {
            let needed = format!("{found}, as {} has it", schema.table);
            return refusal(format!("{}_dead", schema.table), column, dead, needed);
        }
    }
    let or = |column: Column, usual: &str| type_of(true, column).unwrap_or(usual).to_owned();
    Ok(Types { id: or(Column::Id, "uuid"), payload: or(Column::Payload, "bytea") })
}

/// A value for a column, in the form that the column's type has.
pub(super) struct Parameter<'a> {
    pub(super) column: Column,
    pub(super) found: &'a PgTypeInfo,
    pub(super) value: Option<&'a [u8]>,
}

impl Type<Postgres> for Parameter<'_> {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Parameter<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(kind) = kind(self.found).filter(|kind| self.column.takes(*kind)) else {
            let (column, needed) = (self.column, self.column.types());
            return Err(format!(
                "the column that the outbox has for {column:?} is of type {}, and must be {needed}",
                self.found
            )
            .into());
        };
        let Some(value) = self.value else { return Ok(IsNull::Yes) };
        match kind {
            Kind::Uuid => buffer.extend_from_slice(Uuid::try_parse_ascii(value)?.as_bytes()),
            Kind::Jsonb => {
                buffer.push(JSONB_VERSION);
                buffer.extend_from_slice(value);
            }
            Kind::Bytes | Kind::Text | Kind::Json => buffer.extend_from_slice(value),
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.found.clone())
    }
}

/// A payload out of a column of any type that it may have.
pub(super) struct Payload(pub(super) Vec<u8>);

impl Type<Postgres> for Payload {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        kind(found).is_some_and(|kind| Column::Payload.takes(kind))
    }
}

impl<'r> Decode<'r, Postgres> for Payload {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let is_binary = value.format() == PgValueFormat::Binary;
        let found = value.type_info().into_owned();
        match kind(&found) {
            Some(Kind::Jsonb) if is_binary => match value.as_bytes()? {
                [JSONB_VERSION, text @ ..] => Ok(Self(text.to_vec())),
                _ => Err("a jsonb of a form that this release does not know".into()),
            },
            Some(Kind::Bytes) => <Vec<u8> as Decode<Postgres>>::decode(value).map(Self),
            _ => Ok(Self(value.as_bytes()?.to_vec())),
        }
    }
}

fn kind(found: &PgTypeInfo) -> Option<Kind> {
    match found.kind() {
        PgTypeKind::Domain(base) => Kind::of(base.name()),
        _ => Kind::of(found.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Name;

    fn columns(of_table: bool, id: &str, payload: &str) -> Vec<PostgresColumn> {
        let text = "character varying";
        let types =
            [("id", id), ("aggregatetype", text), ("aggregateid", text), ("type", "text"), ("payload", payload)];
        types.map(|(name, found)| (of_table, name.into(), found.into())).to_vec()
    }

    #[test]
    fn types_of_which_events_can_be_made_are_taken() {
        for payload in ["bytea", "text", "character varying", "json", "jsonb"] {
            for id in ["uuid", "text", "character varying"] {
                let found = types(&Schema::default(), &columns(true, id, payload)).unwrap();
                assert_eq!(found, Types { id: id.into(), payload: payload.into() });
            }
        }
    }

    #[test]
    fn another_type_is_refused_with_the_column_and_what_it_takes() {
        let schema = Schema::default().column(Column::Payload, Name::new("Body").unwrap());
        let mut found = columns(true, "uuid", "bytea");
        found.push((true, "body".into(), "xml".into()));
        let refused = types(&schema, &found).unwrap_err().to_string();
        for part in ["column Body", "table outboxevent ", "type xml", "bytea, text, varchar, json or jsonb"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        let refused = types(&Schema::default(), &columns(true, "bigint", "bytea")).unwrap_err().to_string();
        assert!(refused.contains("column id") && refused.contains("uuid, text or varchar"), "{refused}");
    }

    #[test]
    fn dead_events_are_kept_under_the_same_types() {
        let both = |dead: &str| [columns(true, "uuid", "jsonb"), columns(false, "uuid", dead)].concat();
        types(&Schema::default(), &both("jsonb")).unwrap();
        let refused = types(&Schema::default(), &both("bytea")).unwrap_err().to_string();
        assert!(refused.contains("outboxevent_dead") && refused.contains("jsonb, as outboxevent has it"), "{refused}");
    }
}
