"""A pipeline of confluent-kafka that reads, processes and writes within transactions, or what reads its output. Its errors are met as the client's
documentation wants it: what may be retried is, what makes the transaction void makes it abort and read again, what is fatal makes a new producer.
    pipeline.py transform SERVERS GROUP TRANSACTIONAL-ID INPUT OUTPUT     until it is ended; says how many records each transaction brought
    pipeline.py read SERVERS TOPIC     prints what is committed: key and value of each record, by partitions
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

# A machine that is busy with other things may be slow.
PATIENCE = 60
# Records of a transaction, and how long it waits for them, in seconds.
RECORDS_MAX = 50
GATHER = 0.2
# So many transactions, and the next is undone at its end, for no reason: whoever reads has to leave something out.
UNDONE_EVERY = 8


def tell(what):
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


class Void(Exception):
    """The transaction came to nothing."""


class Transformer:
    def __init__(self, servers, group, name, source, target):
        self.settings = {"bootstrap.servers": servers, "transactional.id": name}
        self.target, self.batch, self.metadata, self.producer = target, [], None, None
        self.consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": 6000,
            }
        )
        self.consumer.subscribe([source], on_assign=self.assigned, on_revoke=self.gone, on_lost=self.gone)
        self.renew()

    def assigned(self, consumer, partitions):
        tell(f"has {[partition.partition for partition in partitions]}")
        # As of the generation that the records will be of: asked later, a member that was thrown out would be nobody, whom no generation fences.
        self.batch, self.metadata = [], consumer.consumer_group_metadata()

    def gone(self, _consumer, _partitions):
        # No transaction is open while this is called. Whoever gets the partitions reads these again.
        self.batch, self.metadata = [], None

    def renew(self):
        self.producer = Producer(self.settings)
        self.retried(lambda: self.producer.init_transactions(PATIENCE))

    def retried(self, call):
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except KafkaException as failure:
                if not failure.args[0].retriable() or time.monotonic() > until:
                    raise
                tell(f"tries again: {failure}")

    def gather(self):
        until = time.monotonic() + GATHER
        while len(self.batch) < RECORDS_MAX and time.monotonic() < until:
            record = self.consumer.poll(0.05)
            if record is None:
                continue
            if record.error():
                tell(f"reading: {record.error()}")
            else:
                self.batch.append(record)

    def transact(self, records, is_undone):
        producer = self.producer
        producer.begin_transaction()
        for record in records:
            producer.produce(self.target, key=record.key(), value=record.value(), partition=record.partition())
        ends = {record.partition(): TopicPartition(record.topic(), record.partition(), record.offset() + 1) for record in records}
        self.retried(lambda: producer.send_offsets_to_transaction(list(ends.values()), self.metadata, PATIENCE))
        if is_undone:
            # What is not written need not be undone.
            producer.flush(PATIENCE)
            self.abort()
            raise Void("undone for no reason")
        self.retried(lambda: producer.commit_transaction(PATIENCE))

    def abort(self):
        self.retried(lambda: self.producer.abort_transaction(PATIENCE))

    def overcome(self, failure):
        """Whatever went wrong, nothing of the transaction is left, and there is a producer for the next."""
        error = failure.args[0]
        tell(f"fatal {error.fatal()}, abort {error.txn_requires_abort()}: {failure}")
        if error.txn_requires_abort():
            try:
                return self.abort()
            except KafkaException as second:
                tell(f"while it aborted: {second}")
                if not second.args[0].fatal():
                    raise
        elif not error.fatal():
            raise failure
        self.renew()

    def rewind(self):
        """To where the group stopped."""
        while self.consumer.assignment():
            try:
                for place in self.consumer.committed(self.consumer.assignment(), PATIENCE):
                    if place.error:
                        raise KafkaException(place.error)
                    # Before the first commit, where the group would begin.
                    self.consumer.seek(place if place.offset >= 0 else TopicPartition(place.topic, place.partition, -2))
                return
            except KafkaException as failure:
                error = failure.args[0]
                tell(f"rewinding: {failure}")
                if error.code() in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION):
                    # Partitions went meanwhile; who gets some begins where the group stopped. This notices at the next poll.
                    return
                time.sleep(0.1)

    def run(self):
        tries = 0
        while True:
            self.gather()
            records, self.batch = self.batch, []
            if not records:
                continue
            tries += 1
            try:
                self.transact(records, tries % UNDONE_EVERY == 0)
                print(f"committed {len(records)}", flush=True)
            except Void:
                self.rewind()
            except KafkaException as failure:
                self.overcome(failure)
                self.rewind()


def read(servers, topic):
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "nobody",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = sorted(consumer.list_topics(topic, PATIENCE).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    open_ones, until = set(partitions), time.monotonic() + PATIENCE
    while open_ones:
        if time.monotonic() > until:
            sys.exit(f"the end of {open_ones} did not come")
        record = consumer.poll(1)
        if record is None:
            continue
        if not record.error():
            print(record.key().decode(), record.value().decode())
        elif record.error().code() == KafkaError._PARTITION_EOF:
            open_ones.discard(record.partition())
        else:
            tell(f"reading: {record.error()}")
    consumer.close()


if __name__ == "__main__":
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "transform":
        Transformer(*arguments).run()
    else:
        read(*arguments)
