//! The service of the guide, as it stands there: of three who want one of two places, one goes nowhere, and nothing is left of it.

#[path = "../../../../client/examples/saga_service.rs"]
mod service;

use tidelog_client::saga::Phase;
use tidelog_tests::patience::{LIMIT, wait_until};

use super::running::{Running, Working};

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_guide_books_all_or_nothing_and_is_as_short_as_it_says() {
    let broker = Running::start().await;
    let (places, sagas, trip) = service::open(&broker.server()).await.unwrap();
    let working = Working::start(sagas.worker().drives(&trip));
    let mut done = 0;
    for who in ["mia", "jo", "ali"] {
        sagas.start(&trip, who, &who.to_owned()).await.unwrap();
        let saga = sagas.wait(who, LIMIT).await.unwrap();
        done += usize::from(saga.phase == Phase::Done);
    }
    assert_eq!(done, 2);
    assert_eq!(sagas.find("ali").await.unwrap().phase, Phase::Compensated);
    for what in ["flight", "room", "guide"] {
        let booked = wait_until("what is booked", async || {
            let booked = places.load(what).await.unwrap().state.booked;
            (booked.len() == 2).then_some(booked)
        });
        let expected = ["jo", "mia"].map(|who| format!("trips/{who}/{what}"));
        assert_eq!(booked.await.into_iter().collect::<Vec<_>>(), expected);
    }
    working.stop().await;
    let code = include_str!("../../../../client/examples/saga_service.rs");
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
    assert!(lines <= 85, "the guide says that it takes about eighty lines; it takes {lines}");
}
