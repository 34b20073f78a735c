//! ApiVersions: what is served, asked before anything else.

use std::sync::Arc;

use tidelog_protocol::kafka::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::kafka::{ApiKey, KafkaError};

use super::{Asker, Handle};
use crate::node::Node;

impl Handle for ApiVersionsRequest {
    async fn handle(self, _: &Arc<Node>, _: &Asker) -> ApiVersionsResponse {
        ApiVersionsResponse { api_keys: ApiKey::ALL.iter().copied().map(row).collect(), ..Default::default() }
    }
}

/// For a client that asks in a version of the future: it asks again in one that it finds here.
pub(super) fn refusal() -> ApiVersionsResponse {
    let error_code = KafkaError::UnsupportedVersion.code();
    ApiVersionsResponse { error_code, api_keys: vec![row(ApiKey::ApiVersions)], ..Default::default() }
}

fn row(api: ApiKey) -> ApiVersion {
    ApiVersion { api_key: api as i16, min_version: api.advertised_from(), max_version: *api.versions().end() }
}
