//! Appends at the version that they expect, one writer after the other and eight at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidelog_client::event_store::*;
use tidelog_tests::patience::within_limit;

use super::running::{Running, event, texts};

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_made_at_the_version_that_it_expects_and_at_no_other() {
    let broker = Running::start().await;
    let (one, other) = (broker.store("said").await, broker.store("said").await);
    assert_eq!(one.load("a").await.unwrap(), Loaded { version: Version::NONE, events: Vec::new() });
    let made = one.append("a", Version::NONE, event("first")).await.unwrap();
    assert_eq!((made.version, made.repeated), (Version(1), false));

    // The other has seen nothing of it: its append is refused by the leader, not by what it knows.
    let refused = other.append("a", Version::NONE, event("lost")).await.unwrap_err();
    let conflict =
        AppendError::Conflict { id: Bytes::from_static(b"a"), expected: Version::NONE.into(), current: Version(1) };
    assert_eq!(refused, conflict);
    let refused = other.append("a", Version(7), event("lost")).await.unwrap_err();
    assert!(matches!(refused, AppendError::Conflict { current: Version(1), .. }), "{refused}");

    let three = vec![NewEvent::new("said", "second"), NewEvent::new("said", "third"), NewEvent::new("said", "fourth")];
    assert_eq!(other.append("a", Version(1), three).await.unwrap().version, Version(4));
    // One has not been told of versions 2 to 4 and may not have seen them; what it expects exists all the same.
    assert_eq!(one.append("a", Version(4), event("fifth")).await.unwrap().version, Version(5));
    assert_eq!(one.append("a", Expected::Any, event("sixth")).await.unwrap().version, Version(6));

    other.catch_up("a").await.unwrap();
    let loaded = other.load("a").await.unwrap();
    assert_eq!(texts(&loaded.events), ["first", "second", "third", "fourth", "fifth", "sixth"]);
    assert_eq!(loaded.events.iter().map(|event| event.version.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(texts(&other.load_after("a", Version(4)).await.unwrap().events), ["fifth", "sixth"]);
    assert!(other.load("b").await.unwrap().events.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_with_stores_of_their_own_leave_no_gap_and_no_double() {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let broker = Running::start().await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = broker.store("hot").await;
        writers.push(tokio::spawn(async move {
            let (mut made, mut conflicts) = (Vec::new(), 0);
            for at in 0..EACH {
                loop {
                    let version = store.version("hot").await.unwrap();
                    match store.append("hot", version, event(&format!("{writer}-{at}"))).await {
                        Ok(appended) => break made.push((appended.version.0, format!("{writer}-{at}"))),
                        Err(AppendError::Conflict { current, .. }) => {
                            assert!(current > version, "a conflict tells of what is newer");
                            conflicts += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            (made, conflicts)
        }));
    }
    let (mut acknowledged, mut conflicts) = (BTreeMap::new(), 0);
    for writer in writers {
        let (made, of_it) = within_limit("a writer", writer).await.unwrap();
        conflicts += of_it;
        for (version, text) in made {
            assert_eq!(acknowledged.insert(version, text), None, "two were told version {version}");
        }
    }
    assert!(conflicts > 0, "nobody got into anybody's way");
    let loaded = broker.store("hot").await.load("hot").await.unwrap();
    assert_eq!(loaded.version, Version((WRITERS * EACH) as u64));
    let stored: BTreeMap<u64, String> =
        loaded.events.iter().map(|event| event.version.0).zip(texts(&loaded.events)).collect();
    assert_eq!(stored, acknowledged);
    println!("{conflicts} conflicts for {} appends", WRITERS * EACH);
}
