import java.time.Duration;
import java.time.LocalTime;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApplicationRecoverableException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A pipeline that reads, processes and writes within transactions, or what reads its output. Its errors are met as the documentation of KafkaProducer
 * wants it: what outlives the producer makes a new one, anything else makes the transaction abort, and the records are read again.
 *
 * <p>Pipeline transform SERVERS GROUP TRANSACTIONAL-ID INPUT OUTPUT: until it is ended; says how many records each transaction brought.
 *
 * <p>Pipeline read SERVERS TOPIC: prints what is committed, key and value of each record, by partitions.
 */
public class Pipeline {
    /** So many transactions, and the next is undone at its end, for no reason: whoever reads has to leave something out. */
    private static final int UNDONE_EVERY = 8;

    private final String name;
    private final String servers;
    private final String output;
    private final KafkaConsumer<String, String> consumer;
    private KafkaProducer<String, String> producer;

    private Pipeline(String servers, String group, String name, String input, String output) {
        this.servers = servers;
        this.name = name;
        this.output = output;
        Properties settings = reading(servers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 50);
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6000);
        consumer = new KafkaConsumer<>(settings);
        consumer.subscribe(List.of(input));
        renew();
    }

    private static Properties reading(String servers) {
        Properties settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class);
        settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class);
        return settings;
    }

    private static void tell(String what) {
        System.err.println(LocalTime.now().withNano(0) + " " + what);
    }

    private void renew() {
        if (producer != null) {
            producer.close(Duration.ZERO);
        }
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, name);
        settings.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, StringSerializer.class);
        settings.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, StringSerializer.class);
        producer = new KafkaProducer<>(settings);
        producer.initTransactions();
    }

    private void transact(ConsumerRecords<String, String> records, boolean isUndone) {
        producer.beginTransaction();
        for (ConsumerRecord<String, String> record : records) {
            producer.send(new ProducerRecord<>(output, record.partition(), record.key(), record.value()));
        }
        producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
        if (isUndone) {
            // What is not written need not be undone.
            producer.flush();
            producer.abortTransaction();
            rewind();
            return;
        }
        while (true) {
            try {
                producer.commitTransaction();
                break;
            } catch (TimeoutException slow) {
                tell("commits again: " + slow);
            }
        }
        System.out.println("committed " + records.count());
    }

    /** Whether the producer that threw it can do nothing more. */
    private static boolean isFatal(KafkaException failure) {
        return failure instanceof ProducerFencedException
            || failure instanceof OutOfOrderSequenceException
            || failure instanceof ApplicationRecoverableException
            || failure.getCause() instanceof KafkaException cause && isFatal(cause);
    }

    /** Whether nothing helps but another program or another broker. */
    private static boolean isHopeless(KafkaException failure) {
        return failure instanceof AuthorizationException
            || failure instanceof UnsupportedVersionException
            || failure instanceof InvalidConfigurationException;
    }

    /** Whatever went wrong, nothing of the transaction is left, and there is a producer for the next. */
    private void overcome(KafkaException failure) {
        tell("fatal " + isFatal(failure) + ": " + failure + " by " + failure.getCause());
        if (isHopeless(failure)) {
            throw failure;
        }
        if (!isFatal(failure)) {
            try {
                producer.abortTransaction();
                return;
            } catch (KafkaException second) {
                tell("while it aborted: " + second + " by " + second.getCause());
            }
        }
        renew();
    }

    /** To where the group stopped. */
    private void rewind() {
        while (true) {
            try {
                Map<TopicPartition, OffsetAndMetadata> committed = new HashMap<>(consumer.committed(consumer.assignment()));
                for (TopicPartition partition : consumer.assignment()) {
                    OffsetAndMetadata place = committed.get(partition);
                    if (place == null) {
                        consumer.seekToBeginning(List.of(partition));
                    } else {
                        consumer.seek(partition, place);
                    }
                }
                return;
            } catch (TimeoutException slow) {
                tell("rewinding: " + slow);
            }
        }
    }

    private void run() {
        for (int tries = 1; ; ) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
            if (records.isEmpty()) {
                continue;
            }
            try {
                transact(records, tries++ % UNDONE_EVERY == 0);
            } catch (KafkaException failure) {
                overcome(failure);
                rewind();
            }
        }
    }

    private static void read(String servers, String topic) {
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(reading(servers))) {
            Collection<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(partition -> new TopicPartition(topic, partition.partition()))
                .collect(Collectors.toList());
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    System.out.println(record.key() + " " + record.value());
                }
            }
        }
    }

    public static void main(String[] arguments) {
        if (arguments[0].equals("transform")) {
            new Pipeline(arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]).run();
        } else {
            read(arguments[1], arguments[2]);
        }
    }
}
