//! What a transactional id may be. Knows nothing of what it names.

use alloc::format;
use alloc::string::String;

use tidelog_protocol::ErrorCode;

use crate::command::Refusal;

/// The longest, in bytes.
pub const TRANSACTIONAL_ID_BYTES_MAX: usize = 255;

/// May a transactional id be this?
///
/// # Errors
/// InvalidTransactionalId, with the rule that it breaks.
pub fn check(id: &str) -> Result<(), Refusal> {
    let broken = if id.is_empty() {
        String::from("this one is empty")
    } else if id.len() > TRANSACTIONAL_ID_BYTES_MAX {
        format!("this one has {}", id.len())
    } else if let Some(found) = id.chars().find(|c| c.is_control()) {
        format!("this one holds {found:?}")
    } else {
        return Ok(());
    };
    let rule =
        format!("a transactional id has 1 to {TRANSACTIONAL_ID_BYTES_MAX} bytes without control characters; {broken}");
    Err(Refusal::new(ErrorCode::InvalidTransactionalId, rule))
}
