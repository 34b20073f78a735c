//! `tidelog transactions`: transactional producers, what each has open and since when, and the end of what nobody ends.

use clap::Subcommand;
use serde_json::{Value, json};
use tidelog_client::messages::{
    DescribeTransactionResponse, EndedTransaction, TopicPartitions, TransactionEnder, TransactionState,
};
use tidelog_client::{Admin, Listed, Timestamp, TransactionFilter};

use super::groups::Names;
use super::{Context, incomplete, topics::print};
use crate::byte_size::counted;
use crate::connect::failure;
use crate::duration::display_millis;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::display_time;

/// What to do with transactions.
#[derive(Debug, Subcommand)]
pub enum TransactionsCommand {
    /// List transactional ids.
    #[command(after_help = "\
OPEN says for how long a transaction is open or being ended; until then whoever reads what is committed waits at its first record.
Where a broker does not answer, the ids of the others are listed, and the exit code is 8.")]
    List {
        /// Only those with a transaction that is open, or being ended.
        #[arg(long)]
        open: bool,
    },
    /// Show what the transaction of an id touches, and how the last one ended.
    Describe {
        /// The transactional id.
        #[arg(value_name = "ID")]
        transactional_id: String,
    },
    /// Undo the open transaction of an id now, and not only when its timeout is over. Its producer is told, and may begin another.
    #[command(after_help = "\
Example:
  tidelog transactions abort billing-1")]
    Abort {
        /// The transactional id.
        #[arg(value_name = "ID")]
        transactional_id: String,
    },
}

pub(super) async fn run(command: TransactionsCommand, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client_in_time("tidelog").await?;
    let admin = client.admin();
    match command {
        TransactionsCommand::List { open } => {
            return list(&admin, if open { TransactionFilter::Open } else { TransactionFilter::All }, context).await;
        }
        TransactionsCommand::Describe { transactional_id } => describe(&admin, &transactional_id, context).await?,
        TransactionsCommand::Abort { transactional_id: id } => {
            admin.abort_transaction(&id).await.map_err(failure)?;
            let text = format!("the transaction under '{id}' is undone\n");
            print(context, &text, || json!({"transactional_id": id, "aborted": true}))?;
        }
    }
    Ok(Exit::Done)
}

const fn state_name(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Empty => "empty",
        TransactionState::Ongoing => "open",
        TransactionState::Committing => "committing",
        TransactionState::Aborting => "aborting",
    }
}

const fn ender_name(by: TransactionEnder) -> &'static str {
    match by {
        TransactionEnder::Producer => "producer",
        TransactionEnder::Successor => "successor",
        TransactionEnder::Timeout => "timeout",
        TransactionEnder::Operator => "operator",
    }
}

async fn list(admin: &Admin, filter: TransactionFilter, context: &Context) -> Result<Exit, Failure> {
    let Listed { found, missing } = admin.list_transactions(filter).await.map_err(failure)?;
    let mut columns = Columns::new(&[
        ("TRANSACTIONAL ID", Align::Left),
        ("STATE", Align::Left),
        ("OPEN", Align::Right),
        ("PRODUCER", Align::Right),
        ("EPOCH", Align::Right),
    ]);
    let mut documents = Vec::with_capacity(found.len());
    for at in &found {
        let is_open = at.state != TransactionState::Empty;
        columns.row([
            at.transactional_id.clone(),
            state_name(at.state).into(),
            if is_open { display_millis(at.open_ms) } else { "-".into() },
            at.identity.producer_id.to_string(),
            at.identity.epoch.to_string(),
        ]);
        documents.push(json!({
            "transactional_id": at.transactional_id,
            "state": state_name(at.state),
            "open_ms": is_open.then_some(at.open_ms),
            "producer_id": at.identity.producer_id.0,
            "epoch": at.identity.epoch.0,
        }));
    }
    let text = match (found.is_empty(), missing.is_empty(), filter) {
        (true, false, _) => "none was found where there was an answer\n".into(),
        (true, true, TransactionFilter::All) => "there are no transactional ids\n".into(),
        (true, true, TransactionFilter::Open) => "no transaction is open\n".into(),
        (false, ..) => columns.to_string(),
    };
    print(context, &text, || json!({"transactions": documents, "missing": incomplete::documents(&missing)}))?;
    Ok(incomplete::told(&missing, "transactional ids"))
}

async fn describe(admin: &Admin, id: &str, context: &Context) -> Result<(), Failure> {
    let described = admin.describe_transaction(id).await.map_err(failure)?;
    let names = Names::ask(admin).await?;
    print(context, &text(id, &described, &names), || document(id, &described, &names))
}

fn text(id: &str, described: &DescribeTransactionResponse, names: &Names) -> String {
    let DescribeTransactionResponse { state, identity, timeout_ms, began_at, partitions, groups, ended, .. } =
        described;
    let timeout = display_millis(u64::from(*timeout_ms));
    let mut text = format!(
        "'{id}' is {}: producer {} in epoch {}, timeout {timeout}\n",
        state_name(*state),
        identity.producer_id,
        identity.epoch
    );
    if let Some(began_at) = began_at {
        text.push_str(&format!("began at {}\n", display_time(*began_at)));
    }
    let what = if *state == TransactionState::Ongoing { "touches" } else { "still to be told" };
    let count = |owned: &[TopicPartitions]| owned.iter().map(|topic| topic.partitions.len() as u64).sum::<u64>();
    if !partitions.is_empty() {
        text.push_str(&format!("{what} {}: {}\n", counted(count(partitions), "partition"), names.places(partitions)));
    }
    if !groups.is_empty() {
        text.push_str(&format!("{what} {}: {}\n", counted(groups.len() as u64, "group"), groups.join(" ")));
    }
    if let Some(EndedTransaction { identity, committed, by }) = ended {
        let how = if *committed { "committed" } else { "aborted" };
        text.push_str(&format!("the last one, in epoch {}, was {how} by its {}\n", identity.epoch, ender_name(*by)));
    }
    text
}

fn document(id: &str, described: &DescribeTransactionResponse, names: &Names) -> Value {
    let ended = described.ended.as_ref().map(|ended| {
        json!({
            "producer_id": ended.identity.producer_id.0,
            "epoch": ended.identity.epoch.0,
            "committed": ended.committed,
            "by": ender_name(ended.by),
        })
    });
    json!({
        "transactional_id": id,
        "state": state_name(described.state),
        "producer_id": described.identity.producer_id.0,
        "epoch": described.identity.epoch.0,
        "timeout_ms": described.timeout_ms,
        "began_at": described.began_at.map(|at: Timestamp| display_time(at)),
        "changed_at": display_time(described.changed_at),
        "partitions": names.documents(&described.partitions),
        "groups": described.groups,
        "ended": ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::messages::ProducerIdentity;

    #[test]
    fn an_id_is_told_with_how_its_last_transaction_ended() {
        let identity = ProducerIdentity {
            producer_id: tidelog_protocol::ProducerId(7),
            epoch: tidelog_protocol::ProducerEpoch(3),
        };
        let described = DescribeTransactionResponse {
            state: TransactionState::Empty,
            identity: identity.clone(),
            timeout_ms: 60_000,
            began_at: None,
            changed_at: Timestamp(0),
            partitions: Vec::new(),
            groups: Vec::new(),
            ended: Some(EndedTransaction { identity, committed: false, by: TransactionEnder::Timeout }),
        };
        let text = text("billing-1", &described, &Names::default());
        assert_eq!(
            text,
            "'billing-1' is empty: producer 7 in epoch 3, timeout 60 s\nthe last one, in epoch 3, was aborted by its timeout\n"
        );
    }
}
