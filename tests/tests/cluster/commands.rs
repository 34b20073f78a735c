//! `tidelog cluster` and `tidelog partitions` as operators and scripts see them, against three brokers: what they print, and how they end.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use serde_json::{Value, json};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::joined_cluster::JoinedCluster;
use tidelog_tests::patience::wait_until;

async fn tidelog(cluster: &JoinedCluster, line: &str) -> Finished {
    let (server, line) = (cluster.addresses(), line.to_string());
    let run = move || CommandLine::of("tidelog").env("TIDELOG_SERVER", &server).args(line.split_whitespace()).run();
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn text(cluster: &JoinedCluster, line: &str) -> String {
    tidelog(cluster, line).await.expect_code(0).text()
}

async fn json_of(cluster: &JoinedCluster, line: &str, code: i32) -> Value {
    let finished = tidelog(cluster, &format!("{line} --output json")).await.expect_code(code);
    serde_json::from_slice(&finished.stdout).unwrap()
}

async fn settled(cluster: &JoinedCluster) -> Value {
    wait_until("a settled cluster", async || {
        let finished = tidelog(cluster, "cluster status --output json").await;
        (finished.code == Some(0)).then(|| serde_json::from_slice(&finished.stdout).unwrap())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_scripts_whether_something_is_unsettled() {
    let mut cluster = JoinedCluster::start(3).await;
    let _ = text(&cluster, "topics create logs --partitions 3").await;
    let status = settled(&cluster).await;
    assert_eq!((&status["controller"], &status["voters"]), (&json!(1), &json!([1, 2, 3])));
    assert_eq!(status["settled"], true);
    for broker in status["brokers"].as_array().unwrap() {
        assert_eq!((&broker["standing"], &broker["leaders"]), (&json!("serving"), &json!(1)));
        assert_eq!((&broker["replicas"], &broker["lag_records"]), (&json!(3), &json!(0)), "{broker}");
    }
    let page = text(&cluster, "cluster status").await;
    for part in ["Controller  broker 1, epoch", "Voters      1, 2, 3", "STANDING", "3: 0 offline", "Settled     yes"] {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    let partitions = json_of(&cluster, "partitions describe logs", 0).await;
    assert_eq!(partitions.as_array().unwrap().len(), 3);
    assert_eq!(partitions[0]["in_sync"].as_array().unwrap().len(), 3);
    assert_eq!(text(&cluster, "partitions describe --unsettled").await, "every partition is settled\n");

    cluster.stop(3).await;
    let status = json_of(&cluster, "cluster status", 7).await;
    assert_eq!((&status["settled"], &status["brokers"][2]["standing"]), (&json!(false), &json!("fenced")));
    assert_eq!(status["partitions"]["under_replicated"], 3);
    assert_eq!(status["brokers"][2]["lag_records"], Value::Null, "a broker that is away says nothing");
    let page = tidelog(&cluster, "cluster status").await.expect_code(7).text();
    assert!(page.contains("fenced") && page.contains("Settled     no"), "{page}");
    // All of them, and those that are unsettled: by the same rule, and so with the same code.
    let _ = tidelog(&cluster, "partitions describe logs").await.expect_code(7);
    let page = tidelog(&cluster, "partitions describe --unsettled").await.expect_code(7).text();
    assert_eq!(page.matches("not in sync: 3").count(), 3, "{page}");
    let missing = tidelog(&cluster, "partitions describe other").await.expect_code(3);
    assert!(missing.stderr.contains("no topic 'other'"), "{missing:?}");
    cluster.start_again(3).await;
    settled(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_at_which_another_cluster_answers_is_named_with_it() {
    let cluster = JoinedCluster::start(2).await;
    let ours = settled(&cluster).await;
    // As a founder is that was started on an empty disk.
    let stray = BrokerProcess::start();
    let status = async |servers: String, output: &'static str| {
        let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &servers);
        let command = command.args(["cluster", "status", "--output", output]);
        tokio::task::spawn_blocking(|| command.run()).await.unwrap()
    };
    let alone: Value = serde_json::from_slice(&status(stray.server(), "json").await.expect_code(0).stdout).unwrap();
    assert_ne!(alone["cluster_id"], ours["cluster_id"]);
    let addresses = cluster.addresses();
    for servers in [format!("{},{addresses}", stray.server()), format!("{addresses},{}", stray.server())] {
        let finished = status(servers.clone(), "json").await.expect_code(7);
        let told: Value = serde_json::from_slice(&finished.stdout).unwrap();
        assert_eq!(told["cluster_id"], ours["cluster_id"], "most addresses say which is meant: {told}");
        let strays = json!([{"address": stray.server(), "cluster_id": alone["cluster_id"]}]);
        assert_eq!((&told["strays"], &told["settled"]), (&strays, &json!(false)), "{told}");
        let page = status(servers, "table").await.expect_code(7).text();
        let line = format!(
            "Stray       {} belongs to another cluster, {}",
            stray.server(),
            alone["cluster_id"].as_str().unwrap()
        );
        assert!(page.contains(&line), "{page}");
    }
    assert_eq!(ours["strays"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_replica_that_cannot_be_read_are_shown_and_unsettle() {
    let mut cluster = JoinedCluster::start(3).await;
    // What cannot be opened is in the way of its folder.
    std::fs::write(cluster.data(2).join("blocked-0"), b"in the way").unwrap();
    let _ = text(&cluster, "topics create blocked --partitions 1").await;
    // A moment ago others may not have had theirs open yet, nor the leader counted this one out.
    let is_all = |page: &str| page.contains("not in sync: 2") && page.trim_end().ends_with("on 2: cannot be read");
    wait_until("a replica that cannot be read to be all that is wrong", async || {
        is_all(&tidelog(&cluster, "partitions describe blocked").await.text()).then_some(())
    })
    .await;
    let partitions = json_of(&cluster, "partitions describe --unsettled", 7).await;
    assert_eq!(partitions[0]["ailing"], json!([{"broker": 2, "state": "cannot be read"}]));
    let page = tidelog(&cluster, "cluster status").await.expect_code(7).text();
    assert!(page.contains("broker 2: 1 replica, 0 of which lead: cannot be read"), "{page}");
    let _ = text(&cluster, "topics delete blocked").await;
    // With the topic, what was in its way may have gone.
    let _ = std::fs::remove_file(cluster.data(2).join("blocked-0"));

    let _ = text(&cluster, "topics create logs --partitions 3").await;
    settled(&cluster).await;
    cluster.stop(1).await;
    cluster.config_mut(1).disk_free_min_bytes = u64::MAX / 2;
    cluster.start_again(1).await;
    let status = wait_until("the full disk to be all that is wrong", async || {
        let finished = tidelog(&cluster, "cluster status --output json").await;
        let status: Value = serde_json::from_slice(&finished.stdout).unwrap();
        let full = json!([{"state": "disk full", "replicas": 3, "leaders": status["brokers"][0]["leaders"]}]);
        (status["brokers"][0]["ailing"] == full && status["partitions"]["offline"] == 0)
            .then_some((status, finished.code))
    })
    .await;
    assert_eq!((status.1, &status.0["settled"]), (Some(7), &json!(false)));
    cluster.stop(1).await;
    cluster.config_mut(1).disk_free_min_bytes = 0;
    cluster.start_again(1).await;
    settled(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_a_wiped_voter_gets_its_vote_back_and_that_an_even_number_is_none() {
    let mut cluster = JoinedCluster::start(3).await;
    let status = settled(&cluster).await;
    assert_eq!((&status["voters"], &status["advice"]), (&json!([1, 2, 3]), &json!([])));
    cluster.stop(3).await;
    cluster.wipe(3);
    cluster.start_again(3).await;
    let status = settled(&cluster).await;
    assert_eq!((&status["voters"], &status["advice"]), (&json!([1, 2]), &json!(["tidelog cluster promote 3"])));
    let page = text(&cluster, "cluster status").await;
    assert!(page.contains("Voters      1, 2\n            broker 3 does not vote"), "{page}");
    // What it says does it.
    let advice = status["advice"][0].as_str().unwrap().strip_prefix("tidelog ").unwrap();
    assert_eq!(text(&cluster, advice).await, "voters are now: 1, 2, 3\n");
    let status = settled(&cluster).await;
    assert_eq!((&status["voters"], &status["advice"]), (&json!([1, 2, 3]), &json!([])));

    cluster.add().await;
    let _ = text(&cluster, "cluster promote 4").await;
    let spare = settled(&cluster).await["advice"][0].as_str().unwrap().to_string();
    let page = text(&cluster, "cluster status").await;
    assert!(page.contains(&format!("an even number survives no more losses than one less: {spare}")), "{page}");
    let _ = text(&cluster, spare.strip_prefix("tidelog ").unwrap()).await;
    assert_eq!(settled(&cluster).await["advice"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_by_command_by_file_and_off_a_broker_that_is_then_removed() {
    let mut cluster = JoinedCluster::learners(3).await;
    assert_eq!(text(&cluster, "cluster promote 2").await, "voters are now: 1, 2\n");
    assert_eq!(text(&cluster, "cluster promote 3").await, "voters are now: 1, 2, 3\n");
    let _ = text(&cluster, "topics create logs --partitions 3 --replication-factor 1").await;
    let list = "--topic logs --partition 0 --replicas 1,2";
    let holders = async || {
        let partitions = json_of(&cluster, "partitions describe logs", 0).await;
        partitions.as_array().unwrap().iter().map(|partition| partition["replicas"].clone()).collect::<Vec<_>>()
    };
    let before = holders().await;
    assert_eq!(text(&cluster, &format!("cluster reassign {list} --dry-run")).await, "1 partition would be copied\n");
    assert_eq!(holders().await, before);
    let moves = json_of(&cluster, &format!("cluster reassign {list}"), 0).await;
    assert_eq!(moves, json!({"copying": 1, "done": 0, "dry_run": false}));
    settled(&cluster).await;
    assert_eq!(holders().await[0], json!([1, 2]));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moves.json");
    let moves = json!({"partitions": [
        {"topic": "logs", "partition": 0, "replicas": [3]},
        {"topic": "logs", "partition": 1, "replicas": [3]},
        {"topic": "logs", "partition": 2, "replicas": [3]},
    ]});
    std::fs::write(&file, moves.to_string()).unwrap();
    let _ = text(&cluster, &format!("cluster reassign --file {}", file.display())).await;
    settled(&cluster).await;
    assert_eq!(holders().await, [json!([3]), json!([3]), json!([3])]);
    let plan = text(&cluster, "cluster balance --dry-run").await;
    assert!(plan.starts_with("to copy: 2 replicas;"), "{plan}");
    let _ = text(&cluster, "cluster balance --copies-max 1").await;
    settled(&cluster).await;
    assert_eq!(text(&cluster, "cluster elect").await, "every leader that can be the preferred one is\n");

    let plan = text(&cluster, "cluster drain 3 --dry-run").await;
    assert_eq!(plan, "broker 3: 2 partitions would be copied\n");
    let _ = text(&cluster, "cluster drain 3").await;
    let status = settled(&cluster).await;
    assert_eq!((&status["brokers"][2]["replicas"], &status["brokers"][2]["draining"]), (&json!(0), &json!(true)));
    let refused = tidelog(&cluster, "cluster remove 3").await.expect_code(1);
    assert!(refused.stderr.contains("still serves"), "{refused:?}");
    cluster.stop(3).await;
    let _ = text(&cluster, "cluster remove 3").await;
    let status = settled(&cluster).await;
    assert_eq!((&status["voters"], status["brokers"].as_array().unwrap().len()), (&json!([1, 2]), 2));
    assert_eq!(text(&cluster, "cluster demote 2").await, "voters are now: 1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_the_reason_and_an_exit_code() {
    let cluster = JoinedCluster::learners(2).await;
    let _ = text(&cluster, "topics create logs --replication-factor 1").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moves.json");
    std::fs::write(&file, r#"{"partitions":[{"topic":"logs","partition":0,"replica":[1]}]}"#).unwrap();
    let missing = folder.path().join("missing");
    for (line, code, part) in [
        ("cluster reassign --topic logs --partition 0 --replicas 9".to_string(), 3, "there is no broker 9"),
        ("cluster reassign --topic logs --partition 7 --replicas 1".into(), 3, "has no partition 7"),
        ("cluster reassign --topic other --partition 0 --replicas 1".into(), 3, "other"),
        ("cluster reassign --topic logs --partition 0 --replicas 1,1".into(), 1, "stands twice"),
        ("cluster reassign --topic logs --partition 0 --cancel".into(), 1, "not being moved"),
        (format!("cluster reassign --file {}", file.display()), 2, "unknown field `replica`"),
        (format!("cluster reassign --file {}", missing.display()), 3, "missing"),
        ("cluster drain 9".into(), 3, "there is no broker 9"),
        ("cluster drain 2 --cancel".into(), 1, "not being drained"),
        ("cluster elect --topic logs --partition 0 --unclean 1 --accept-loss".into(), 1, "leads it"),
        ("cluster demote 1".into(), 1, "last voter"),
        ("cluster remove 1".into(), 1, "last voter"),
        ("cluster remove 2".into(), 1, "cannot be removed"),
        ("cluster promote 9".into(), 3, "does not belong to the metadata quorum"),
        ("cluster remove 9".into(), 3, "there is no broker 9"),
        ("topics create wide --replication-factor 3".into(), 1, "on 2 live brokers"),
        ("topics create strict --replication-factor 2 --config min.insync.replicas=3".into(), 1, "must not be above"),
    ] {
        let refused = tidelog(&cluster, &line).await.expect_code(code);
        assert!(refused.stderr.contains(part) && refused.stdout.is_empty(), "{line}: {refused:?}");
    }
    let status = settled(&cluster).await;
    assert_eq!((&status["voters"], &status["partitions"]["partitions"]), (&json!([1]), &json!(1)), "nothing half done");
}
