//! What rots on a disk while nobody reads it: a broker notices it by itself within minutes, and at once where it is to send it to another broker; then
//! it is named, and mended.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use tidelog_broker::Config;
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::Fault;
use tidelog_protocol::records::Batches;
use tidelog_protocol::{ErrorCode, Message, Offset, ProtocolVersion, WireError};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::RawConnection;

use crate::ledger::{Ledger, RECORDS, ROTTEN, TOPIC, on_its_own};

/// A piece that the disk takes past the page cache.
const PAGE: usize = 4096;

#[repr(align(4096))]
struct Page([u8; PAGE]);

impl Ledger {
    /// The batches of a broker, as they lie on its disk.
    fn batches(&self, id: u32) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(self.segment(id)).unwrap();
        Batches::new(&bytes).map_while(Result::ok).map(|batch| batch.bytes().to_vec()).collect()
    }

    /// Flips a bit of a record where it lies, whoever has the log open.
    fn rot(&self, id: u32, record: u64) {
        let batches = self.batches(id);
        let end: usize = batches[..=record as usize].iter().map(Vec::len).sum();
        let last = batches[record as usize].last().unwrap();
        let file = OpenOptions::new().write(true).open(self.segment(id)).unwrap();
        file.write_all_at(&[last ^ 1], end as u64 - 1).unwrap();
    }

    /// Begins to read at a broker that was just started, which verifies all that it has not written itself.
    async fn read_at(&self, broker: u32) {
        wait_until("the broker to meet its damage", async || {
            let mut connection = RawConnection::introduced(self.cluster.address(broker)).await;
            let _ = connection.ask(&self.subscribe(ROTTEN), &[]).await;
            let _ = connection.next_frame().await;
            (self.cluster.is_damaged(broker) || self.cluster.repaired(broker) > 0).then_some(())
        })
        .await;
    }

    /// As [`Ledger::rot`], past the page cache, which then has the page no more: whoever reads it next reads the disk.
    fn rot_cold(&self, id: u32, record: u64) {
        let before = self.batches(id);
        let end: usize = before[..=record as usize].iter().map(Vec::len).sum();
        let (page, within) = ((end - 1) / PAGE * PAGE, (end - 1) % PAGE);
        let mut bytes = Box::new(Page([0; PAGE]));
        let path = self.segment(id);
        std::fs::File::open(&path).unwrap().read_exact_at(&mut bytes.0, page as u64).unwrap();
        bytes.0[within] ^= 1;
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
        let file = OpenOptions::new().write(true).custom_flags(direct).open(&path).unwrap();
        file.write_all_at(&bytes.0, page as u64).unwrap();
    }

    /// What a broker serves from the beginning on, up to the end or to a refusal. Every batch is whole.
    async fn served(&self, broker: u32) -> (u64, Option<WireError>) {
        let mut connection = RawConnection::introduced(self.cluster.address(broker)).await;
        let stream = connection.ask(&self.subscribe(0), &[]).await;
        let mut next = 0;
        within_limit("all records, or a refusal", async {
            while next < RECORDS {
                let frame = connection.next_frame().await.expect("the connection stands");
                assert_eq!(frame.header.correlation, stream);
                if frame.header.flags.contains(Flags::FAULT) {
                    let fault = Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap();
                    return (next, Some(fault.into()));
                }
                for batch in Batches::new(&frame.payload).map(Result::unwrap) {
                    batch.verify_crc().expect("what is served is whole");
                    assert_eq!(batch.header().base_offset, Offset(next));
                    next = batch.header().next_offset().0;
                }
            }
            (next, None)
        })
        .await
    }

    /// What an operator sees of the partition.
    async fn described(&self) -> String {
        self.tidelog(self.leader(), &format!("partitions describe {TOPIC}")).await.text().to_owned()
    }

    /// Restarts a follower with a record that rotted meanwhile.
    fn restart_rotten(&mut self, id: u32) {
        self.cluster.kill(id);
        self.rot(id, ROTTEN);
        self.cluster.start_broker(id);
        self.cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    }
}

fn never_scrubs(config: &mut Config) {
    config.scrub_bytes_per_second = 0;
}

