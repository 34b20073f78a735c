"""Transactions of unmodified Python clients: transactions.py WHAT (kafka-python|confluent-kafka) HOST:PORT. Ends with an error where anything is amiss.
WHAT is one of
    write    some are committed and some aborted; whoever reads what is committed sees those alone
    fence    a second producer under the same name takes the place of the first
    timeout  one that is open for too long is aborted, and its producer is told
    fill     records to copy
    die      copies some of them within transactions, and dies in the middle of one
    copy     copies the rest
    copied   all of them were copied once
    survive  says when a transaction is open, waits for a line, commits it where it can, and goes on
"""

import os
import sys
import time

# A machine that is busy with other things may be slow.
PATIENCE = 90
PARTITIONS = 3
INPUT = 120
# Records of one transaction that copies.
STEP = 10
# Whoever copies after one that died waits for so long.
SESSION_MS = 6000


class KafkaPython:
    @staticmethod
    def make_topic(server, topic):
        from kafka.admin import KafkaAdminClient, NewTopic

        KafkaAdminClient(bootstrap_servers=server).create_topics([NewTopic(topic, PARTITIONS, 1)])

    def __init__(self, server, name, timeout_ms=60000):
        from kafka import KafkaProducer

        self.producer = KafkaProducer(bootstrap_servers=server, transactional_id=name, transaction_timeout_ms=timeout_ms)
        self.producer.init_transactions()
        self.begin, self.abort = self.producer.begin_transaction, self.producer.abort_transaction
        self.commit = self.producer.commit_transaction

    def send(self, topic, value, partition):
        self.producer.send(topic, value=value.encode(), partition=partition).get(PATIENCE)

    def commit_offsets(self, consumer):
        positions = {partition: consumer.offset(partition) for partition in consumer.consumer.assignment()}
        self.producer.send_offsets_to_transaction(positions, consumer.consumer.group_metadata())

    class Reader:
        def __init__(self, server, topic, isolation, group=None):
            from kafka import KafkaConsumer, TopicPartition

            self.consumer = KafkaConsumer(
                bootstrap_servers=server,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level=isolation,
                max_poll_records=1,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=SESSION_MS // 3,
            )
            if group:
                self.consumer.subscribe([topic])
            else:
                self.consumer.assign([TopicPartition(topic, i) for i in range(PARTITIONS)])

        def offset(self, partition):
            from kafka.structs import OffsetAndMetadata

            return OffsetAndMetadata(self.consumer.position(partition), "", -1)

        def poll(self):
            polled = self.consumer.poll(timeout_ms=200)
            return [record.value.decode() for records in polled.values() for record in records]

        def is_at_end(self):
            ends = self.consumer.end_offsets(list(self.consumer.assignment()))
            return all(self.consumer.position(partition) >= end for partition, end in ends.items())

        def close(self):
            self.consumer.close()


class ConfluentKafka:
    @staticmethod
    def make_topic(server, topic):
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": server})
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
            made.result(PATIENCE)

    def __init__(self, server, name, timeout_ms=60000):
        from confluent_kafka import Producer

        settings = {"bootstrap.servers": server, "transactional.id": name, "transaction.timeout.ms": timeout_ms}
        self.producer = Producer(settings)
        self.producer.init_transactions(PATIENCE)
        self.begin = self.producer.begin_transaction

    def retried(self, call):
        from confluent_kafka import KafkaException

        until = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except KafkaException as failure:
                if not failure.args[0].retriable() or time.monotonic() > until:
                    raise

    def commit(self):
        self.retried(lambda: self.producer.commit_transaction(PATIENCE))

    def abort(self):
        self.retried(lambda: self.producer.abort_transaction(PATIENCE))

    def send(self, topic, value, partition):
        failures = []
        self.producer.produce(
            topic, value=value, partition=partition, on_delivery=lambda error, _: error and failures.append(error)
        )
        check("records left", self.producer.flush(PATIENCE), 0)
        check("failures", failures, [])

    def commit_offsets(self, consumer):
        positions = consumer.consumer.position(consumer.consumer.assignment())
        positions = [position for position in positions if position.offset >= 0]
        metadata = consumer.consumer.consumer_group_metadata()
        self.retried(lambda: self.producer.send_offsets_to_transaction(positions, metadata, PATIENCE))

    class Reader:
        def __init__(self, server, topic, isolation, group=None):
            from confluent_kafka import Consumer, TopicPartition

            self.consumer = Consumer(
                {
                    "bootstrap.servers": server,
                    "group.id": group or "nobody",
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "isolation.level": isolation,
                    "session.timeout.ms": SESSION_MS,
                }
            )
            if group:
                self.consumer.subscribe([topic])
            else:
                self.consumer.assign([TopicPartition(topic, i, 0) for i in range(PARTITIONS)])

        def poll(self):
            record = self.consumer.poll(0.2)
            if record is None:
                return []
            if record.error():
                raise RuntimeError(record.error())
            return [record.value().decode()]

        def is_at_end(self):
            places = self.consumer.position(self.consumer.assignment())
            ends = [self.consumer.get_watermark_offsets(place, PATIENCE)[1] for place in places]
            return all(place.offset >= end for place, end in zip(places, ends))

        def close(self):
            self.consumer.close()


