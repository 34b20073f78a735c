//! A range that is damaged on every replica: brokers do not send each other, nor their readers, round in circles for it. Whoever reads is told
//! what is damaged and what to do, and a replica that comes back with the range whole mends the others.

use std::time::Duration;

use tidelog_client::Client;
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::Fault;
use tidelog_protocol::records::Batches;
use tidelog_protocol::{ErrorCode, Message, Offset, ProtocolVersion, WireError};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tools::verify::events::HistoryWriter;
use tidelog_tools::verify::last_reading::{self, LastReadingError};
use tidelog_tools::verify::workload::{Counts, Workload};

use crate::ledger::{Ledger, RECORDS, ROTTEN, TOPIC, on_its_own};

impl Ledger {
    /// Flips a bit of a record in a log that nobody has open, or flips it back.
    fn flip(&self, id: u32) {
        let mut bytes = std::fs::read(self.segment(id)).unwrap();
        let batches = Batches::new(&bytes).map_while(Result::ok);
        let ends: Vec<usize> = batches
            .scan(0, |end, batch| {
                *end += batch.bytes().len();
                Some(*end)
            })
            .collect();
        assert_eq!(ends.len() as u64, RECORDS, "each is a batch, whose header is sound");
        bytes[ends[ROTTEN as usize] - 1] ^= 1;
        std::fs::write(self.segment(id), bytes).unwrap();
    }

