//! A hundred members join and leave a group at random: nobody has a partition twice, no record is missed or processed twice, and who keeps a
//! partition goes on with it as if nothing had happened.
//!
//! A quarter of a minute; for two minutes and figures worth keeping:
//! `TEST_ROUNDS=8 cargo test -p tidelog-tests --test transactions group_crowd -- --nocapture`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelog_client::{Client, NewTopic, Start};
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::group_work::judge::{Faults, percentile};
use tidelog_tests::group_work::{Load, Notes, Worker, judge};
use tidelog_tests::patience::{wait_until, within_limit};

const MEMBERS: usize = 100;
const PARTITIONS: u32 = 120;
const TOPIC: &str = "orders";
/// No member may ever be without a heartbeat for so long, however busy the machine is.
const SESSION: Duration = Duration::from_secs(60);
/// A record of a partition that stays where it is takes no longer, whatever happens around it.
const UNINTERRUPTED: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn members_that_keep_their_partitions_never_stop() {
    let mut rng = seeded("group_crowd");
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let topic = NewTopic::named(TOPIC).partitions(PARTITIONS).replication_factor(3).config("durability", "written");
    client.admin().create_topic(&topic).await.unwrap();
    let notes = Notes::new(PARTITIONS);
    let mut lives = 0..;
    let mut join = || {
        let builder = client.group("crowd").topics([TOPIC]).start(Start::Beginning);
        Worker::start(lives.next().unwrap(), builder.session_timeout(SESSION).rebalance_timeout(SESSION), &notes)
    };
    let mut places: Vec<Option<Worker>> = (0..MEMBERS).map(|_| Some(join())).collect();
    wait_until("a place for everybody", async || notes.is_settled().then_some(())).await;
    let load = Load::start(&client, TOPIC, PARTITIONS, Duration::from_millis(500));

    let (began, mut most, mut leaving) = (Instant::now(), 1_u64, Vec::new());
    let before = (notes.settled_after().len(), notes.stops_of_the_world(), notes.entries().len());
    while began.elapsed() < Duration::from_secs(15 * u64::from(rounds(1))) {
        let place = &mut places[rng.usize(..MEMBERS)];
        match place.take() {
            Some(worker) => leaving.push(worker.leave()),
            None => *place = Some(join()),
        }
        let members = places.iter().flatten().count() as u64;
        // What one member has at most: as much comes to one that joins, and goes from one that leaves.
        most += u64::from(PARTITIONS).div_ceil(members.max(1));
        if rng.u8(..4) == 0 {
            wait_until("an even spread", async || notes.is_settled().then_some(())).await;
        } else {
            tokio::time::sleep(Duration::from_millis(rng.u64(..500))).await;
        }
    }
    wait_until("an even spread", async || notes.is_settled().then_some(())).await;
    let seconds = began.elapsed().as_secs_f64();
    let ends = load.end().await;
    wait_until("all records to be processed", async || (notes.reached() == ends).then_some(())).await;
    let moving = notes.entries();
    let (changes, stops) = (notes.settled_after().len() - before.0, notes.stops_of_the_world() - before.1);
    let mut settled_after = notes.settled_after().split_off(before.0);

    leaving.extend(places.into_iter().flatten().map(Worker::leave));
    for member in leaving {
        within_limit("a member to leave", member).await.unwrap();
    }
    cluster.assert_alive();

    let whole = judge(&notes.entries(), Faults::None);
    assert_eq!(whole.broken, Vec::<String>::new());
    assert_eq!((whole.reached, whole.again, whole.lost), (ends.clone(), 0, 0));
    assert_eq!(whole.processed, ends.values().sum::<u64>(), "every record once");
    let (to_begin, to_the_end) = (judge(&moving[..before.2], Faults::None), judge(&moving, Faults::None));
    let moved = to_the_end.assigned - to_begin.assigned;
    let taken = to_the_end.taken_from_members - to_begin.taken_from_members;
    let ages = whole.kept_ages;
    settled_after.sort_unstable();
    let shown = |ascending: &[Duration]| {
        let figures = [0.5, 0.99, 1.0].map(|share| (format!("p{}", share * 100.0), percentile(ascending, share)));
        figures.into_iter().collect::<BTreeMap<_, _>>()
    };
    println!(
        "{changes} joins and leaves in {seconds:.0} s among {MEMBERS} members and {PARTITIONS} partitions: evenly spread again after {:?}; \
         {moved} partitions given, {taken} of them taken from members that stayed; if each change stopped everybody, {stops} stops of members \
         with {} stops of partitions; {} records, of which {} of partitions that stayed where they were took {:?}",
        shown(&settled_after),
        changes as u64 * u64::from(PARTITIONS),
        whole.processed,
        ages.len(),
        shown(&ages),
    );
    assert!(changes > 5, "something changed");
    assert!(moved <= most, "{moved} partitions were moved where {most} had to be at most");
    assert!(ages.last().is_some_and(|oldest| *oldest < UNINTERRUPTED), "{:?}", ages.last());
}
