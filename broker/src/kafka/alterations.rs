//! What both ways to change configurations share: of which resources, each once, done or only foreseen. Knows nothing of what is changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::alter_configs::AlterConfigsResourceResponse;
use tidelog_protocol::messages::AlterTopicRequest;

use super::Asker;
use super::configs::{BROKER, TOPIC};
use super::topics::Refused;
use crate::change::change;
use crate::node::Node;
use crate::operations::foresight::{catch_up, foresee};

/// How long all of a request may take: it does not say.
const PATIENCE: Duration = Duration::from_secs(15);

/// What has a configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Resource {
    pub(super) kind: i8,
    pub(super) name: String,
}

/// Changes each by what `request` makes of the topic's name and of what is said.
pub(super) async fn alter_each<C: Send>(
    node: &Arc<Node>,
    asker: &Asker,
    resources: Vec<(Resource, C)>,
    validate_only: bool,
    request: impl Fn(&str, C) -> Result<AlterTopicRequest, Refused> + Send + Sync,
) -> Vec<AlterConfigsResourceResponse> {
    let deadline = Some(asker.arrived + PATIENCE);
    let mut named = HashMap::<_, usize>::new();
    for (resource, _) in &resources {
        *named.entry(resource.clone()).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(resources.len());
    for (resource, said) in resources {
        let changed = async {
            check(&resource, named.get(&resource).copied().unwrap_or_default())?;
            // What the topic sets itself is looked at, or the rules that hold for it.
            catch_up(node, &resource.name, deadline).await?;
            let request = request(&resource.name, said)?;
            match validate_only {
                true => foresee(node, request)?,
                false => change(node, request, deadline).await?,
            };
            Ok(())
        };
        let (error, sentence) = changed.await.map_or_else(Refused::told, |()| (KafkaError::None, None));
        responses.push(AlterConfigsResourceResponse {
            error_code: error.code(),
            error_message: sentence,
            resource_type: resource.kind,
            resource_name: resource.name,
        });
    }
    responses
}

fn check(resource: &Resource, times: usize) -> Result<(), Refused> {
    let why = match resource.kind {
        _ if times > 1 => "the request names this more than once".to_owned(),
        TOPIC => return Ok(()),
        BROKER => "a broker reads its configuration when it starts: change its file and start it again".to_owned(),
        other => format!("resources of kind {other} have no configuration here; topics and brokers have"),
    };
    Err(Refused::new(KafkaError::InvalidRequest, why))
}
