//! Whether a broker still answers a command that goes on by itself. Streams come back without a word once their broker does, and until then nothing
//! would tell a broker that is gone from a topic that rests: so it is said here, on standard error. Knows nothing of what is read.

use std::time::{Duration, Instant};

use tidelog_client::Client;

use crate::duration::display_duration;
use crate::exit::{Exit, Failure};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an answer may take before nobody counts as there.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Returns once no broker has answered for `silence_max`, and where that is none, never. Says when nobody answers any more, and when one does
/// again. `server` is what the user calls the broker.
pub async fn until_lost(client: &Client, server: &str, silence_max: Option<Duration>) -> Failure {
    let mut silent_since = None;
    let mut told = false;
    loop {
        tokio::time::sleep(PAUSE).await;
        let since = *silent_since.get_or_insert_with(Instant::now);
        let left = silence_max.map_or(PATIENCE, |limit| limit.saturating_sub(since.elapsed()).min(PATIENCE));
        // Who is polled late finds an answer that has come all the same.
        if let Ok(Ok(_)) = tokio::time::timeout(left, client.admin().ping()).await {
            silent_since = None;
            if std::mem::take(&mut told) {
                eprintln!("{server} answers again: reading goes on");
            }
            continue;
        }
        if let Some(limit) = silence_max.filter(|limit| since.elapsed() >= *limit) {
            let sentence = format!("lost {server}: no broker answered for {}", display_duration(limit));
            // There is nobody to ask why.
            let failure = Failure::new(Exit::Unavailable, sentence).outside_of_a_cluster();
            return failure.hint("a longer wait may help: --timeout 60s");
        }
        if !std::mem::replace(&mut told, true) {
            let patience =
                silence_max.map_or("until one does".into(), |limit| format!("for {}", display_duration(limit)));
            eprintln!("lost {server}: no broker answers; trying again {patience}");
        }
    }
}