    /// Restarts these brokers, each with its record damaged.
    fn damage(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| self.cluster.kill(*id));
        ids.iter().for_each(|id| self.flip(*id));
        ids.iter().for_each(|id| self.cluster.start_broker(*id));
    }

    /// The leader is damaged, nobody can reach the other two, and all three are in sync.
    fn damaged_and_cut_off_from_the_others(&mut self) -> u32 {
        let (leader, others) = (self.leader(), self.followers());
        others.iter().for_each(|id| self.cluster.fence(*id));
        self.cluster.wait_in_sync(TOPIC, &[leader]);
        self.cluster.kill(leader);
        self.flip(leader);
        others.iter().for_each(|id| self.cluster.cut_off(*id));
        self.cluster.start_broker(leader);
        others.iter().for_each(|id| self.cluster.unfence(*id));
        self.cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
        assert_eq!(self.leader(), leader);
        leader
    }

    /// How the last reading of a verification ends that bears it for so long.
    async fn last_reading(&self, broker: u32, patience: Duration) -> Result<(), LastReadingError> {
        let client = Client::connect(&self.cluster.address(broker).to_string()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let history = HistoryWriter::create(&folder.path().join("history")).unwrap();
        let work = Workload {
            run: "run".into(),
            topic: TOPIC.into(),
            begins: vec![Offset::ZERO],
            producers: 1,
            idempotent: true,
            rate: 1,
            records_max: RECORDS,
            duration: Duration::ZERO,
        };
        let counts = Counts { acked_ends: vec![RECORDS.into()], ..Counts::default() };
        within_limit("the last reading to end", last_reading::read(&client, &work, &counts, patience, &history)).await
    }

    /// What a broker tells a consumer that reads from this offset: that all that follows is whole, or why not.
    async fn read(&self, broker: u32, from: u64) -> Result<(), WireError> {
        let mut connection = RawConnection::introduced(self.cluster.address(broker)).await;
        let stream = connection.ask(&self.subscribe(from), &[]).await;
        let mut bytes = Vec::new();
        within_limit("all records, or a refusal", async {
            loop {
                let frame = connection.next_frame().await.expect("the connection stands");
                assert_eq!(frame.header.correlation, stream);
                if frame.header.flags.contains(Flags::FAULT) {
                    return Err(Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into());
                }
                bytes.extend_from_slice(&frame.payload);
                let whole = Batches::compacted(&bytes).flatten().inspect(|batch| batch.verify_crc().unwrap());
                if whole.last().is_some_and(|last| last.header().next_offset() == Offset(RECORDS)) {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Waits until a broker tells its readers that the record is lost.
    async fn wait_lost(&self, broker: u32) {
        wait_until("readers to be told that the range is nowhere", async || {
            let refusal = self.read(broker, 0).await.expect_err("what is damaged is never served");
            let waits = refusal.code == ErrorCode::Overloaded && refusal.message.contains("another replica");
            assert!(
                waits || refusal.code == ErrorCode::CorruptLog || refusal.code == ErrorCode::NotLeader,
                "{refusal}"
            );
            (refusal.code == ErrorCode::CorruptLog).then_some(())
        })
        .await;
    }
}

#[test]
fn what_is_damaged_on_every_replica_is_told_and_then_nobody_waits_for_it() {
    let mut ledger = Ledger::written(|_| {});
    ledger.damage(&[1, 2, 3]);
    ledger.cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    on_its_own(async {
        for broker in 1..=3 {
            ledger.wait_lost(broker).await;
            // From here on nobody waits, wherever the damage lies in what is read.
            for from in [0, ROTTEN] {
                let refusal = ledger.read(broker, from).await.unwrap_err();
                assert_eq!(refusal.code, ErrorCode::CorruptLog, "{refusal}");
                assert_eq!(refusal.range, Some((Offset(ROTTEN), Offset(ROTTEN + 1))), "{refusal}");
                for part in ["offsets 20 to 21 (exclusive) are damaged", "no other replica", "go on at 21"] {
                    assert!(refusal.message.contains(part), "{part} is missing: {refusal}");
                }
            }
            ledger.read(broker, ROTTEN + 1).await.unwrap();
            assert_eq!(ledger.cluster.repaired(broker), 0);
        }
        let broker = ledger.leader();
        for arguments in ["--until-end --timeout 20s", "--from beginning"] {
            let consumed = ledger.tidelog(broker, &format!("consume {TOPIC} {arguments}")).await.expect_code(6);
            assert_eq!(consumed.text().lines().count() as u64, ROTTEN, "what comes before is shown: {consumed:?}");
            for part in ["offsets 20 to 21 (exclusive) are damaged", "--from offset:21"] {
                assert!(consumed.stderr.contains(part), "{part} is missing: {consumed:?}");
            }
        }
        let ended = ledger.last_reading(broker, Duration::from_millis(500)).await.unwrap_err().to_string();
        assert!(ended.contains("partition 0 cannot be read") && ended.contains("reading can go on at 21"), "{ended}");
    });
}

#[test]
fn what_cannot_be_fetched_is_not_waited_for_without_a_word_nor_an_end() {
    let mut ledger = Ledger::written(|_| {});
    let broker = ledger.damaged_and_cut_off_from_the_others();
    let others = ledger.followers();
    on_its_own(async {
        for arguments in ["--until-end", "--from beginning"] {
            let line = format!("consume {TOPIC} {arguments} --timeout 3s");
            let consumed = ledger.tidelog(broker, &line).await.expect_code(4);
            assert_eq!(consumed.text().lines().count() as u64, ROTTEN, "what comes before is shown: {consumed:?}");
            for part in ["being fetched from another replica", "partitions describe", "--from offset:21"] {
                assert!(consumed.stderr.contains(part), "{part} is missing: {consumed:?}");
            }
        }
        let ended = ledger.last_reading(broker, Duration::from_millis(500)).await.unwrap_err().to_string();
        assert!(ended.contains("being fetched from another replica"), "{ended}");
    });
    others.iter().for_each(|id| ledger.cluster.mend(*id));
    on_its_own(async {
        let consumed = ledger.tidelog(broker, &format!("consume {TOPIC} --until-end")).await.expect_code(0);
        assert_eq!(consumed.text().lines().count() as u64, RECORDS, "{consumed:?}");
        ledger.last_reading(broker, Duration::from_millis(500)).await.unwrap();
    });
    ledger.cluster.assert_repaired_one(broker);
}

#[test]
fn the_last_reading_of_a_verification_ends_where_nothing_more_comes() {
    let mut ledger = Ledger::written(|_| {});
    let broker = ledger.damaged_and_cut_off_from_the_others();
    on_its_own(async {
        let before = ledger.cluster.pushed_bytes(broker, TOPIC);
        let reading = ledger.last_reading(broker, Duration::from_millis(500));
        let cutting = async {
            let pushed = || ledger.cluster.pushed_bytes(broker, TOPIC) > before;
            wait_until("the reading to have begun", async || pushed().then_some(())).await;
            // From here on its consumer finds nobody, which is nothing that it tells.
            ledger.cluster.cut_off(broker);
        };
        let (ended, ()) = tokio::join!(reading, cutting);
        let ended = ended.unwrap_err().to_string();
        assert!(ended.contains("nothing comes from offset 20 on"), "{ended}");
    });
}

#[test]
fn a_replica_that_was_away_is_named_and_mends_the_others_when_it_comes_back() {
    let mut ledger = Ledger::written(|_| {});
    let [away, other] = ledger.followers();
    let damaged = [ledger.leader(), other];
    ledger.cluster.kill(away);
    ledger.cluster.fence(away);
    ledger.damage(&damaged);
    let mut in_sync = damaged;
    in_sync.sort_unstable();
    ledger.cluster.wait_in_sync(TOPIC, &in_sync);
    on_its_own(async {
        for broker in damaged {
            ledger.wait_lost(broker).await;
            let refusal = ledger.read(broker, ROTTEN).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::CorruptLog, "{refusal}");
            assert!(refusal.message.contains(&format!("broker {away} may have them")), "{refusal}");
        }
    });
    ledger.cluster.start_broker(away);
    on_its_own(async {
        for broker in damaged {
            wait_until("the range to be mended", async || ledger.read(broker, 0).await.ok()).await;
            ledger.cluster.assert_repaired_one(broker);
        }
    });
}
