//! What names in groups may be. Knows nothing of what they name.

use alloc::format;
use alloc::string::String;

use tidelog_protocol::ErrorCode;

use crate::command::Refusal;

/// The longest group or instance name, rack or client name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest member id, in bytes.
pub const MEMBER_ID_BYTES_MAX: usize = 64;

/// Whether a group may have this name.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_group(name: &str) -> Result<(), Refusal> {
    check("group name", name, NAME_BYTES_MAX)
}

pub(super) fn check_member(id: &str) -> Result<(), Refusal> {
    check("member id", id, MEMBER_ID_BYTES_MAX)
}

/// A name that need not be given.
pub(super) fn check_optional(what: &str, name: Option<&str>) -> Result<(), Refusal> {
    name.map_or(Ok(()), |name| check(what, name, NAME_BYTES_MAX))
}

fn check(what: &str, name: &str, bytes_max: usize) -> Result<(), Refusal> {
    let broken = if name.is_empty() {
        String::from("this one is empty")
    } else if name.len() > bytes_max {
        format!("this one has {}", name.len())
    } else if let Some(found) = name.chars().find(|c| c.is_control()) {
        format!("this one holds {found:?}")
    } else {
        return Ok(());
    };
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let rule = format!("{article} {what} has 1 to {bytes_max} bytes without control characters; {broken}");
    Err(Refusal::new(ErrorCode::InvalidGroup, rule))
}
