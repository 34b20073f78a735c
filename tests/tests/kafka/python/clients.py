"""Unmodified Python clients against a broker: clients.py (kafka-python|confluent-kafka|early-id) HOST:PORT. Ends with an error where anything is amiss."""

import sys

RECORDS = 1000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def kafka_python(server):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=server)
    admin.create_topics([NewTopic("py", 3, 1)])
    check("topics", admin.list_topics(), ["py"])
    for codec in CODECS:
        producer = KafkaProducer(bootstrap_servers=server, compression_type=None if codec == "none" else codec)
        sent = [
            producer.send("py", key=b"k%d" % i, value=b"v%d" % i, headers=[("codec", codec.encode())])
            for i in range(RECORDS)
        ]
        producer.flush()
        for future in sent:
            future.get(30)
        producer.close()
    partitions = [TopicPartition("py", i) for i in range(3)]
    for isolation in ["read_uncommitted", "read_committed"]:
        consumer = KafkaConsumer(
            bootstrap_servers=server, auto_offset_reset="earliest", group_id=None, isolation_level=isolation
        )
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        check("ends", sum(ends.values()), RECORDS * len(CODECS))
        found = {partition: offset.offset for partition, offset in consumer.offsets_for_times(dict.fromkeys(partitions, 0)).items()}
        check("offsets by time", found, consumer.beginning_offsets(partitions))
        read = []
        while len(read) < RECORDS * len(CODECS):
            record = next(consumer)
            read.append((record.key, record.value, record.headers[0][1].decode()))
        expected = [(b"k%d" % i, b"v%d" % i, codec) for codec in CODECS for i in range(RECORDS)]
        check("records", sorted(read), sorted(expected))
        consumer.seek(partitions[0], 5)
        first = next(record for record in consumer if record.partition == 0)
        check("offset after a seek", first.offset, 5)
        consumer.close()
    admin.delete_topics(["py"])
    check("topics", admin.list_topics(), [])


def confluent_kafka(server):
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": server})
    for made in admin.create_topics([NewTopic("c", 3, 1)]).values():
        made.result(30)
    failed = []
    for codec in CODECS:
        for idempotent in [True, False]:
            producer = Producer(
                {"bootstrap.servers": server, "compression.type": codec, "enable.idempotence": idempotent}
            )
            for i in range(RECORDS):
                told = lambda error, record: failed.append(error) if error else None
                producer.produce("c", key=b"k%d" % i, value=b"v%d" % i, on_delivery=told)
                producer.poll(0)
            check("records left", producer.flush(30), 0)
    check("records that failed", failed, [])
    consumer = Consumer({"bootstrap.servers": server, "group.id": "alone", "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition("c", i, 0) for i in range(3)])
    read, ends = [], 0
    while ends < 3:
        record = consumer.poll(30)
        if record is None:
            sys.exit("nothing more came")
        if record.error():
            ends += 1
        else:
            read.append((record.key(), record.value()))
    expected = [(b"k%d" % i, b"v%d" % i) for i in range(RECORDS)] * (2 * len(CODECS))
    check("records", sorted(read), sorted(expected))
    low, high = consumer.get_watermark_offsets(TopicPartition("c", 0), timeout=30)
    check("watermarks are in order", (low, high > 0), (0, True))
    consumer.close()
    for gone in admin.delete_topics(["c"]).values():
        gone.result(30)


def confluent_kafka_of_early_id(server):
    """Writes to a partition that has forgotten producers of later ids than this one's."""
    from confluent_kafka import Producer

    told = []
    producer = Producer({"bootstrap.servers": server, "enable.idempotence": True, "delivery.timeout.ms": 60000})
    for i in range(RECORDS):
        producer.produce("crowded", value=b"v%d" % i, on_delivery=lambda error, record: told.append((error, record.offset())))
        producer.poll(0)
    check("records left", producer.flush(60), 0)
    first = told[0][1]
    check("what was told of the records", told, [(None, first + i) for i in range(RECORDS)])


{"early-id": confluent_kafka_of_early_id, "kafka-python": kafka_python, "confluent-kafka": confluent_kafka}[sys.argv[1]](sys.argv[2])
