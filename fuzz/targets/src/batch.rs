//! The bytes of a batch, as a record of the log carries them.
//!
//! ```text
//! input:  count u8 │ operations
//! ```
//!
//! Promise: any bytes end with a damage that names its offset or become operations within the limits, which a builder takes and
//! gives back. Memory: none of the reader's own.

use crate::Target;
use crate::input::Input;
use treering_lsm::base::key::{KeyspaceId, Kind};
use treering_lsm::format::batch::{BatchBuilder, BatchReader};
use treering_lsm::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

pub(crate) const TARGET: Target = Target {
    name: "batch",
    promise: "any bytes end with a damage or become operations that a builder takes and gives back",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let count = input.u8();
    let bytes = input.rest();
    // All ones: a count that no bytes can hold.
    let count = if count == u8::MAX { u32::MAX } else { u32::from(count) };
    let mut operations = Vec::new();
    for item in BatchReader::new(bytes, count) {
        match item {
            Ok(operation) => operations.push(operation),
            Err(damage) => {
                assert!(damage.offset <= bytes.len() && !damage.detail.is_empty());
                return;
            }
        }
    }
    assert_eq!(operations.len(), count as usize);
    let mut builder = BatchBuilder::new();
    for operation in &operations {
        let bound = usize::from(operation.kind == Kind::DeleteRange);
        assert!((1..=KEY_BYTES_MAX + bound).contains(&operation.key.len()));
        assert!(operation.value.len() <= VALUE_BYTES_MAX);
        let pushed = match operation.kind {
            Kind::Put => builder.push_put(operation.keyspace, operation.key, operation.value),
            Kind::Delete => builder.push_delete(operation.keyspace, operation.key),
            Kind::Merge => builder.push_merge(operation.keyspace, operation.key, operation.value),
            Kind::DeleteRange => {
                builder.push_delete_range(operation.keyspace, operation.key, operation.value)
            }
        };
        pushed.expect("within the limits");
    }
    assert_eq!(builder.len(), count);
    assert!(builder.bytes().len() <= bytes.len());
    assert!(builder.reader().eq(operations.into_iter().map(Ok)));
}

fn seeds() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    let mut seeds = vec![vec![0], vec![255, 0]];
    for (i, length) in [1usize, 7, 200, 300].into_iter().enumerate() {
        let keyspace = KeyspaceId(1 << (i * 8));
        builder.push_put(keyspace, &vec![b'k'; length], &vec![b'v'; length - 1]).expect("short");
        builder.push_delete(keyspace, &vec![b'd'; length]).expect("short");
        builder.push_merge(keyspace, &vec![b'm'; length], &vec![b'v'; length - 1]).expect("short");
        let end = vec![b'd'; if i % 2 == 0 { 0 } else { length + 1 }];
        builder.push_delete_range(keyspace, &vec![b'd'; length], &end).expect("short");
        seeds.push([&[builder.len() as u8], builder.bytes()].concat());
    }
    seeds
}
