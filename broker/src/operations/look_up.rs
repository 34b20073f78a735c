//! Finding an offset by position or time, whoever asks; never above what can be read. Look-ups by time read the log and may touch cold pages:
//! they run on a blocking thread.

use tidelog_protocol::messages::{Isolation, Position, PositionKind};
use tidelog_protocol::{ErrorCode, Offset, Timestamp, WireError};

use crate::partition::{Handle, Serves, Tail, refusals};

/// What a look-up found.
pub(crate) struct Found {
    pub(crate) offset: Option<Offset>,
    pub(crate) timestamp: Timestamp,
}

/// Finds a position in a partition; never above what can be read there.
pub(crate) async fn look_up(
    handle: &Handle,
    position: Position,
    serves: Serves,
    isolation: Isolation,
) -> Result<Found, WireError> {
    let tail = handle.tail().borrow().clone();
    if let Some(refusal) = serves.refusal(&tail) {
        return Err(refusal);
    }
    let end = readable_end(&tail, isolation);
    // One that leads has to answer for what was acknowledged before it did; whoever follows only says what it knows.
    let unknown = (serves == Serves::Leader && !tail.knows_end())
        .then(|| refusals::end_not_known(tail.high_watermark, tail.led_from));
    let at_end = |offset| Ok(Found { offset: Some(offset), timestamp: Timestamp::NONE });
    let by_time = match position.kind {
        PositionKind::Earliest => return at_end(tail.log_start),
        PositionKind::Latest => return unknown.map_or_else(|| at_end(end), Err),
        PositionKind::Offset => {
            let offset = Offset::from_signed(position.value).filter(|o| (tail.log_start..=end).contains(o));
            return match (offset, unknown) {
                (None, Some(unknown)) => Err(unknown),
                (offset, _) => Ok(Found { offset, timestamp: Timestamp::NONE }),
            };
        }
        PositionKind::Timestamp => Some(Timestamp(position.value)),
        PositionKind::MaxTimestamp => match unknown {
            Some(unknown) => return Err(unknown),
            None => None,
        },
    };
    let reader = handle.reader().clone();
    let found = tokio::task::spawn_blocking(move || match by_time {
        Some(timestamp) => reader.offset_for_timestamp(timestamp, end),
        None => reader.max_timestamp(end),
    })
    .await
    .map_err(|_| WireError::new(ErrorCode::Internal, "looking the offset up failed unexpectedly"))?
    .map_err(|error| refusals::of_read(&error))?;
    match (found.filter(|found| found.offset < end), unknown) {
        (Some(found), _) => Ok(Found { offset: Some(found.offset), timestamp: found.timestamp }),
        (None, Some(unknown)) => Err(unknown),
        (None, None) => Ok(Found { offset: None, timestamp: Timestamp::NONE }),
    }
}

/// The first offset that cannot be read yet.
pub(crate) const fn readable_end(tail: &Tail, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::ReadUncommitted => tail.high_watermark,
        Isolation::ReadCommitted => tail.last_stable,
    }
}
