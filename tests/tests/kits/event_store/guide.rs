//! The service of the guide, as it stands there: it may be run again, and sells nothing twice.

#[path = "../../../../client/examples/event_store_service.rs"]
mod service;

use tidelog_client::event_store::{Appended, ExecuteError, Executed, Version};

use super::running::Running;
use service::{open, reserve};

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_guide_reserves_what_there_is_once_and_is_as_short_as_it_says() {
    let broker = Running::start().await;
    let server = broker.broker.address().to_string();
    for round in 0..2 {
        let items = open(&server).await.unwrap();
        for (order, pieces, version) in [("order-1", 2, 2), ("order-2", 8, 3)] {
            let Ok(Executed::Appended(made)) = reserve(&items, "lamp", order, pieces).await else { panic!("{order}") };
            assert!(
                matches!(made, Appended { version: at, repeated, .. } if at == Version(version) && repeated == (round > 0))
            );
        }
        let refused = reserve(&items, "lamp", "order-3", 1).await;
        assert_eq!(refused, Err(ExecuteError::Refused("0 are left".into())));
        assert_eq!(items.load("lamp").await.unwrap().state.0, 0);
    }
    let code = include_str!("../../../../client/examples/event_store_service.rs");
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
    assert!(lines <= 45, "the guide says that it takes about forty lines; it takes {lines}");
}
