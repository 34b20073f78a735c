"""Groups of unmodified Python clients: groups.py share|resume (kafka-python|confluent-kafka) STRATEGY HOST:PORT. Ends with an error where anything is
amiss. Between the two the broker may be killed: where the group stopped is known after that."""

import sys
import threading
import time

PARTITIONS = 4
# Records of one batch of work, and how many batches there are before the members have gone.
WORK = 40
BATCHES = 3
# A machine that is busy with other things may be slow.
PATIENCE = 90


class KafkaPython:
    """One member, and what it needs of `kafka-python`."""

    @staticmethod
    def make_topic(server, topic):
        from kafka.admin import KafkaAdminClient, NewTopic

        KafkaAdminClient(bootstrap_servers=server).create_topics([NewTopic(topic, PARTITIONS, 1)])

    @staticmethod
    def produce(server, topic):
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=server)
        for i in range(WORK):
            producer.send(topic, value=b"%d" % i, partition=i % PARTITIONS).get(PATIENCE)
        producer.close()

    def __init__(self, server, topic, strategy):
        from kafka import KafkaConsumer
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        strategies = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=server,
            group_id="workers",
            auto_offset_reset="earliest",
            **({} if strategy == "default" else {"partition_assignment_strategy": [strategies[strategy]]}),
        )

    def poll(self):
        polled = self.consumer.poll(timeout_ms=100)
        return [(record.partition, record.offset) for records in polled.values() for record in records]

    def assigned(self):
        return {partition.partition for partition in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


class ConfluentKafka:
    """One member, and what it needs of `confluent-kafka`."""

    @staticmethod
    def make_topic(server, topic):
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": server})
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
            made.result(PATIENCE)

    @staticmethod
    def produce(server, topic):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": server})
        for i in range(WORK):
            producer.produce(topic, value=b"%d" % i, partition=i % PARTITIONS)
        check("records left", producer.flush(PATIENCE), 0)

    @staticmethod
    def assigning(strategy):
        if strategy == "consumer-protocol":
            return {"group.protocol": "consumer"}
        return {} if strategy == "default" else {"partition.assignment.strategy": strategy}

    def __init__(self, server, topic, strategy):
        from confluent_kafka import Consumer

        self.consumer = Consumer(
            {
                "bootstrap.servers": server,
                "group.id": "workers",
                "auto.offset.reset": "earliest",
                **self.assigning(strategy),
            }
        )
        self.consumer.subscribe([topic])

    def poll(self):
        record = self.consumer.poll(0.1)
        if record is None:
            return []
        if record.error():
            raise RuntimeError(record.error())
        return [(record.partition(), record.offset())]

    def assigned(self):
        return {partition.partition for partition in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


class Worker(threading.Thread):
    """A member at work."""

    def __init__(self, member):
        super().__init__(daemon=True)
        self.member, self.read, self.assigned = member, [], set()
        self.ends, self.failure = threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.ends.is_set():
                self.read += self.member.poll()
                self.assigned = self.member.assigned()
            self.member.close()
        except Exception as failure:
            self.failure = failure

    def leave(self):
        self.ends.set()
        self.join(PATIENCE)
        check("a member that left", (self.is_alive(), self.failure), (False, None))


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def wait_for(what, workers, holds):
    until = time.monotonic() + PATIENCE
    while not holds():
        for worker in workers:
            check("a member at work", worker.failure, None)
        if time.monotonic() > until:
            sys.exit(f"{what} did not come about: {[(sorted(worker.assigned), len(worker.read)) for worker in workers]}")
        time.sleep(0.02)


def every(batches):
    each = WORK // PARTITIONS
    return sorted((i, offset) for i in range(PARTITIONS) for offset in range(batches.start * each, batches.stop * each))


def share(kind, strategy, server, topic):
    kind.make_topic(server, topic)
    kind.produce(server, topic)
    first = Worker(kind(server, topic, strategy))
    wait_for("the work of one", [first], lambda: len(first.read) >= WORK)
    check("what one alone has", len(first.assigned), PARTITIONS)
    second = Worker(kind(server, topic, strategy))
    both = [first, second]
    half = PARTITIONS // 2
    fair = lambda: [len(worker.assigned) for worker in both] == [half, half] and not first.assigned & second.assigned
    wait_for("a fair share", both, fair)
    kind.produce(server, topic)
    wait_for("the work of two", both, lambda: len(first.read) + len(second.read) >= 2 * WORK)
    check("members that worked", [len(first.read), len(second.read)], [WORK * 3 // 2, WORK // 2])
    second.leave()
    wait_for("the whole for who stays", [first], lambda: len(first.assigned) == PARTITIONS)
    kind.produce(server, topic)
    wait_for("the work that is left", [first], lambda: len(first.read) + len(second.read) >= BATCHES * WORK)
    first.leave()
    check("records, each once", sorted(first.read + second.read), every(range(BATCHES)))


def resume(kind, strategy, server, topic):
    kind.produce(server, topic)
    worker = Worker(kind(server, topic, strategy))
    wait_for("the work since", [worker], lambda: len(worker.read) >= WORK)
    worker.leave()
    check("records since", sorted(worker.read), every(range(BATCHES, BATCHES + 1)))


_, phase, client, strategy, server = sys.argv
kind = {"kafka-python": KafkaPython, "confluent-kafka": ConfluentKafka}[client]
{"share": share, "resume": resume}[phase](kind, strategy, server, "work")
