//! Record batches: built record by record, read back without copying, validated as a broker does. Throughput counts the bytes of
//! the batch before compression.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidelog_protocol::records::{BatchBuilder, Compression, ProduceLimits, RawBatch, Scratch, validate_produce};

use crate::samples::{self, Shape};

pub fn all(criterion: &mut Criterion) {
    for (name, shape) in [("100 B", Shape::SMALL), ("1 KB", Shape::KILOBYTE)] {
        for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let raw_bytes = samples::batch(shape, Compression::None).len() as u64;
            let label = format!("{name} {codec}");
            build(criterion, &label, raw_bytes, shape, codec);
            read(criterion, &label, raw_bytes, shape, codec);
            validate(criterion, &label, raw_bytes, shape, codec);
        }
    }
}

fn build(criterion: &mut Criterion, label: &str, bytes: u64, shape: Shape, codec: Compression) {
    let mut group = criterion.benchmark_group("batch build");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function(label, |bencher| {
        let text = samples::text(shape.batch_bytes);
        let mut builder = BatchBuilder::new(shape.batch_bytes);
        bencher.iter(|| {
            samples::fill(&mut builder, black_box(&text), shape);
            let batch = builder.finish(codec).unwrap();
            // As the client does: the buffer of a batch that was sent is the next one's.
            if let Ok(buffer) = batch.try_into_mut() {
                builder.set_buffer(buffer);
            }
        });
    });
}

fn read(criterion: &mut Criterion, label: &str, bytes: u64, shape: Shape, codec: Compression) {
    let batch = samples::batch(shape, codec);
    let mut group = criterion.benchmark_group("batch read");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function(label, |bencher| {
        let mut scratch = Scratch::new();
        bencher.iter(|| {
            let batch = RawBatch::parse(black_box(&batch)).unwrap();
            batch.verify_crc().unwrap();
            let values =
                batch.records(&mut scratch).unwrap().map(|record| record.unwrap().value.map_or(0, <[u8]>::len));
            values.sum::<usize>()
        });
    });
}

fn validate(criterion: &mut Criterion, label: &str, bytes: u64, shape: Shape, codec: Compression) {
    let batch = samples::batch(shape, codec);
    let mut group = criterion.benchmark_group("batch validate");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function(label, |bencher| {
        bencher.iter(|| validate_produce(black_box(batch.clone()), ProduceLimits::default()).unwrap());
    });
}