CLIENTS = {"kafka-python": KafkaPython, "confluent-kafka": ConfluentKafka}


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def read(client, server, topic, isolation, wanted):
    """All that is there, which has `wanted` in it sooner or later: a last record that stands behind everything else of its partition."""
    reader, values, until = client.Reader(server, topic, isolation), [], time.monotonic() + PATIENCE
    while not set(wanted) <= set(values):
        if time.monotonic() > until:
            sys.exit(f"{topic}, {isolation}: {wanted} is not among {sorted(values)}")
        values += reader.poll()
    reader.close()
    return sorted(values)


def transact(producer, topic, name, end):
    producer.begin()
    values = [f"{name} {partition}" for partition in range(PARTITIONS)]
    for partition, value in enumerate(values):
        producer.send(topic, value, partition)
    end()
    return values


def write(client, server, topic):
    client.make_topic(server, topic)
    producer = client(server, "writer")
    committed, aborted = [], []
    for turn in range(5):
        committed += transact(producer, topic, f"committed {turn}", producer.commit)
        aborted += transact(producer, topic, f"aborted {turn}", producer.abort)
    # Nothing is in it.
    producer.begin()
    producer.commit()
    last = transact(producer, topic, "last", producer.commit)
    for reader in CLIENTS.values():
        check("committed", read(reader, server, topic, "read_committed", last), sorted(committed + last))
        check("all", read(reader, server, topic, "read_uncommitted", last), sorted(committed + aborted + last))


def fails(call):
    """How it failed."""
    try:
        call()
    except Exception as failure:
        return repr(failure)
    return sys.exit("what must not be was done")


def fence(client, server, topic):
    client.make_topic(server, topic)
    first = client(server, "only-one")
    transact(first, topic, "first", first.commit)
    first.begin()
    first.send(topic, "zombie", 0)
    second = client(server, "only-one")
    failure = fails(first.commit)
    if "enced" not in failure and "FENCED" not in failure and "InvalidProducerEpoch" not in failure:
        sys.exit(f"it is not told that it is fenced: {failure}")
    last = transact(second, topic, "second", second.commit)
    expected = sorted([f"first {partition}" for partition in range(PARTITIONS)] + last)
    check("committed", read(client, server, topic, "read_committed", last), expected)


def timeout(client, server, topic):
    client.make_topic(server, topic)
    slow = client(server, "slow", 2000)
    slow.begin()
    slow.send(topic, "too late", 0)
    other = client(server, "other")
    last = transact(other, topic, "other", other.commit)
    # Comes behind the one that is open, so not before that is aborted.
    check("committed", read(client, server, topic, "read_committed", last), last)
    fails(slow.commit)


def fill(client, server, topic):
    client.make_topic(server, topic)
    client.make_topic(server, topic + "-copy")
    producer = client(server, "filler")
    for start in range(0, INPUT, 40):
        producer.begin()
        for i in range(start, start + 40):
            producer.send(topic, str(i), i % PARTITIONS)
        producer.commit()


def copy(client, server, topic, dies_after=None):
    producer = client(server, "copier")
    consumer = client.Reader(server, topic, "read_committed", "copiers")
    transactions, until = 0, time.monotonic() + PATIENCE
    while True:
        values = []
        while len(values) < STEP:
            polled = consumer.poll()
            values += polled
            if not polled and consumer.consumer.assignment() and consumer.is_at_end():
                break
            if time.monotonic() > until:
                sys.exit(f"{len(values)} of a transaction came in time")
        if not values:
            break
        producer.begin()
        for value in values:
            producer.send(topic + "-copy", value, int(value) % PARTITIONS)
        producer.commit_offsets(consumer)
        if transactions == dies_after:
            os._exit(0)
        producer.commit()
        transactions += 1
    consumer.close()


def copied(client, server, topic):
    producer = client(server, "last")
    last = transact(producer, topic + "-copy", "last", producer.commit)
    expected = sorted([str(i) for i in range(INPUT)] + last)
    for reader in CLIENTS.values():
        check("copied", read(reader, server, topic + "-copy", "read_committed", last), expected)


def survive(client, server, topic):
    client.make_topic(server, topic)
    producer = client(server, "survivor")
    before = transact(producer, topic, "before", producer.commit)
    producer.begin()
    producer.send(topic, "during", 0)
    print("open", flush=True)
    sys.stdin.readline()
    try:
        producer.commit()
        during = ["during"]
    except Exception as failure:
        print(failure, file=sys.stderr)
        during = []
        producer = client(server, "survivor")
    last = transact(producer, topic, "last", producer.commit)
    for reader in CLIENTS.values():
        check("committed", read(reader, server, topic, "read_committed", last), sorted(before + during + last))


if __name__ == "__main__":
    what, client, server = sys.argv[1:]
    works = {
        "write": write,
        "fence": fence,
        "timeout": timeout,
        "fill": fill,
        "die": lambda *place: copy(*place, dies_after=3),
        "copy": copy,
        "copied": copied,
        "survive": survive,
    }
    works[what](CLIENTS[client], server, "transactions")
