//! `kafka-transactions`, while a transaction is open and after its end.

use tidelog_tests::patience::wait_for;

use super::{asking, broker_for, native, rows, told};

const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";

#[test]
fn kafka_transactions_lists_and_describes_what_is_open_and_what_has_ended() {
    let test = "kafka_transactions_lists_and_describes_what_is_open_and_what_has_ended";
    let Some(broker) = broker_for(test) else { return };
    let _ = native(&broker, &["topics", "create", "invoices"]);
    let ask = |arguments: &[&str]| told(&broker, TRANSACTIONS, arguments);
    assert_eq!(rows(&ask(&["list"])), [["TransactionalId", "Coordinator", "ProducerId", "TransactionState"]]);

    // Slow enough that its only transaction is seen open, whose records stand once it is committed.
    let slow = ["--num-records", "600", "--record-size", "100", "--throughput", "20"];
    let within = ["--topic", "invoices", "--transactional-id", "import-1", "--transaction-duration-ms", "60000"];
    let producer = asking(&broker, PERFORMANCE, &[&within[..], &slow].concat()).start();
    wait_for("a transaction to be open", || {
        native(&broker, &["transactions", "list"]).contains("import-1").then_some(())
    });
    let described = wait_for("a partition to be taken in", || {
        let described = ask(&["describe", "--transactional-id", "import-1"]);
        described.contains("invoices-0").then_some(described)
    });
    let row = &rows(&described)[1];
    assert_eq!([row[1], row[3], row[4], row[5], row[8]], ["import-1", "0", "Ongoing", "60000", "invoices-0"]);
    let open = ask(&["list"]);
    assert_eq!(rows(&open)[1], ["import-1", "1", row[2], "Ongoing"], "{open}");
    let stable = told(&broker, "org.apache.kafka.tools.GetOffsetShell", &["--topic", "invoices"]);
    assert_ne!(stable, "invoices:0:0\n", "records are written before they are committed");
    assert_eq!(native(&broker, &["consume", "invoices", "--until-end"]), "", "and not read");

    // What the partition knows of its producers. The transaction is open there and with its coordinator: it does not hang.
    let of_partition = ["--topic", "invoices", "--partition", "0"];
    let producers = |what: &[&str]| ask(&[what, &of_partition[..]].concat());
    let writing = producers(&["describe-producers"]);
    let columns = rows(&writing)[0].clone();
    assert_eq!(columns[..3], ["ProducerId", "ProducerEpoch", "LatestCoordinatorEpoch"]);
    assert_eq!(columns[3..], ["LastSequence", "LastTimestamp", "CurrentTransactionStartOffset"]);
    let writer = &rows(&writing)[1];
    assert_eq!([writer[0], writer[1], writer[5]], [rows(&open)[1][2], "0", "0"], "{writing}");
    assert!(writer[3].parse::<u32>().is_ok() && writer[4].parse::<u64>().is_ok(), "{writing}");
    let hanging = producers(&["find-hanging", "--max-transaction-timeout", "0"]);
    assert_eq!(rows(&hanging).len(), 1, "only a heading: {hanging}");

    let report = String::from_utf8(producer.finish().success()).unwrap();
    assert!(report.lines().last().unwrap().starts_with("600 records sent"), "{report}");
    let written = producers(&["describe-producers"]);
    assert_eq!(rows(&written)[1][3..6], ["599", rows(&written)[1][4], "None"], "{written}");
    let ended = ask(&["list"]);
    assert_eq!(rows(&ended)[1], ["import-1", "1", row[2], "Empty"], "{ended}");
    assert_eq!(native(&broker, &["consume", "invoices", "--until-end"]).lines().count(), 600);
}
