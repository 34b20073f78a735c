//! `tidelog groups lag`: how far a group is behind, as a table whose sum hides nothing. Knows nothing of how it is found out.

use serde_json::{Value, json};
use tidelog_client::{Admin, GroupLag};

use super::Context;
use super::topics::print;
use crate::byte_size::{counted, display_count};
use crate::connect::failure;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};

pub(super) async fn show(admin: &Admin, group: &str, context: &Context) -> Result<Exit, Failure> {
    let lags = admin.group_lag(group).await.map_err(failure)?;
    let behind: u64 = lags.iter().filter_map(GroupLag::lag).sum();
    let documents: Vec<Value> = lags.iter().map(document).collect();
    print(context, &text(group, &lags), || json!({"group": group, "lag": behind, "partitions": documents}))?;
    let mut exit = Exit::Done;
    for at in &lags {
        if let Err(error) = &at.log {
            eprintln!(
                "warning: how far the group is behind in partition {} of '{}' is not known: {error}",
                at.partition, at.topic
            );
            exit = Exit::Partial;
        }
    }
    Ok(exit)
}

fn text(group: &str, lags: &[GroupLag]) -> String {
    let mut columns = Columns::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("COMMITTED", Align::Right),
        ("END", Align::Right),
        ("LAG", Align::Right),
        ("MEMBER", Align::Left),
    ]);
    let dash = || "-".to_owned();
    for at in lags {
        let member = match (&at.member_id, &at.next_member_id) {
            (Some(member), Some(next)) => format!("{member}, then {next}"),
            (None, Some(next)) => format!("-, then {next}"),
            (Some(member), None) => member.clone(),
            (None, None) => dash(),
        };
        let lag = match (at.lag(), at.ahead()) {
            (None, _) => "?".into(),
            (Some(lag), 0) if at.gone() > 0 => {
                let start = at.log.as_ref().map(|log| log.start).unwrap_or_default();
                format!("{}, its place is gone: the log starts at {start}", display_count(lag))
            }
            (Some(lag), 0) => display_count(lag),
            (Some(_), ahead) => format!("ahead of the log by {}", display_count(ahead)),
        };
        columns.row([
            at.topic.clone(),
            at.partition.to_string(),
            at.committed.map_or_else(dash, |committed| committed.to_string()),
            at.log.as_ref().map_or_else(|_| "?".into(), |log| log.end.to_string()),
            lag,
            member,
        ]);
    }
    let behind: u64 = lags.iter().filter_map(GroupLag::lag).sum();
    let is_unread = |at: &&GroupLag| at.committed.is_none() && at.log.is_ok();
    let unread: u64 = lags.iter().filter(is_unread).filter_map(GroupLag::lag).sum();
    let (unknown, ahead) =
        (lags.iter().filter(|at| at.log.is_err()).count(), lags.iter().filter(|at| at.ahead() > 0).count());
    let mut text = format!("{columns}group '{group}' is {} behind", counted(behind, "record"));
    if unread > 0 {
        let places =
            counted(lags.iter().filter(is_unread).filter(|at| at.lag() != Some(0)).count() as u64, "partition");
        text.push_str(&format!(", {} of them in {places} where it has committed nothing", display_count(unread)));
    }
    if unknown > 0 {
        text.push_str(&format!("; of {} it is not known", counted(unknown as u64, "partition")));
    }
    if ahead > 0 {
        text.push_str(&format!("; in {} it is ahead of the log", counted(ahead as u64, "partition")));
    }
    let gone = lags.iter().filter(|at| at.gone() > 0).count();
    if gone > 0 {
        text.push_str(&format!("; in {} its place is gone", counted(gone as u64, "partition")));
    }
    text.push('\n');
    text
}

fn document(at: &GroupLag) -> Value {
    let log = at.log.as_ref().ok();
    json!({
        "topic": at.topic,
        "partition": at.partition.0,
        "committed": at.committed.map(|committed| committed.0),
        "log_start": log.map(|log| log.start.0),
        "high_watermark": log.map(|log| log.end.0),
        "lag": at.lag(),
        "ahead": at.ahead(),
        "gone": at.gone(),
        "member_id": at.member_id,
        "next_member_id": at.next_member_id,
        "cause": at.log.as_ref().err().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::{ClientError, Offset, PartitionId};

    fn lag(partition: u32, committed: Option<u64>) -> GroupLag {
        GroupLag {
            topic: "orders".into(),
            partition: PartitionId(partition),
            committed: committed.map(Offset),
            log: Ok(Offset(0)..Offset(10)),
            member_id: None,
            next_member_id: None,
        }
    }

    #[test]
    fn the_sum_hides_nothing() {
        let error = ClientError::NoLeader { topic: "orders".into(), partition: PartitionId(3) };
        let unknown = GroupLag { log: Err(error), ..lag(3, Some(1)) };
        let moving = GroupLag { member_id: Some("a".into()), next_member_id: Some("b".into()), ..lag(0, Some(8)) };
        let text = text("billing", &[moving, lag(1, None), lag(2, Some(15)), unknown]);
        for part in ["a, then b", "ahead of the log by 5", " ? "] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        let sum = "group 'billing' is 12 records behind, 10 of them in 1 partition where it has committed nothing; \
                   of 1 partition it is not known; in 1 partition it is ahead of the log\n";
        assert!(text.ends_with(sum), "{text}");
        let gone = GroupLag { log: Ok(Offset(50)..Offset(50)), ..lag(4, Some(0)) };
        assert_eq!((&document(&gone)["lag"], &document(&gone)["gone"]), (&json!(0), &json!(50)));
        let gone = super::text("billing", &[gone]);
        assert!(gone.contains("0, its place is gone: the log starts at 50"), "{gone}");
        assert!(gone.ends_with("is 0 records behind; in 1 partition its place is gone\n"), "{gone}");
        assert!(super::text("billing", &[lag(0, Some(10))]).ends_with("group 'billing' is 0 records behind\n"));
    }
}
