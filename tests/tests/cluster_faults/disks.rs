//! Disks that fail under a cluster with a load: all lose power at once, one does, one runs full, one is slow, one refuses a flush, one
//! hangs. Needs root, loop devices and strace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_client::NewTopic;
use tidelog_tests::chance::{seeded, turns};
use tidelog_tests::checkers::{ContiguousOffsets, Invariant, NoAckedRecordLost, NoPhantomRead, ProducerOrder, Run};
use tidelog_tests::cluster::{Cluster, ClusterSettings, Disks, Evidence, Round};
use tidelog_tests::contents::read_all;
use tidelog_tests::history::History;
use tidelog_tests::patience::wait_until;
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::syscall_fault::SyscallFault;
use tidelog_tests::workload::{create_topic, wait_for_more_acks};

const DISK_BYTES: u64 = 192 << 20;
/// After so many power losses something that was only written must have been lost.
const POWER_LOSSES_MAX: usize = 10;

async fn on_disks() -> Cluster {
    Cluster::start(ClusterSettings::three().disks(Disks::Loop(DISK_BYTES))).await
}

/// Small segments, so that small disks hold them.
fn round(topic: &str) -> Round {
    Round::on(topic).config("segment.bytes", "1048576").config("max.message.bytes", "524288")
}

/// The segment that is written to.
fn newest_segment(folder: &Path) -> PathBuf {
    let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    names.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().expect("a segment")
}

