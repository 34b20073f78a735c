//! Whether brokers can listen where they shall, before one is started: what another program has is told of in one sentence, and nobody is
//! left behind half started. Knows nothing of what listens there.

use std::net::TcpListener;

use super::DevClusterError;
use super::seats::Seat;

/// Listens on every port of these brokers at once, and lets go of them again.
///
/// # Errors
/// [`DevClusterError::Port`], of the first that is not to be had.
pub(super) fn try_all(seats: &[Seat]) -> Result<(), DevClusterError> {
    let mut held = Vec::with_capacity(2 * seats.len());
    for seat in seats {
        for (key, address) in [("listen", seat.listen), ("admin_listen", seat.admin)] {
            let broker = seat.broker;
            let listener =
                TcpListener::bind(address).map_err(|error| DevClusterError::Port { broker, key, address, error })?;
            held.push(listener);
        }
    }
    Ok(())
}
