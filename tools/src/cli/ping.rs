//! `tidelog ping`: is the broker there? With `--wait`, waits until it is.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tidelog_client::{Address, Client, Timestamp};

use super::{Context, topics::print};
use crate::connect::{ConnectArgs, failure};
use crate::duration::{display_duration, parse_duration};
use crate::exit::{Exit, Failure};

/// How long to pause between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Arguments of `ping`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidelog ping
  tidelog ping --wait 10s && tidelog topics list")]
pub struct PingArgs {
    /// Keep trying this long until the broker answers, such as 10s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    wait: Duration,
}

struct Answer {
    address: Address,
    software: String,
    broker_id: u32,
    uptime: Duration,
    round_trip: Duration,
    broker_time: Timestamp,
}

pub(super) async fn run(args: PingArgs, context: &Context) -> Result<Exit, Failure> {
    let deadline = Instant::now() + args.wait;
    let mut left = args.wait;
    let answer = loop {
        // A broker that takes a connection and says nothing has no longer than one that is not there.
        let limit = if args.wait.is_zero() { context.connect.timeout() } else { left.min(context.connect.timeout()) };
        match ConnectArgs::within(limit, ask(context)).await {
            Ok(answer) => break answer,
            Err(refused) if refused.exit() != Exit::Unavailable || Instant::now() + RETRY_AFTER > deadline => {
                return Err(refused);
            }
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
        left = deadline.saturating_duration_since(Instant::now());
    };
    let millis = answer.round_trip.as_secs_f64() * 1e3;
    let server = answer.address.to_string();
    let text = format!(
        "{server} answers in {millis:.3} ms: broker {}, {}, up for {}\n",
        answer.broker_id,
        answer.software,
        display_duration(answer.uptime)
    );
    print(context, &text, || {
        json!({
            "server": server,
            "broker_id": answer.broker_id,
            "software": answer.software,
            "uptime_ms": answer.uptime.as_millis() as u64,
            "round_trip_ms": (millis * 1e4).round() / 1e4,
            "broker_time_ms": answer.broker_time.0,
        })
    })?;
    Ok(Exit::Done)
}

async fn ask(context: &Context) -> Result<Answer, Failure> {
    let client: Client = context.connect.client_in_time("tidelog").await?;
    let admin = client.admin();
    let described = admin.describe_broker().await.map_err(failure)?;
    let start = Instant::now();
    let broker_time = admin.ping().await.map_err(failure)?;
    Ok(Answer {
        address: admin.address().await.map_err(failure)?,
        software: described.software,
        broker_id: described.broker_id.0,
        uptime: Duration::from_millis(described.uptime_ms),
        round_trip: start.elapsed(),
        broker_time,
    })
}
