"""Unmodified Python clients administer a broker: admin.py (kafka-python|confluent-kafka|aiokafka) HOST:PORT. Ends with an error where anything is amiss."""

import asyncio
import sys


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def refused(what, kind, call):
    """The error that the call ends with, which has to be of this kind."""
    try:
        told = call()
    except kind as error:
        return error
    sys.exit(f"{what} was not refused: {told!r}")


def kafka_python(server):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import ConfigResource, KafkaAdminClient, NewTopic
    from kafka.errors import (
        ElectionNotNeededError,
        InvalidPartitionsError,
        InvalidReplicationAssignmentError,
        NoReassignmentInProgressError,
        OffsetOutOfRangeError,
        UnknownTopicOrPartitionError,
    )

    PREFERRED = 0
    admin = KafkaAdminClient(bootstrap_servers=server)
    admin.create_topics([NewTopic("py", 1, 1, topic_configs={"cleanup.policy": "compact"})])

    def values(config_filter, kind="TOPIC", name="py"):
        told = admin.describe_configs([ConfigResource(kind, name)], config_filter=config_filter)
        return {key: config["value"] for key, config in told[kind.lower()][name].items()}

    def alter(changes, **how):
        return admin.alter_configs([ConfigResource("TOPIC", "py", changes)], **how)["topic"]["py"]

    check("what the topic sets", values("modified"), {"cleanup.policy": "compact"})
    check("the default", values("all")["retention.ms"], "604800000")
    check("what a broker has", values("all", "BROKER", "1")["num.partitions"], "1")
    check("only checked", alter({"retention.ms": "5"}, validate_only=True), "OK")
    check("what the topic sets", values("modified"), {"cleanup.policy": "compact"})
    check("set", alter({"retention.ms": "5", "cleanup.policy": ("APPEND", "delete")}), "OK")
    check("what the topic sets", values("modified"), {"cleanup.policy": "compact,delete", "retention.ms": "5"})
    check("set alone", alter({"segment.ms": "6"}, incremental=False), "OK")
    check("all that is set", values("modified"), {"cleanup.policy": "compact,delete", "retention.ms": "5", "segment.ms": "6"})
    refused("an unknown key", ValueError, lambda: alter({"colour": "red"}))
    check("an unknown key", "no topic config 'colour'" in alter({"colour": "red"}, raise_on_unknown=False), True)
    check("a bad value", "'soon'" in alter({"retention.ms": "soon"}), True)
    told = admin.alter_configs([ConfigResource("TOPIC", "nowhere", {"retention.ms": "5"})], raise_on_unknown=False)
    check("an unknown topic", UnknownTopicOrPartitionError.__name__ in told["topic"]["nowhere"], True)
    check("put back", admin.reset_configs([ConfigResource("TOPIC", "py", [])])["topic"]["py"], "OK")
    check("what the topic sets", values("modified"), {})

    def partitions():
        return len(admin.describe_topics(["py"])[0]["partitions"])

    admin.create_partitions({"py": 3}, validate_only=True)
    check("partitions, only checked", partitions(), 1)
    admin.create_partitions({"py": 3})
    check("partitions", partitions(), 3)
    refused("fewer partitions", InvalidPartitionsError, lambda: admin.create_partitions({"py": 2}))
    refused("partitions of nothing", UnknownTopicOrPartitionError, lambda: admin.create_partitions({"nowhere": 2}))

    first = TopicPartition("py", 0)
    producer = KafkaProducer(bootstrap_servers=server)
    for _ in range(10):
        producer.send("py", b"value", partition=0).get(30)
    producer.close()
    check("the first that is kept", admin.delete_records({first: 4})[first]["low_watermark"], 4)
    consumer = KafkaConsumer(bootstrap_servers=server, group_id=None)
    check("where the partition begins", consumer.beginning_offsets([first]), {first: 4})
    check("emptied", admin.delete_records({first: -1})[first]["low_watermark"], 10)
    check("where the partition begins", consumer.beginning_offsets([first]), {first: 10})
    consumer.close()
    refused("an offset that is not there", OffsetOutOfRangeError, lambda: admin.delete_records({first: 11}))
    refused("records of nothing", UnknownTopicOrPartitionError, lambda: admin.delete_records({TopicPartition("nowhere", 0): 0}))

    [told] = admin.describe_log_dirs()
    [folder] = told["log_dirs"]
    check("whose folder", (told["broker"], folder["error_code"]), (1, 0))
    check("what lies there", [(topic["name"], len(topic["partitions"])) for topic in folder["topics"]], [("py", 3)])
    check("how large it is", 0 < folder["usable_bytes"] < folder["total_bytes"], True)
    election = admin.elect_leaders(PREFERRED, {"py": [0]}).replica_election_results[0]
    check("an election", election.partition_result[0].error_code, ElectionNotNeededError.errno)
    refused("an election of nothing", UnknownTopicOrPartitionError, lambda: admin.elect_leaders(PREFERRED, {"nowhere": [0]}))
    check("moves", admin.list_partition_reassignments(), {})
    moves = {first: [1], TopicPartition("py", 1): [7], TopicPartition("py", 2): None}
    expected = [None, InvalidReplicationAssignmentError, NoReassignmentInProgressError]
    check("moves", list(admin.alter_partition_reassignments(moves).values()), expected)
    admin.close()


