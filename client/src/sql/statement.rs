//! A statement made from a template and checked names. Knows nothing of what it does.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

/// A statement made once from checked names, so that no part of it comes from outside.
#[derive(Clone, Debug)]
pub struct Statement(Arc<str>);

impl Statement {
    /// The statement that `template` is with every `{word}` replaced.
    pub(crate) fn of(template: &str, words: &[(&str, &str)]) -> Self {
        let replace = |text: String, (word, name): &(&str, &str)| text.replace(&format!("{{{word}}}"), name);
        let text = words.iter().fold(template.to_owned(), replace);
        debug_assert!(!text.contains('{'), "a word is left: {text}");
        Self(text.into())
    }

    /// As the database takes it.
    pub(crate) fn sql(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.0))
    }
}
