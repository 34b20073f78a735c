//! What to do about metadata that cannot be used, in words. No logic.

/// In place of a copy from before: what that had not heard of yet, it would vote and confirm as if it never had been.
pub(crate) const ANEW: &str = "where this broker is the only voter, as one broker by itself is, put the newest copy of the whole data folder in its place; what came after it is lost. Where others vote, put no copy there, which would vote as what it no longer is, and could lose settled metadata: once they are a majority without it, start this broker with an empty data folder, its broker_id and --join, and `tidelog cluster promote` gives it its vote again";
