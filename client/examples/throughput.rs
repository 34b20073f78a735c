//! Sends and reads a number of records and prints the rates: `throughput HOST:PORT RECORDS RECORD_BYTES [ROUNDS]`.
//! A quick look at the client alone; `perf-producer` and `perf-consumer` are the instruments.

use std::collections::VecDeque;
use std::time::Instant;

use tidelog_client::{Client, NewTopic, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let server = arguments.first().map_or("127.0.0.1:9092", String::as_str);
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (records, bytes, rounds) = (number(1, 1_000_000)?, number(2, 100)?, number(3, 3)?);

    let client = Client::connect(server).await?;
    let topic = format!("throughput-{}", std::process::id());
    client.admin().create_topic(&NewTopic::named(&topic).config("durability", "written")).await?;
    let value = vec![b'x'; bytes];
    for round in 0..rounds {
        let producer = client.producer().build()?;
        let sender = producer.topic(&topic).await?;
        let started = Instant::now();
        let cpu = cpu_seconds();
        let mut deliveries = VecDeque::with_capacity(1 << 16);
        for _ in 0..records {
            deliveries.push_back(sender.send(None, &value).await?);
            while let Some(outcome) = deliveries.front().and_then(|delivery| delivery.now()) {
                outcome?;
                deliveries.pop_front();
            }
        }
        producer.flush().await?;
        for delivery in deliveries {
            delivery.await?;
        }
        report(&format!("round {round} send"), records, bytes, started, cpu);
    }

    let started = Instant::now();
    let cpu = cpu_seconds();
    let mut consumer = client.consumer().topic(&topic).start(Start::Beginning).until_end().build().await?;
    let (mut seen, mut sum) = (0, 0);
    while let Some(batch) = consumer.next_batch().await? {
        for record in batch.records() {
            sum += record?.value.map_or(0, <[u8]>::len);
            seen += 1;
        }
    }
    assert_eq!((seen, sum), (records * rounds, records * rounds * bytes));
    report("read batches", seen, bytes, started, cpu);

    let started = Instant::now();
    let cpu = cpu_seconds();
    let mut consumer = client.consumer().topic(&topic).start(Start::Beginning).until_end().build().await?;
    let mut seen = 0;
    while let Some(record) = consumer.next().await {
        seen += usize::from(record?.value.is_some());
    }
    report("read records", seen, bytes, started, cpu);
    client.admin().delete_topic(&topic).await?;
    Ok(())
}

fn report(what: &str, records: usize, bytes: usize, started: Instant, cpu: f64) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = records as f64 / seconds;
    println!(
        "{what}: {:.2} M records/s, {:.0} MB/s, {:.0} ns of CPU per record",
        rate / 1e6,
        rate * bytes as f64 / 1e6,
        (cpu_seconds() - cpu) * 1e9 / records as f64
    );
}

/// CPU time of this process, user and system, in seconds; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