def confluent_kafka(server):
    from confluent_kafka import OFFSET_END, ElectionType, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ConfigSource,
        NewPartitions,
        NewTopic,
        OffsetSpec,
        ResourceType,
    )

    admin = AdminClient({"bootstrap.servers": server})
    topic = lambda **how: ConfigResource(ResourceType.TOPIC, "c", **how)

    def done(futures):
        return [future.result(30) for future in futures.values()][0]

    def told_error(what, futures, code):
        error = refused(what, KafkaException, lambda: done(futures)).args[0]
        check(what, error.code(), code)
        return error.str()

    def own():
        entries = done(admin.describe_configs([topic()])).values()
        return {entry.name: entry.value for entry in entries if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value}

    def change(name, value, operation=AlterConfigOpType.SET):
        return topic(incremental_configs=[ConfigEntry(name, value, incremental_operation=operation)])

    done(admin.create_topics([NewTopic("c", 1, 1, config={"min.insync.replicas": "1"})]))
    check("what the topic sets", own(), {"min.insync.replicas": "1"})
    entries = done(admin.describe_configs([topic()]))
    check("the default", (entries["retention.ms"].value, entries["retention.ms"].is_default), ("604800000", True))
    check("its synonyms", list(entries["retention.ms"].synonyms), ["retention.ms"])
    broker = done(admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")]))
    check("what a broker has", (broker["broker.id"].value, broker["broker.id"].is_read_only), ("1", True))
    done(admin.incremental_alter_configs([change("retention.ms", "5")], validate_only=True))
    check("what the topic sets", own(), {"min.insync.replicas": "1"})
    done(admin.incremental_alter_configs([change("retention.ms", "5")]))
    done(admin.incremental_alter_configs([change("cleanup.policy", "compact", AlterConfigOpType.APPEND)]))
    check("what the topic sets", own(), {"cleanup.policy": "compact,delete", "min.insync.replicas": "1", "retention.ms": "5"})
    done(admin.incremental_alter_configs([change("cleanup.policy", None, AlterConfigOpType.DELETE)]))
    check("what the topic sets", own(), {"min.insync.replicas": "1", "retention.ms": "5"})
    done(admin.alter_configs([topic(set_config={"segment.ms": "6"})]))
    check("all that is set", own(), {"segment.ms": "6"})
    invalid = KafkaError.INVALID_CONFIG
    said = told_error("an unknown key", admin.incremental_alter_configs([change("retention.mss", "5")]), invalid)
    check("what was meant", "did you mean 'retention.ms'?" in said, True)
    told_error("a bad value", admin.incremental_alter_configs([change("retention.ms", "soon")]), invalid)
    told_error("a bad value, only checked", admin.alter_configs([topic(set_config={"retention.ms": "soon"})], validate_only=True), invalid)
    nowhere = ConfigResource(ResourceType.TOPIC, "nowhere")
    told_error("an unknown topic", admin.describe_configs([nowhere]), KafkaError.UNKNOWN_TOPIC_OR_PART)
    check("all that is set", own(), {"segment.ms": "6"})

    partitions = lambda: len(admin.list_topics("c", timeout=30).topics["c"].partitions)
    done(admin.create_partitions([NewPartitions("c", 3)], validate_only=True))
    check("partitions, only checked", partitions(), 1)
    done(admin.create_partitions([NewPartitions("c", 3)]))
    check("partitions", partitions(), 3)
    told_error("fewer partitions", admin.create_partitions([NewPartitions("c", 2)]), KafkaError.INVALID_PARTITIONS)
    told_error("partitions of nothing", admin.create_partitions([NewPartitions("nowhere", 2)]), KafkaError.UNKNOWN_TOPIC_OR_PART)
    chosen = NewPartitions("c", 4, replica_assignment=[[1]])
    told_error("brokers of one's own choice", admin.create_partitions([chosen]), KafkaError.INVALID_REPLICA_ASSIGNMENT)

    producer = Producer({"bootstrap.servers": server})
    for _ in range(10):
        producer.produce("c", b"value", partition=0)
    check("records left", producer.flush(30), 0)
    place = lambda offset, partition=0: TopicPartition("c", partition, offset)
    check("the first that is kept", done(admin.delete_records([place(4)])).low_watermark, 4)
    begins = done(admin.list_offsets({place(0): OffsetSpec.earliest()}))
    check("where the partition begins", begins.offset, 4)
    check("emptied", done(admin.delete_records([place(OFFSET_END)])).low_watermark, 10)
    told_error("an offset that is not there", admin.delete_records([place(11)]), KafkaError.OFFSET_OUT_OF_RANGE)

    elected = admin.elect_leaders(ElectionType.PREFERRED, [place(0), place(0, 7)]).result(30)
    codes = {place.partition: error.code() for place, error in elected.items()}
    check("elections", codes, {0: KafkaError.ELECTION_NOT_NEEDED, 7: KafkaError.UNKNOWN_TOPIC_OR_PART})
    check("elections everywhere", admin.elect_leaders(ElectionType.PREFERRED).result(30), {})
    error = refused("unclean elections everywhere", KafkaException, lambda: admin.elect_leaders(ElectionType.UNCLEAN).result(30))
    check("unclean elections everywhere", error.args[0].code(), KafkaError.INVALID_REQUEST)


async def aiokafka(server):
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.errors import InvalidPartitionsError

    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.create_topics([NewTopic("aio", 1, 1)])
    topic = lambda **how: ConfigResource(ConfigResourceType.TOPIC, "aio", **how)

    async def value(key):
        [told] = await admin.describe_configs([topic(configs={key: None})])
        [(error, sentence, _, name, entries)] = [resource[:5] for resource in told.resources]
        check("the topic", (error, sentence, name, len(entries)), (0, None, "aio", 1))
        return entries[0][1]

    async def alter(configs):
        [told] = await admin.alter_configs([topic(configs=configs)])
        return told.resources[0][0]

    check("the default", await value("retention.ms"), "604800000")
    check("set", await alter({"retention.ms": "5"}), 0)
    check("the value", await value("retention.ms"), "5")
    check("a bad value", await alter({"retention.ms": "soon"}), 40)
    check("the value", await value("retention.ms"), "5")
    await admin.create_partitions({"aio": NewPartitions(2)})
    [told] = await admin.describe_topics(["aio"])
    check("partitions", len(told["partitions"]), 2)
    try:
        await admin.create_partitions({"aio": NewPartitions(1)})
        sys.exit("fewer partitions were not refused")
    except InvalidPartitionsError:
        pass
    first = TopicPartition("aio", 0)
    check("the first that is kept", await admin.delete_records({first: RecordsToDelete(-1)}), {first: 0})
    await admin.close()


client, server = sys.argv[1:]
if client == "aiokafka":
    asyncio.run(aiokafka(server))
else:
    {"kafka-python": kafka_python, "confluent-kafka": confluent_kafka}[client](server)
