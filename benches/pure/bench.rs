//! How long the pure parts take for one batch of 1,000 records.

use benches::pure::{RECORDS, Work};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pure");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let mut work = Work::default();
    for (name, part) in Work::PARTS {
        group.bench_function(name, |bencher| bencher.iter(|| part(&mut work)));
    }
    group.finish();
}

criterion_group!(pure, parts);
criterion_main!(pure);
