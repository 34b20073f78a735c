//! What to do about metadata that cannot be used, in words. No logic.

/// In place of a copy from before: what that had not heard of yet, it would vote and confirm as if it never had been.
pub(crate) const ANEW: &str = "once the other voters are a majority without it, start this broker with an empty data folder, its broker_id and --join, and `tidelog cluster promote` gives it its vote again; put no older copy in its place where others vote: it would vote as what it no longer is, and settled metadata could be lost; only a cluster whose one voter this is has no other way than the newest copy of the whole data folder, and loses what came after it";
