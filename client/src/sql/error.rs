//! What a failure of the database means, split by who must act. Knows the two databases' codes, nothing of what was asked.

use std::error::Error;
use std::io;
use std::sync::Arc;

use crate::inbox::InboxError;

/// Why a database did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// A table or column is not there: the migration was not run, or names differ. An operator must.
    #[error(
        "the database lacks a table or column; run the migration (`migrate`, or the tool's `--migrate`), or correct the names: {0}"
    )]
    Missing(#[source] Arc<sqlx::Error>),
    /// There is no such file.
    #[error(
        "there is no database {path}: correct the path, or make it with the migration (`migrate`, or the tool's `--migrate`)"
    )]
    Absent {
        /// Where it should be.
        path: String,
    },
    /// It is away, busy, or has undone the transaction for the sake of another one. Passes by itself.
    #[error("the database cannot do it at the moment: {0}")]
    Passing(#[source] Arc<sqlx::Error>),
    /// It refused for good.
    #[error("the database refused: {0}")]
    Refused(#[source] Arc<sqlx::Error>),
    /// What stands in a table is nothing that this release wrote.
    #[error("table {table} holds what cannot be read: {what}")]
    Damaged {
        /// The table.
        table: String,
        /// What.
        what: String,
    },
    /// A column is of a type in which what belongs there does not stand.
    #[error(
        "column {column} of table {table} is of type {found}, and the outbox takes {needed}: change its type (ALTER TABLE … ALTER COLUMN … TYPE …), or \
         name another column"
    )]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// Of which it may be.
        needed: String,
    },
    /// The tables are of a later release.
    #[error("the tables are of version {found}, and this release knows {known} at most: upgrade it")]
    TooNew {
        /// The tables' version.
        found: i64,
        /// The latest that is known.
        known: i64,
    },
}

impl DatabaseError {
    /// True where the same may succeed later without anyone changing it.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Passing(_))
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let meaning = meaning(&error);
        let error = Arc::new(error);
        match meaning {
            Meaning::Missing => Self::Missing(error),
            Meaning::Passing => Self::Passing(error),
            Meaning::Final => Self::Refused(error),
        }
    }
}

/// True where an error, or one that it comes of, is a database's that passes by itself.
pub(crate) fn passes(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| within(error)).any(|error| {
        let shared = error.downcast_ref::<Arc<sqlx::Error>>().map(AsRef::as_ref);
        // The inbox does not demand that an effect's error is one, and so names no source.
        let noted = match error.downcast_ref::<InboxError<sqlx::Error>>() {
            Some(InboxError::Effect(error)) => Some(error),
            _ => None,
        };
        let found = error.downcast_ref::<sqlx::Error>().or(shared).or(noted);
        found.is_some_and(|error| meaning(error) == Meaning::Passing)
            || error.downcast_ref::<DatabaseError>().is_some_and(DatabaseError::is_retriable)
    })
}

/// What an error comes of. One that an `io::Error` was made of is no source of it: only what that comes of is.
fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    made_of.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Missing,
    Passing,
    Final,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Meaning::Passing,
        // A connection that breaks in the middle of an answer looks like this.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => Meaning::Passing,
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            by_code(&code, refusal.message())
        }
        _ => Meaning::Final,
    }
}

/// By a SQLSTATE of five characters, or a result code of SQLite, a number.
fn by_code(code: &str, message: &str) -> Meaning {
    if code.len() == 5 && !code.starts_with('-') {
        return match code {
            "42P01" | "42703" | "3F000" => Meaning::Missing,
            "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57014" => Meaning::Passing,
            code if code.starts_with("08") || code.starts_with("53") => Meaning::Passing,
            _ => Meaning::Final,
        };
    }
    let lacks = ["no such table", "no such column", "has no column named"];
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(1) if lacks.iter().any(|part| message.contains(part)) => Meaning::Missing,
        // Busy, locked, no memory, IO, full disk, cannot open, protocol.
        Ok(5 | 6 | 7 | 10 | 13 | 14 | 15) => Meaning::Passing,
        _ => Meaning::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error("no such order")]
        NoOrder,
        #[error("while it was stored")]
        Stored(#[source] sqlx::Error),
        #[error("while it was noted")]
        Noted(#[source] InboxError<sqlx::Error>),
    }

    #[test]
    fn what_passes_is_found_behind_the_errors_of_a_program() {
        let away = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(passes(&away()) && passes(&Trouble::Stored(away())) && passes(&DatabaseError::from(away())));
        assert!(passes(&Trouble::Noted(InboxError::Effect(away()))));
        assert!(passes(&Trouble::Noted(InboxError::Database(away().into()))));
        let wrapped = |error: sqlx::Error| io::Error::other(Trouble::Stored(error));
        assert!(passes(&io::Error::other(away())) && passes(&io::Error::other(io::Error::other(wrapped(away())))));
        assert!(passes(&io::Error::other(DatabaseError::from(away()))));
        assert!(!passes(&wrapped(sqlx::Error::RowNotFound)) && !passes(&io::Error::other(sqlx::Error::RowNotFound)));
        assert!(!passes(&Trouble::NoOrder) && !passes(&Trouble::Stored(sqlx::Error::RowNotFound)));
        assert!(!passes(&DatabaseError::from(sqlx::Error::RowNotFound)));
    }

    #[test]
    fn codes_say_who_must_act() {
        for (code, message, meant) in [
            ("42P01", "relation \"outboxevent\" does not exist", Meaning::Missing),
            ("57P01", "terminating connection due to administrator command", Meaning::Passing),
            ("40P01", "deadlock detected", Meaning::Passing),
            ("08006", "", Meaning::Passing),
            ("23505", "duplicate key", Meaning::Final),
            ("1", "no such table: outboxevent", Meaning::Missing),
            ("1", "table outboxevent has no column named slot", Meaning::Missing),
            ("1", "near \"x\": syntax error", Meaning::Final),
            ("5", "database is locked", Meaning::Passing),
            ("517", "database is locked", Meaning::Passing),
            ("13", "database or disk is full", Meaning::Passing),
            ("2067", "UNIQUE constraint failed", Meaning::Final),
        ] {
            assert_eq!(by_code(code, message), meant, "{code} {message}");
        }
    }
}
