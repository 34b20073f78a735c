//! A list of which a part is missing, as several brokers hold it and not all of them answered: what is said of that, and how the command ends.
//! Knows nothing of what is listed.

use serde_json::{Value, json};
use tidelog_client::MissingShards;

use crate::byte_size::counted;
use crate::exit::Exit;

/// Says on standard error of what nothing is known, and gives how to end.
pub(super) fn told(missing: &[MissingShards], what: &str) -> Exit {
    for at in missing {
        eprintln!("warning: {}", sentence(at, what));
    }
    if missing.is_empty() { Exit::Done } else { Exit::Partial }
}

fn sentence(at: &MissingShards, what: &str) -> String {
    let who = at.broker.map_or_else(|| "nobody leads".to_owned(), |broker| format!("broker {broker} does not tell of"));
    let MissingShards { shards, of, error, .. } = at;
    format!("{who} {} of {of}, so that their {what} are missing here: {error}", counted(*shards, "shard"))
}

/// The same for programs.
pub(super) fn documents(missing: &[MissingShards]) -> Value {
    let document = |at: &MissingShards| {
        json!({
            "broker": at.broker.map(|broker| broker.0),
            "shards": at.shards,
            "of": at.of,
            "cause": at.error.to_string(),
        })
    };
    missing.iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::{BrokerId, ClientError, PartitionId};

    #[test]
    fn what_is_missing_is_named_with_who_should_have_told() {
        let error = ClientError::NoLeader { topic: "__groups".into(), partition: PartitionId(3) };
        let silent = MissingShards { broker: Some(BrokerId(2)), shards: 5, of: 16, error };
        let text = sentence(&silent, "groups");
        assert!(
            text.starts_with("broker 2 does not tell of 5 shards of 16, so that their groups are missing"),
            "{text}"
        );
        let unled = MissingShards { broker: None, shards: 1, ..silent };
        assert!(sentence(&unled, "groups").starts_with("nobody leads 1 shard of 16"));
        assert_eq!((told(&[], "groups"), told(&[unled], "groups")), (Exit::Done, Exit::Partial));
    }
}
