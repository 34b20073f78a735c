//! `tidelog sagas` as scripts see it, over a real broker and a real worker.

use serde_json::{Value, json};
use tidelog_client::saga::*;
use tidelog_client::{Backoff, Client};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::{LIMIT, wait_until};

fn run(server: &str, line: &[&str]) -> Finished {
    CommandLine::of("tidelog").env("TIDELOG_SERVER", server).args(line.iter().copied()).run()
}

#[track_caller]
fn json(server: &str, line: &[&str]) -> Value {
    let out = run(server, &[&["--output", "json", "sagas"], line].concat()).success();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

/// An order whose payment cannot be undone; for Mia it is not to be undone.
fn order() -> Definition<String> {
    let once = RetryPolicy { attempts: 1, backoff: Backoff::DEFAULT };
    let pay = Step::new("pay", async |_| Ok("paid"))
        .compensation(async |_| Err(StepError::failed("the bank is away")))
        .compensation_retry(once);
    let ship = Step::new("ship", async |call: Call<String>| match call.input().as_str() {
        "Mia" => Ok("shipped"),
        _ => Err(StepError::refused("no such street")),
    });
    Definition::named("order").step(pay).step(ship).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_listed_looked_at_and_mended_from_the_command_line() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let missing = run(&server, &["sagas", "list"]).expect_code(3);
    assert!(missing.stderr.contains("no saga has ever run under the name 'sagas'"), "{}", missing.stderr);
    assert!(!missing.stderr.contains("topics create"), "{}", missing.stderr);

    let client = Client::connect(&server).await.unwrap();
    let sagas = Sagas::of(client.event_store("trips").create(2, None).await.unwrap());
    let none = run(&server, &["sagas", "list", "--store", "trips"]).expect_code(0).text();
    assert_eq!(none, "there are no such sagas\n");
    let order = order();
    let worker = sagas.worker().drives(&order);
    let working = tokio::spawn(worker.run(std::future::pending()));
    for (id, who) in [("order-1", "Mia"), ("order-2", "Jo"), ("order-3", "Ali")] {
        sagas.start(&order, id, &who.to_owned()).await.unwrap();
    }
    sagas.wait("order-1", LIMIT).await.unwrap();
    let listed = wait_until("two to be parked", async || {
        let listed = json(&server, &["list", "--store", "trips", "--state", "parked"]);
        (listed["sagas"].as_array().unwrap().len() == 2).then_some(listed)
    });
    let listed = listed.await;
    let first = &listed["sagas"][0];
    assert_eq!((&first["id"], &first["state"], &first["steps_done"]), (&json!("order-2"), &json!("parked"), &json!(1)));
    assert_eq!(first["parked"], "pay cannot be undone: the bank is away", "{listed}");
    let table = run(&server, &["sagas", "list", "--store", "trips", "--state", "any"]).expect_code(0).text();
    let order_1 = table.lines().find(|line| line.starts_with("order-1")).unwrap();
    assert!(table.contains("CAUSE") && order_1.contains("done") && order_1.contains("2/2"), "{table}");

    let some = json(&server, &["list", "--store", "trips", "--state", "any", "--limit", "1"]);
    assert_eq!((&some["sagas"][0]["id"], &some["left_out"]), (&json!("order-1"), &json!(2)), "{some}");
    let line = ["sagas", "list", "--store", "trips", "--state", "any", "--limit", "1"];
    let some = run(&server, &line).expect_code(0).text();
    assert!(some.contains("2 sagas more left out: raise --limit"), "{some}");
    let small = run(&server, &["sagas", "show", "order-2", "--store", "trips", "--memory", "1KiB"]);
    assert!(small.expect_code(2).stderr.contains("index_bytes_max of 1024"));

    let shown = run(&server, &["sagas", "show", "order-2", "--store", "trips"]).expect_code(0).text();
    for part in [
        "is parked: 1 of 2 steps done",
        "it goes back: ship: no such street",
        "attempt-failed",
        "pay undone, try 1: the bank is away",
    ] {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
    let document = json(&server, &["show", "order-2", "--store", "trips"]);
    assert_eq!(
        (&document["steps"][0]["compensation"]["state"], &document["steps"][1]["may_have_happened"]),
        (&json!("failed"), &json!(false))
    );
    let _ = run(&server, &["sagas", "show", "order-9", "--store", "trips"]).expect_code(3);

    assert_eq!(json(&server, &["retry", "order-2", "--store", "trips"]), json!({"id": "order-2", "resumed": true}));
    wait_until("it to be tried again, and parked again", async || {
        let document = json(&server, &["show", "order-2", "--store", "trips"]);
        let tried = document["steps"][0]["compensation"]["attempts"] == json!(2);
        (tried && document["state"] == json!("parked")).then_some(())
    })
    .await;
    let reason = "paid back by hand";
    let abandoned = json(&server, &["abandon", "order-2", "--store", "trips", "--reason", reason]);
    assert_eq!(abandoned, json!({"id": "order-2", "abandoned": true}));
    let shown = run(&server, &["sagas", "show", "order-2", "--store", "trips"]).expect_code(0).text();
    assert!(shown.contains("is abandoned") && shown.contains(reason), "{shown}");
    for line in [&["retry", "order-2"][..], &["retry", "order-1"], &["abandon", "order-1", "--reason", "x"]] {
        let refused = run(&server, &[&["sagas"], line, &["--store", "trips"]].concat()).expect_code(1);
        assert!(refused.stderr.contains("sagas show"), "{}", refused.stderr);
    }
    working.abort();

    // Of a definition that nobody has.
    let other = Definition::named("other").step(Step::new("x", async |_: Call<String>| Ok(""))).build().unwrap();
    let working = tokio::spawn(sagas.worker().drives(&order).group("others").run(std::future::pending()));
    sagas.start(&other, "odd", &String::new()).await.unwrap();
    let listed = wait_until("it to be listed as such", async || {
        let listed = json(&server, &["list", "--store", "trips", "--state", "unknown"]);
        (listed["sagas"].as_array().unwrap().len() == 1).then_some(listed)
    });
    let listed = listed.await;
    assert_eq!((&listed["sagas"][0]["id"], &listed["sagas"][0]["state"]), (&json!("odd"), &json!("unknown")));
    working.abort();
}