#[test]
fn brokers_that_are_asked_for_a_repair_notice_that_the_same_has_rotted_at_their_own() {
    let mut ledger = Ledger::written(never_scrubs);
    let [asks, other] = ledger.followers();
    for asked in [ledger.leader(), other] {
        ledger.rot(asked, ROTTEN);
        assert!(!ledger.cluster.is_damaged(asked), "nobody has looked");
    }
    ledger.restart_rotten(asks);
    on_its_own(async {
        ledger.read_at(asks).await;
        wait_until("all to know of their damage", async || {
            (1..=3).all(|broker| ledger.cluster.is_damaged(broker)).then_some(())
        })
        .await;
        let described = ledger.described().await;
        for broker in 1..=3 {
            assert_eq!(ledger.cluster.repaired(broker), 0, "nobody has it");
            assert!(described.contains(&format!("on {broker}: damaged")), "{broker}: {described}");
        }
    });
}

#[test]
fn a_broker_that_notices_it_as_it_is_asked_for_a_repair_is_mended_as_the_one_that_asked() {
    let mut ledger = Ledger::written(never_scrubs);
    let leader = ledger.leader();
    let [asks, whole] = ledger.followers();
    ledger.rot(leader, ROTTEN);
    ledger.restart_rotten(asks);
    on_its_own(async {
        ledger.read_at(asks).await;
        wait_until("both to be mended", async || {
            [leader, asks].iter().all(|broker| ledger.cluster.repaired(*broker) == 1).then_some(())
        })
        .await;
    });
    let expected = ledger.batches(whole);
    assert_eq!(expected.len() as u64, RECORDS);
    assert!(ledger.batches(leader) == expected && ledger.batches(asks) == expected);
}

#[test]
fn what_rots_soon_after_it_was_written_is_found_and_mended_though_nobody_reads_it() {
    let ledger = Ledger::written(|config| config.scrub_delay_ms = 500);
    let [follower, _] = ledger.followers();
    on_its_own(async {
        let mut record = RECORDS;
        // A machine that is busy may look at a record before it rots: then another one.
        wait_until("the rot to be found and mended", async || {
            ledger.produce(record).await;
            wait_until("the follower to have it", async || {
                (ledger.batches(follower).len() as u64 > record).then_some(())
            })
            .await;
            ledger.rot(follower, record);
            record += 1;
            (ledger.cluster.repaired(follower) > 0).then_some(())
        })
        .await;
    });
}

#[test]
fn a_replica_that_is_copied_from_what_has_rotted_lets_its_source_know() {
    let mut ledger = Ledger::written(never_scrubs);
    let leader = ledger.leader();
    let [copied, whole] = ledger.followers();
    ledger.cluster.kill(copied);
    ledger.cluster.fence(copied);
    std::fs::remove_dir_all(ledger.cluster.data(copied)).unwrap();
    ledger.rot(leader, ROTTEN);
    ledger.cluster.start_broker(copied);
    ledger.cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    ledger.cluster.assert_repaired_one(leader);
    let expected = ledger.batches(whole);
    assert!(ledger.batches(leader) == expected && ledger.batches(copied) == expected);
}

#[test]
fn what_rots_at_the_leader_under_cold_pages_is_never_served_but_mended() {
    let ledger = Ledger::written(never_scrubs);
    let leader = ledger.leader();
    on_its_own(async {
        assert_eq!(ledger.served(leader).await, (RECORDS, None), "all is whole, and was seen to be");
        ledger.rot_cold(leader, ROTTEN);
        let mut refusals = 0;
        wait_until("all records to be served again", async || match ledger.served(leader).await {
            (RECORDS, None) => Some(()),
            (next, refusal) => {
                let refusal = refusal.expect("a stream ends with its reason");
                assert_eq!(next, ROTTEN, "{refusal}");
                let waits = refusal.code == ErrorCode::Overloaded && refusal.message.contains("another replica");
                assert!(waits || refusal.code == ErrorCode::CorruptLog, "{refusal}");
                refusals += 1;
                None
            }
        })
        .await;
        assert!(refusals > 0, "the first who reads finds it");
        ledger.cluster.assert_repaired_one(leader);
    });
    let [whole, _] = ledger.followers();
    assert!(ledger.batches(leader) == ledger.batches(whole));
}
