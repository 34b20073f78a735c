//! Values of a wrong command line, cut to what can be read at a glance. Knows nothing of what was wrong with them.

use clap::Error;
use clap::error::{ContextKind, ContextValue};

/// So much of a value is shown.
const SHOWN_CHARS: usize = 80;

/// The error, without most of a long value that it names.
pub(super) fn cut(mut error: Error) -> Error {
    let shown = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if value.chars().count() > SHOWN_CHARS => {
            value.chars().take(SHOWN_CHARS).chain(['…']).collect()
        }
        _ => return error,
    };
    error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    error
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn of_a_long_name_the_beginning_is_shown_and_what_is_wrong_with_it() {
        for (name, shown) in [("n".repeat(300), format!("'{}…'", "n".repeat(80))), ("a/b".into(), "'a/b'".into())] {
            let refused = command().try_get_matches_from(["tidelog", "topics", "create", &name]).unwrap_err();
            let told = cut(refused).to_string();
            assert!(told.contains(&shown) && told.len() < 300, "{told}");
            assert_eq!(told.contains("249 bytes at most, this one has 300"), name.len() == 300, "{told}");
        }
    }
}