/// All brokers lose power in one moment, and get it back.
fn lose_power_everywhere(cluster: &mut Cluster) -> Evidence {
    // A machine without power does not run either: nobody hears of a flush that ended after the others' disks were gone.
    for id in 1..=3 {
        cluster.pause(id);
    }
    for id in 1..=3 {
        cluster.disk(id).lose_power();
    }
    for id in 1..=3 {
        cluster.kill(id);
        cluster.disk(id).remount();
    }
    cluster.restart_all(&[1, 2, 3]);
    Evidence::of("disks that lost power", 3_u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_records_survive_a_power_loss_of_all_brokers_at_once() {
    if !requires("flushed_records_survive_a_power_loss_of_all_brokers_at_once", &[Need::LoopDisk]) {
        return;
    }
    let mut rng = seeded("flushed_records_survive_a_power_loss_of_all_brokers_at_once");
    let mut cluster = on_disks().await;
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            tokio::time::sleep(Duration::from_micros(rng.u64(..500_000))).await;
            evidence.add(lose_power_everywhere(cluster));
        }
        evidence
    };
    round("flushed-power").survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_records_are_lost_with_the_power_of_all_brokers_the_loss_is_told_and_replicas_converge() {
    let name = "written_records_are_lost_with_the_power_of_all_brokers_the_loss_is_told_and_replicas_converge";
    if !requires(name, &[Need::LoopDisk]) {
        return;
    }
    // What is noted as settled is noted often, so that a loss shows.
    let settings = ClusterSettings::three().disks(Disks::Loop(DISK_BYTES)).set("housekeeping_interval_ms", "100");
    let mut cluster = Cluster::start(settings).await;
    let topic = "written-power";
    let mut told = Vec::new();
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        // What the brokers have flushed of their own accord a moment before is not lost: then once more.
        for _ in 0..POWER_LOSSES_MAX {
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 200).await;
            }
            let sent = history.sent();
            evidence.add(lose_power_everywhere(cluster));
            cluster.wait_healed(topic).await;
            for id in 1..=3 {
                told.extend(cluster.process(id).log_lines("are lost"));
            }
            // Acknowledged again: what is left can be read.
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 1).await;
            }
            let contents = read_all(&cluster.servers(), topic).await;
            if !NoAckedRecordLost.violations(&Run { sent, contents }).is_empty() {
                break;
            }
        }
        evidence
    };
    let mut round = round(topic).config("durability", "written");
    // What was read before is gone with what was lost, and its offsets are given again.
    round.reads_along = false;
    round.invariants = vec![&NoPhantomRead, &ContiguousOffsets, &ProducerOrder];
    let survived = round.survives(&mut cluster, fault).await;
    let lost = NoAckedRecordLost.violations(&survived.run);
    assert!(!lost.is_empty(), "nothing was lost: the power loss took nothing, so this test proves nothing");
    println!("{} records were lost, such as: {}; {} logs were told to end too early", lost.len(), lost[0], told.len());
    for partition in 0..3 {
        let of_it = |text: &String| text.contains(&format!(" at {partition}/"));
        let is_told = told.iter().any(|line| line["partition"] == format!("{topic}-{partition}").as_str());
        assert!(
            is_told || !lost.iter().any(of_it),
            "records of partition {partition} were lost without a word: {told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_of_one_broker_loses_nothing() {
    if !requires("a_power_loss_of_one_broker_loses_nothing", &[Need::LoopDisk]) {
        return;
    }
    let mut cluster = on_disks().await;
    let topic = "one-power";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            wait_for_more_acks(history, 0, 50).await;
            let (leader, _) = cluster.leader(topic, 0).await;
            cluster.pause(leader);
            cluster.disk(leader).lose_power();
            evidence.add(cluster.kill(leader).and("disks that lost power", 1_u64));
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            cluster.disk(leader).remount();
            cluster.restart(leader);
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    round(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_one_broker_stops_what_it_leads_at_most_and_heals() {
    if !requires("a_full_disk_of_one_broker_stops_what_it_leads_at_most_and_heals", &[Need::LoopDisk]) {
        return;
    }
    let mut cluster = on_disks().await;
    let topic = "full";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let (full, _) = cluster.leader(topic, 0).await;
            let ballast = cluster.disk(full).fill(0);
            wait_until("the broker to notice that its disk is full", async || {
                cluster.process(full).http("/metrics").body.contains("tidelog_disk_full 1").then_some(())
            })
            .await;
            for partition in 0..3 {
                if cluster.leader(topic, partition).await.0 != full {
                    wait_for_more_acks(history, partition, 50).await;
                }
            }
            let free = cluster.disk(full).free_bytes();
            assert!(free < 4 << 20, "the disk has {free} bytes left: it was not full");
            evidence.add(Evidence::of("disks full", 1_u64));
            drop(ballast);
            cluster.wait_healed(topic).await;
        }
        evidence
    };
    round(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_of_one_broker_costs_time_and_nothing_else() {
    if !requires("a_slow_disk_of_one_broker_costs_time_and_nothing_else", &[Need::Strace]) {
        return;
    }
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "slow";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(2) {
            let controller = cluster.controller().await;
            let slow = if round % 2 == 0 { controller } else { controller % 3 + 1 };
            let disk = SyscallFault::on(cluster.process(slow).pid(), "fdatasync:delay_enter=200000");
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(4) {
                for partition in 0..3 {
                    wait_for_more_acks(history, partition, 5).await;
                }
            }
            evidence.add(Evidence::of("flushes delayed", disk.injected().len()));
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_flush_fails_gives_its_leadership_away() {
    if !requires("a_leader_whose_flush_fails_gives_its_leadership_away", &[Need::Strace]) {
        return;
    }
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "failed-flush";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(1) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let segment = newest_segment(&cluster.data(leader).join(format!("{topic}-0")));
            let disk = SyscallFault::on_file(cluster.process(leader).pid(), "fdatasync:error=EIO:when=1", &segment);
            cluster.next_leader(topic, 0, leader).await;
            let failed = disk.injected();
            evidence.add(Evidence::of("flushes failed", failed.len()));
            drop(disk);
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            // Only a restart, which reads what the disk really has, brings it back.
            evidence.add(cluster.kill(leader));
            cluster.restart(leader);
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_metadata_cannot_be_flushed_leads_nothing_any_more() {
    if !requires("a_broker_whose_metadata_cannot_be_flushed_leads_nothing_any_more", &[Need::Strace]) {
        return;
    }
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "failed-journal";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(1) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let journal = newest_segment(&cluster.data(leader).join("__cluster_metadata-0"));
            let disk = SyscallFault::on_file(cluster.process(leader).pid(), "fdatasync:error=EIO", &journal);
            let others = (1..=3).filter(|id| *id != leader).map(|id| cluster.address(id).to_string());
            let servers = others.collect::<Vec<_>>().join(",");
            let new = NewTopic::named(format!("news-{round}")).replication_factor(2);
            wait_until("news of the metadata", async || create_topic(&servers, &new).await.ok()).await;
            cluster.next_leader(topic, 0, leader).await;
            evidence.add(Evidence::of("flushes of metadata failed", disk.injected().len()));
            drop(disk);
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            // It may have ended by itself: without its journal it has no say in anything.
            cluster.end(leader);
            cluster.restart(leader);
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_is_elected_though_each_flush_of_a_vote_takes_half_a_second() {
    if !requires("another_controller_is_elected_though_each_flush_of_a_vote_takes_half_a_second", &[Need::Strace]) {
        return;
    }
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "slow-votes";
    let new = NewTopic::named(topic).replication_factor(3);
    wait_until("a topic", async || create_topic(&cluster.servers(), &new).await.ok()).await;
    let controller = cluster.controller().await;
    let slow = |id: u32| SyscallFault::on(cluster.process(id).pid(), "fdatasync:delay_enter=500000");
    let disks: Vec<_> = (1..=3).filter(|id| *id != controller).map(slow).collect();
    let mut evidence = cluster.kill(controller);
    let began = Instant::now();
    let next = cluster.next_controller(controller).await;
    println!("broker {next} runs the controller {:?} after the kill", began.elapsed());
    for disk in disks {
        evidence.add(Evidence::of("flushes delayed", disk.injected().len()));
    }
    evidence.assert_happened();
    cluster.restart(controller);
    cluster.wait_healed(topic).await;
}

/// A disk that takes so long hangs.
const STALL_MS: &str = "1500";

/// A partition that a broker leads.
async fn led_by(cluster: &Cluster, topic: &str, broker: u32) -> u32 {
    wait_until("the broker to lead a partition", async || {
        for partition in 0..3 {
            if cluster.leader(topic, partition).await.0 == broker {
                return Some(partition);
            }
        }
        None
    })
    .await
}

/// First the broker that runs the controller, which keeps its own lease, then another.
async fn victim(cluster: &Cluster, turn: u32) -> u32 {
    let controller = cluster.controller().await;
    if turn.is_multiple_of(2) { controller } else { controller % 3 + 1 }
}

/// Others lead what `hung` led, and acknowledge; it says why.
async fn is_replaced(cluster: &Cluster, history: &History, (topic, partition): (&str, u32), hung: u32) -> Evidence {
    cluster.next_leader(topic, partition, hung).await;
    for partition in 0..3 {
        wait_for_more_acks(history, partition, 50).await;
    }
    let process = cluster.process(hung);
    let told = process.log_lines("the disk hangs");
    let folder = format!("{topic}-{partition}");
    let names =
        |line: &serde_json::Value| line["log"].as_str().is_some_and(|log| log.contains(&format!("broker-{hung}/")));
    assert!(told.iter().all(names) && !told.is_empty(), "it should name what hangs, such as {folder}: {told:?}");
    let ready = process.http("/readyz");
    assert!(ready.status == 503 && ready.body.contains("FAULT disk-answers: the disk hangs: a "), "{ready:?}");
    let metrics = process.http("/metrics").body;
    assert!(metrics.contains("tidelog_disk_stalled 1"), "{metrics}");
    Evidence::of("disks that hung", told.len())
}

/// It serves again once its disk does.
async fn comes_back(cluster: &Cluster, topic: &str, hung: u32) {
    cluster.wait_healed(topic).await;
    let process = cluster.process(hung);
    assert!(!process.log_lines("the disk answers again").is_empty(), "{}", process.log_text());
    wait_until("the broker to be ready", async || (process.http("/readyz").status == 200).then_some(())).await;
    assert!(process.http("/metrics").body.contains("tidelog_disk_stalled 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_flushes_hang_is_replaced_until_they_do_not() {
    if !requires("a_leader_whose_flushes_hang_is_replaced_until_they_do_not", &[Need::Strace]) {
        return;
    }
    let settings = ClusterSettings::three().set("disk_stall_ms", STALL_MS).set("preferred_leader_interval_ms", "1000");
    let mut cluster = Cluster::start(settings).await;
    let topic = "hung-flush";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for turn in turns(2) {
            let hung = victim(cluster, turn).await;
            let partition = led_by(cluster, topic, hung).await;
            let segment = newest_segment(&cluster.data(hung).join(format!("{topic}-{partition}")));
            let pid = cluster.process(hung).pid();
            let disk = SyscallFault::on_file(pid, "fdatasync:delay_enter=60000000", &segment);
            evidence.add(is_replaced(cluster, history, (topic, partition), hung).await);
            drop(disk);
            comes_back(cluster, topic, hung).await;
        }
        evidence
    };
    Round::on(topic).config("durability", "flushed").survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_writes_hang_is_replaced_until_they_do_not() {
    if !requires("a_leader_whose_writes_hang_is_replaced_until_they_do_not", &[Need::LoopDisk]) {
        return;
    }
    let settings = ClusterSettings::three().disks(Disks::Loop(DISK_BYTES));
    let settings = settings.set("disk_stall_ms", STALL_MS).set("preferred_leader_interval_ms", "1000");
    // More than there are partitions, whose writes all hang.
    let mut cluster = Cluster::start(settings.set("network_threads", "8")).await;
    let topic = "hung-write";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for turn in turns(2) {
            let hung = victim(cluster, turn).await;
            let partition = led_by(cluster, topic, hung).await;
            let frozen = cluster.disk(hung).freeze();
            evidence.add(is_replaced(cluster, history, (topic, partition), hung).await);
            drop(frozen);
            comes_back(cluster, topic, hung).await;
        }
        evidence
    };
    round(topic).survives(&mut cluster, fault).await;
}
