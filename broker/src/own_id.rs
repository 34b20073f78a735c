//! Which broker of its cluster this one is: as it was told, as its data folder knows, or the next that nobody is. Knows nothing of what a broker does.

use std::path::Path;

use tidelog_log::Disk;
use tidelog_log::data_dir::format_of;
use tidelog_protocol::messages::BrokerDescription;
use tidelog_protocol::{BrokerId, ErrorCode};

use crate::broker_mark;
use crate::config::Config;
use crate::joining::{self, JoinError};
use crate::member::Address;
use crate::start_error::StartError;

/// Who founds a cluster.
const FIRST: BrokerId = BrokerId(1);
/// So many others may join under the number that a broker is about to have, before it gives up.
pub(crate) const RACES: u32 = 8;

/// The broker that this one is from now on. Only a folder that no cluster has taken yet, and that nobody gave a number, has the cluster at
/// `contact` asked for one.
pub(crate) async fn find(config: &Config, disk: &dyn Disk, contact: Option<&Address>) -> Result<BrokerId, StartError> {
    if let Some(told) = config.broker_id.0 {
        return Ok(BrokerId(told));
    }
    let noted = match broker_mark::noted(disk, &config.data.0) {
        Ok(noted) => noted,
        // What is wrong with the folder is told as it is opened.
        Err(_) => Some(FIRST),
    };
    let contact = match (noted, contact) {
        (Some(noted), _) => return Ok(noted),
        (None, None) => return Ok(FIRST),
        (None, Some(contact)) => contact,
    };
    let known = joining::brokers_at(contact).await?;
    // A start that was killed before it could note who it is.
    let own = format_of(disk, &config.data.0).map(|format| format.incarnation);
    let found = known.iter().find(|broker| Some(broker.incarnation) == own).map(|broker| broker.broker_id);
    Ok(found.unwrap_or_else(|| next(&known)))
}

/// Above all that there are: the number of one that was removed may stand in old logs and figures. There is always one, but for the highest of all,
/// which the cluster then says is taken.
fn next(known: &[BrokerDescription]) -> BrokerId {
    known.iter().map(|broker| broker.broker_id.0).max().map_or(FIRST, |highest| BrokerId(highest.saturating_add(1)))
}

/// Whether another has joined under the number that nobody had a moment ago: the next attempt asks for another.
pub(crate) fn was_overtaken(config: &Config, disk: &dyn Disk, error: &StartError) -> bool {
    let StartError::Join(JoinError::Refused { error, .. }) = error else { return false };
    let is_chosen = |data: &Path| matches!(broker_mark::noted(disk, data), Ok(None));
    error.code == ErrorCode::BrokerIdTaken && config.broker_id.0.is_none() && is_chosen(&config.data.0)
}
