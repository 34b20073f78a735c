//! Values of configuration keys as text: what is read is written back in one form only. Knows nothing of which key has which value.

use alloc::format;
use alloc::string::{String, ToString};

/// A whole number within these bounds.
pub(crate) fn within<N: core::str::FromStr + PartialOrd>(text: &str, min: N, max: N) -> Option<N> {
    digits(text)?.parse().ok().filter(|number| (min..=max).contains(number))
}

/// A limit; -1 is none.
pub(crate) fn limit(text: &str) -> Option<Option<u64>> {
    if text == "-1" { Some(None) } else { within(text, 0, i64::MAX as u64).map(Some) }
}

/// The same as text.
pub(crate) fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".into(), |limit| limit.to_string())
}

/// A number from 0 to 1 in millionths.
pub(crate) fn ratio(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = !whole.is_empty() && (1..=6).contains(&decimals.len()) && digits(decimals).is_some();
    let whole: u32 = within(whole, 0, 1).filter(|_| is_number)?;
    let decimals: u32 = format!("{decimals:0<6}").parse().ok()?;
    Some(whole * MILLION + decimals).filter(|millionths| *millionths <= MILLION)
}

/// The same as text.
pub(crate) fn ratio_text(millionths: u32) -> String {
    let text = format!("{}.{:06}", millionths / MILLION, millionths % MILLION);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

const MILLION: u32 = 1_000_000;

/// Rust would read `+5` too, which no other tool writes back.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}
