//! Requests that only the coordinator of a group or of a transactional producer answers: found, asked, and asked again where it moved. Knows
//! nothing of what is asked.

use std::time::Duration;

use tidelog_protocol::ErrorCode;
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{Coordinated, FindCoordinatorRequest};

use super::{Cluster, Patience, Purpose};
use crate::ClientError;
use crate::address::Address;

/// What is known of who coordinates what; only of what this client asks about.
pub(super) type Coordinators = foldhash::HashMap<(Coordinated, String), Address>;

/// Whose state a request is about, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coordinate<'a> {
    pub(crate) kind: Coordinated,
    pub(crate) key: &'a str,
}

impl<'a> Coordinate<'a> {
    pub(crate) const fn group(key: &'a str) -> Self {
        Self { kind: Coordinated::Group, key }
    }

    pub(crate) const fn transaction(key: &'a str) -> Self {
        Self { kind: Coordinated::Transaction, key }
    }
}

impl Cluster {
    /// Asks the coordinator, and again where it moved, as the request timeout allows. To be used where doing it twice does no harm.
    pub(crate) async fn ask_coordinator<R: Request>(
        &self,
        of: Coordinate<'_>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let mut patience = Patience::repeating(&self.options);
        loop {
            match self.ask_coordinator_once(of, request, Purpose::Requests, self.options.request_timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Asks whoever is known as the coordinator, or who is said to be; what is known is forgotten where that was wrong.
    pub(crate) async fn ask_coordinator_once<R: Request>(
        &self,
        of: Coordinate<'_>,
        request: &R,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let address = self.coordinator(of).await?;
        let attempt = async { self.connection(&address, purpose).await?.call_within(request, timeout).await };
        let result = attempt.await;
        if result.as_ref().is_err_and(may_have_moved) {
            self.coordinators.write().remove(&(of.kind, of.key.to_owned()));
        }
        result
    }

    async fn coordinator(&self, of: Coordinate<'_>) -> Result<Address, ClientError> {
        let place = (of.kind, of.key.to_owned());
        if let Some(known) = self.coordinators.read().get(&place) {
            return Ok(known.clone());
        }
        let found =
            self.call(&FindCoordinatorRequest { kind: of.kind, key: of.key.to_owned(), classic: false }).await?;
        let address = Address { host: found.host, port: found.port };
        self.coordinators.write().insert(place, address.clone());
        Ok(address)
    }
}

const fn may_have_moved(error: &ClientError) -> bool {
    match error {
        ClientError::Broker(error) => {
            matches!(error.code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoading | ErrorCode::ShuttingDown)
        }
        ClientError::Unreachable { .. } | ClientError::Disconnected { .. } | ClientError::TimedOut { .. } => true,
        _ => false,
    }
}
