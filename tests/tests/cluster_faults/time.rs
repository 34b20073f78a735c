//! Time that plays tricks on a cluster under load: messages that take long or come late, and wall clocks that jump. No promise hangs on them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidelog_protocol::messages::PingRequest;
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence, Round, Wiring};
use tidelog_tests::history::History;
use tidelog_tests::question::ask;
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::shifted_clock::ShiftedClock;
use tidelog_tests::workload::wait_for_more_acks;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn slow_ways_cost_time_and_nothing_else() {
    let mut cluster = Cluster::start(ClusterSettings::three().wiring(Wiring::Proxies)).await;
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(2) {
            let slow = round % 3 + 1;
            let before = cluster.proxy(slow).delayed_bytes();
            cluster.proxy(slow).delay(Duration::from_millis(100));
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(3) {
                for partition in 0..3 {
                    wait_for_more_acks(history, partition, 10).await;
                }
            }
            cluster.proxy(slow).delay(Duration::ZERO);
            evidence.add(Evidence::of("bytes delayed", cluster.proxy(slow).delayed_bytes() - before));
        }
        evidence
    };
    Round::on("slow-ways").survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_arrive_long_after_the_leadership_moved_change_nothing() {
    let mut cluster = Cluster::start(ClusterSettings::three().wiring(Wiring::Proxies)).await;
    let topic = "late";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let before = cluster.proxy(leader).delayed_bytes();
            // It hears nobody who dialled it, and its answers stay where they are.
            cluster.proxy(leader).hold();
            cluster.next_leader(topic, 0, leader).await;
            cluster.proxy(leader).release();
            evidence.add(Evidence::of("bytes held", cluster.proxy(leader).delayed_bytes() - before));
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 20).await;
            }
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_clocks_that_jump_by_days_move_no_leadership() {
    if !requires("wall_clocks_that_jump_by_days_move_no_leadership", &[Need::Compiler]) {
        return;
    }
    let clocks = [ShiftedClock::new(), ShiftedClock::new(), ShiftedClock::new()];
    let settings = (1..)
        .zip(&clocks)
        .fold(ClusterSettings::three(), |settings, (id, clock)| settings.environment(id, clock.variables()));
    let mut cluster = Cluster::start(settings).await;
    let topic = "clocks";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut before = Vec::new();
        for partition in 0..3 {
            before.push(cluster.leader(topic, partition).await);
        }
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            clocks[0].ahead(7 * DAY);
            clocks[1].behind(7 * DAY);
            for (id, shift_days) in [(1, 7), (2, -7)] {
                let said = ask(cluster.address(id), &PingRequest {}).await.unwrap().broker_time;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
                let days = (said.0 - now) as f64 / DAY.as_millis() as f64;
                assert!((days - f64::from(shift_days)).abs() < 0.1, "broker {id} is {days} days off");
                evidence.add(Evidence::of("clocks that jumped", 1_u64));
            }
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(4) {
                for partition in 0..3 {
                    wait_for_more_acks(history, partition, 50).await;
                }
            }
            clocks[0].behind(3 * DAY);
            clocks[1].ahead(3 * DAY);
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
        }
        for (partition, known) in (0..).zip(before) {
            assert_eq!(cluster.leader(topic, partition).await, known, "a clock moved the leadership of {partition}");
        }
        evidence
    };
    // By such a clock records are old enough to be deleted, and replicas do that when they like.
    Round::on(topic).config("retention.ms", "-1").survives(&mut cluster, fault).await;
}
