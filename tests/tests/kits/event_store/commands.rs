//! Commands: carried out once, remembered for as long as was said, decided together, and nobody else's trouble where they go wrong.

use tidelog_client::event_store::*;
use tidelog_tests::patience::within_limit;

use super::running::{Account, Running, event, texts, withdraw};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_sent_again_is_carried_out_once() {
    let broker = Running::start().await;
    let (one, other) = (broker.store("commands").await, broker.store("commands").await);
    let made = one.append_once("a", "c1", Version::NONE, event("x")).await.unwrap();
    one.append("a", Version(1), event("y")).await.unwrap();
    // Whoever sends it again need not know what became of it, nor of what came after.
    for store in [&one, &other] {
        let again = store.append_once("a", "c1", Version::NONE, event("x")).await.unwrap();
        assert_eq!(again, Appended { repeated: true, ..made });
    }
    let elsewhere = one.append_once("b", "c1", Version::NONE, event("x")).await.unwrap();
    assert!(!elsewhere.repeated, "another aggregate's command of the same name is another");
    assert_eq!(texts(&other.load("a").await.unwrap().events), ["x", "y"]);

    // At once, from both: one of them does it.
    let at_once = (0..20).map(|at| {
        let store = if at % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move { store.append_once("c", "c2", Expected::Any, event("z")).await.unwrap() })
    });
    let mut fresh = 0;
    for answer in at_once.collect::<Vec<_>>() {
        fresh += usize::from(!answer.await.unwrap().repeated);
    }
    assert_eq!(fresh, 1);
    one.catch_up("c").await.unwrap();
    assert_eq!(one.version("c").await.unwrap(), Version(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_forgotten_after_as_many_records_as_was_said() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let store = client.event_store("window").command_window(5).create(1, None).await.unwrap();
    store.append_once("a", "c", Expected::Any, event("x")).await.unwrap();
    for _ in 0..4 {
        store.append("b", Expected::Any, event("x")).await.unwrap();
    }
    assert!(store.append_once("a", "c", Expected::Any, event("x")).await.unwrap().repeated);
    for _ in 0..2 {
        store.append("b", Expected::Any, event("x")).await.unwrap();
    }
    assert!(!store.append_once("a", "c", Expected::Any, event("x")).await.unwrap().repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_from_two_processes_never_take_more_than_there_is() {
    let broker = Running::start().await;
    let accounts = [broker.store("bank").await.repository::<Account>(), broker.store("bank").await.repository()];
    accounts[0].execute("rich", |_| Ok(vec![300])).await.unwrap();
    let mut tries = Vec::new();
    for at in 0..500 {
        let accounts = accounts[at % 2].clone();
        tries.push(tokio::spawn(async move { accounts.execute("rich", withdraw(1)).await }));
    }
    let (mut done, mut refused) = (0, 0);
    for answer in tries {
        match within_limit("a command", answer).await.unwrap() {
            Ok(Executed::Appended(made)) => done += usize::from(!made.repeated),
            Err(ExecuteError::Refused(why)) => {
                assert_eq!(why, "0 are there", "a refusal is told of a state that is stored");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, refused), (300, 200));
    let fresh = broker.store("bank").await;
    let root = fresh.repository::<Account>().load("rich").await.unwrap();
    assert_eq!((root.version, root.state), (Version(301), Account(0)));
    assert_eq!(accounts[0].execute("rich", |_| Ok(Vec::new())).await, Ok(Executed::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_panics_or_is_too_large_is_nobody_elses_trouble() {
    let broker = Running::start().await;
    let accounts = broker.store("trouble").await.repository::<Account>();
    let bad = accounts.execute("a", |_| panic!("as this test wants")).await;
    assert!(bad.unwrap_err().to_string().contains("panicked"));
    let next = within_limit("the next command", accounts.execute("a", |_| Ok(vec![5]))).await;
    assert!(matches!(next, Ok(Executed::Appended(Appended { version: Version(1), .. }))), "{next:?}");

    let too_many = accounts.execute("a", |_| Ok(vec![1; 10_000]));
    let others = async {
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(accounts.execute("a", |_| Ok(vec![1])).await);
            others.push(accounts.execute("a", withdraw(1_000)).await);
        }
        others
    };
    let (too_many, others) = tokio::join!(too_many, others);
    let too_large = Err(ExecuteError::Append(AppendError::Store(StoreError::TooLarge { bytes: 1, limit: 1 })));
    assert_eq!(std::mem::discriminant(&too_many), std::mem::discriminant(&too_large));
    assert!(too_many.unwrap_err().to_string().contains("over the limit"));
    for (at, other) in others.into_iter().enumerate() {
        match other {
            Ok(Executed::Appended(_)) => assert_eq!(at % 2, 0),
            Err(ExecuteError::Refused(_)) => assert_eq!(at % 2, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accounts.load("a").await.unwrap(), Root { version: Version(21), state: Account(25) });
}
