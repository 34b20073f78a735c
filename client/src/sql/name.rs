//! Names of tables and columns, checked so that they can stand in a statement. Knows nothing of what they name.

use std::fmt;
use std::str::FromStr;

/// The name of a table or a column: letters, digits and underscores, not a digit first, at most 50 of them; of a table also two such names
/// with a dot between them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a table or column: letters, digits and underscores, not a digit first, 50 at most"
)]
pub struct InvalidName(String);

impl Name {
    /// Leaves room for endings within what a database takes (63).
    const MAX: usize = 50;

    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let is_part = |part: &str| {
            let first = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            first && part.len() <= Self::MAX && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let parts = name.split('.').count();
        if parts <= 2 && name.split('.').all(is_part) { Ok(Self(name.into())) } else { Err(InvalidName(name.into())) }
    }

    /// A name that is known to be one.
    pub(crate) fn known(name: &'static str) -> Self {
        debug_assert!(Self::new(name).is_ok(), "{name}");
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the schema that it lies in.
    pub(crate) fn bare(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_quotes_is_a_name() {
        for good in ["outboxevent", "_a1", "shop.outboxevent", "A"] {
            assert_eq!(Name::new(good).unwrap().to_string(), good);
        }
        for bad in ["", "1a", "a b", "a;drop", "a\"", "a.b.c", ".a", "a.", "é", &"a".repeat(51)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Name::new("shop.events").unwrap().bare(), "events");
    }
}
