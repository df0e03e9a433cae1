//! The bytes of a write batch: what a WAL record carries and what is applied to the memtables.
//!
//! ```text
//! operation:  kind u8 │ keyspace varint │ key_len varint │ value_len varint (not Delete) │ key │ value
//! batch:      operation │ operation │ ...          (the count stands beside it, in the WAL record)
//! ```
//!
//! The value of a DeleteRange is the first key that stays; empty, if none does from the key on.
//!
//! All lengths of an operation come before its bytes, so that a single put is three slices (header on the stack, key,
//! value) and needs no copy before it reaches the WAL.
//!
//! Promises:
//! 1. What a [`BatchBuilder`] takes, a [`BatchReader`] gives back, in order.
//! 2. A builder never exceeds the limits of [`base::limits`](crate::base::limits); a refused push changes nothing.
//! 3. A reader of damaged bytes ends with a [`BatchDamage`]; it neither panics nor allocates.

use crate::base::coding::{VARINT32_BYTES_MAX, take_bytes, take_varint, take_varint32};
use crate::base::coding::{VARINT64_BYTES_MAX, write_varint};
use crate::base::error::{Error, Result};
use crate::base::key::{KeyspaceId, Kind};
use crate::base::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Longest header of an operation: kind, keyspace and two lengths, with room for `write_varint`'s ten bytes.
pub const OPERATION_HEADER_BYTES_MAX: usize = 1 + 2 * VARINT32_BYTES_MAX + VARINT64_BYTES_MAX;

/// Longest bound of a range delete: the longest key and the zero byte that makes it the one after.
pub const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// One operation of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Operation<'a> {
    /// What it does.
    pub kind: Kind,
    /// The keyspace that it changes.
    pub keyspace: KeyspaceId,
    /// The user key.
    pub key: &'a [u8],
    /// The value; empty for a delete, the end of a range delete.
    pub value: &'a [u8],
}

/// The encoded head of one operation, without key and value, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct OperationHeader {
    bytes: [u8; OPERATION_HEADER_BYTES_MAX],
    length: u8,
}

impl OperationHeader {
    /// Head of a put. The batch of one put is `header.bytes()`, key, value.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::ValueTooLarge`].
    #[inline]
    pub fn put(keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<OperationHeader> {
        OperationHeader::with_value(Kind::Put, keyspace, key, value)
    }

    #[inline]
    fn with_value(
        kind: Kind,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
    ) -> Result<OperationHeader> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::ValueTooLarge { length: value.len(), max: VALUE_BYTES_MAX });
        }
        let mut header = OperationHeader::start(kind, keyspace, key);
        header.varint(value.len() as u64);
        Ok(header)
    }

    /// Head of a merge. The batch of one merge is `header.bytes()`, key, operand.
    ///
    /// # Errors
    /// As [`OperationHeader::put`].
    #[inline]
    pub fn merge(keyspace: KeyspaceId, key: &[u8], operand: &[u8]) -> Result<OperationHeader> {
        OperationHeader::with_value(Kind::Merge, keyspace, key, operand)
    }

    /// Head of a delete. The batch of one delete is `header.bytes()`, key.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`].
    #[inline]
    pub fn delete(keyspace: KeyspaceId, key: &[u8]) -> Result<OperationHeader> {
        check_key(key)?;
        Ok(OperationHeader::start(Kind::Delete, keyspace, key))
    }

    /// Head of a range delete. Its batch is `header.bytes()`, start, end. The end is after the start, or empty: no end.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`]; a bound may have one byte more than a key, for "after this key" is a bound, too.
    pub fn delete_range(keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<OperationHeader> {
        debug_assert!(end.is_empty() || start < end);
        check_length(start, BOUND_BYTES_MAX)?;
        if !end.is_empty() {
            check_length(end, BOUND_BYTES_MAX)?;
        }
        let mut header = OperationHeader::start(Kind::DeleteRange, keyspace, start);
        header.varint(end.len() as u64);
        Ok(header)
    }

    /// The encoded bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    #[inline]
    fn start(kind: Kind, keyspace: KeyspaceId, key: &[u8]) -> OperationHeader {
        let mut header = OperationHeader { bytes: [0; OPERATION_HEADER_BYTES_MAX], length: 1 };
        header.bytes[0] = kind as u8;
        header.varint(u64::from(keyspace.0));
        header.varint(key.len() as u64);
        header
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        let start = usize::from(self.length);
        self.length += write_varint(&mut self.bytes[start..], value) as u8;
    }
}

#[inline]
fn check_key(key: &[u8]) -> Result<()> {
    check_length(key, KEY_BYTES_MAX)
}

#[inline]
fn check_length(key: &[u8], max: usize) -> Result<()> {
    if key.is_empty() || key.len() > max {
        return Err(Error::KeyTooLarge { length: key.len(), max: KEY_BYTES_MAX });
    }
    Ok(())
}

/// Collects operations.
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch; allocates nothing yet.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// Adds a put.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::ValueTooLarge`], [`Error::BatchTooLarge`]; the batch is as before then.
    pub fn push_put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        let header = OperationHeader::put(keyspace, key, value)?;
        self.push(&header, key, value)
    }

    /// Adds a merge.
    ///
    /// # Errors
    /// As [`BatchBuilder::push_put`].
    pub fn push_merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) -> Result<()> {
        let header = OperationHeader::merge(keyspace, key, operand)?;
        self.push(&header, key, operand)
    }

    /// Adds a delete.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::BatchTooLarge`]; the batch is as before then.
    pub fn push_delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        let header = OperationHeader::delete(keyspace, key)?;
        self.push(&header, key, &[])
    }

    /// Adds a range delete: keys from `start` to before `end`, without end if that is empty.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::BatchTooLarge`]; the batch is as before then.
    pub fn push_delete_range(
        &mut self,
        keyspace: KeyspaceId,
        start: &[u8],
        end: &[u8],
    ) -> Result<()> {
        let header = OperationHeader::delete_range(keyspace, start, end)?;
        self.push(&header, start, end)
    }

    /// Forgets all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Number of operations.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// True without operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded operations.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the operations back.
    pub fn reader(&self) -> BatchReader<'_> {
        BatchReader::new(&self.bytes, self.count)
    }

    // The count cannot overflow: an operation has at least four bytes and a batch less than 2^31.
    fn push(&mut self, header: &OperationHeader, key: &[u8], value: &[u8]) -> Result<()> {
        let length = self.bytes.len() + header.bytes().len() + key.len() + value.len();
        if length > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { length, max: BATCH_BYTES_MAX });
        }
        self.bytes.extend_from_slice(header.bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.count += 1;
        Ok(())
    }
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchDamage {
    /// Offset in the batch of the operation that does not decode.
    pub offset: usize,
    /// What is wrong with it.
    pub detail: &'static str,
}

/// Iterates over the operations of encoded bytes; ends after the first damage.
#[derive(Clone, Debug)]
pub struct BatchReader<'a> {
    rest: &'a [u8],
    length: usize,
    left: u32,
}

impl<'a> BatchReader<'a> {
    /// A reader of `bytes`, which must hold exactly `count` operations.
    pub fn new(bytes: &'a [u8], count: u32) -> BatchReader<'a> {
        BatchReader { rest: bytes, length: bytes.len(), left: count }
    }

    /// Operations not yet read.
    pub fn left(&self) -> u32 {
        self.left
    }

    fn decode(&mut self) -> std::result::Result<Operation<'a>, &'static str> {
        let input = &mut self.rest;
        let kind = take_bytes(input, 1).ok_or("fewer operations than counted")?[0];
        let kind = Kind::from_u8(kind).ok_or("unknown kind of operation")?;
        let keyspace = take_varint32(input).ok_or("keyspace id cut or above 32 bits")?;
        let key_bytes = take_varint(input).ok_or("key length cut")?;
        let value_bytes = match kind {
            Kind::Put | Kind::Merge | Kind::DeleteRange => {
                take_varint(input).ok_or("value length cut")?
            }
            Kind::Delete => 0,
        };
        let (key_max, value_max) = match kind {
            Kind::DeleteRange => (BOUND_BYTES_MAX, BOUND_BYTES_MAX),
            _ => (KEY_BYTES_MAX, VALUE_BYTES_MAX),
        };
        if key_bytes == 0 || key_bytes > key_max as u64 {
            return Err("key length out of range");
        }
        if value_bytes > value_max as u64 {
            return Err("value length out of range");
        }
        let key = take_bytes(input, key_bytes as usize).ok_or("key longer than the batch")?;
        let value = take_bytes(input, value_bytes as usize).ok_or("value longer than the batch")?;
        if kind == Kind::DeleteRange && !value.is_empty() && key >= value {
            return Err("a range ends before it begins");
        }
        Ok(Operation { kind, keyspace: KeyspaceId(keyspace), key, value })
    }
}

impl<'a> Iterator for BatchReader<'a> {
    type Item = std::result::Result<Operation<'a>, BatchDamage>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.length - self.rest.len();
        let result = if self.left > 0 {
            self.decode()
        } else if self.rest.is_empty() {
            return None;
        } else {
            Err("bytes after the last operation")
        };
        match result {
            Ok(operation) => {
                self.left -= 1;
                Some(Ok(operation))
            }
            Err(detail) => {
                (self.rest, self.length, self.left) = (&[], 0, 0);
                Some(Err(BatchDamage { offset, detail }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    type Owned = (Kind, u32, Vec<u8>, Vec<u8>);

    fn sample(random: &mut Random, count: u32) -> (BatchBuilder, Vec<Owned>) {
        let mut builder = BatchBuilder::new();
        let mut expected = Vec::new();
        for _ in 0..count {
            let keyspace = random.next_u64() as u32 >> random.below(32);
            let key = vec![random.next_u64() as u8; 1 + random.below(300) as usize];
            let value = vec![random.next_u64() as u8; random.below(300) as usize];
            if random.one_in(4) {
                let end = if random.one_in(2) { vec![] } else { [&key[..], &value].concat() };
                let end = if end == key { vec![] } else { end };
                builder.push_delete_range(KeyspaceId(keyspace), &key, &end).unwrap();
                expected.push((Kind::DeleteRange, keyspace, key, end));
            } else if random.one_in(4) {
                builder.push_merge(KeyspaceId(keyspace), &key, &value).unwrap();
                expected.push((Kind::Merge, keyspace, key, value));
            } else if random.one_in(3) {
                builder.push_delete(KeyspaceId(keyspace), &key).unwrap();
                expected.push((Kind::Delete, keyspace, key, Vec::new()));
            } else {
                builder.push_put(KeyspaceId(keyspace), &key, &value).unwrap();
                expected.push((Kind::Put, keyspace, key, value));
            }
        }
        (builder, expected)
    }

    #[test]
    fn a_batch_comes_back_in_order() {
        let mut random = Random::new(1);
        for count in 0..50 {
            let (builder, expected) = sample(&mut random, count);
            assert_eq!(builder.len(), count);
            let found: Vec<Owned> = builder
                .reader()
                .map(|operation| operation.unwrap())
                .map(|o| (o.kind, o.keyspace.0, o.key.to_vec(), o.value.to_vec()))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_single_put_on_the_stack_equals_a_batch_of_one() {
        let (key, value) = (b"key".as_slice(), vec![7; 200]);
        let header = OperationHeader::put(KeyspaceId(u32::MAX), key, &value).unwrap();
        let mut builder = BatchBuilder::new();
        builder.push_put(KeyspaceId(u32::MAX), key, &value).unwrap();
        assert_eq!([header.bytes(), key, &value].concat(), builder.bytes());
    }

    #[test]
    fn damage_is_refused_and_never_panics() {
        let mut random = Random::new(2);
        let (builder, _) = sample(&mut random, 20);
        let bytes = builder.bytes();
        let damaged = |bytes: &[u8], count| {
            BatchReader::new(bytes, count).any(|operation| operation.is_err())
        };
        assert!(!damaged(bytes, 20));
        for cut in 0..bytes.len() {
            assert!(damaged(&bytes[..cut], 20), "cut at {cut}");
        }
        assert!(damaged(bytes, 19) && damaged(bytes, 21) && damaged(bytes, 0));
        assert!(damaged(&[bytes, &[0]].concat(), 20));
        let mut seen = 0;
        for _ in 0..20_000 {
            let mut copy = bytes.to_vec();
            let at = random.below(copy.len() as u64) as usize;
            copy[at] ^= 1 << random.below(8);
            // A flip inside a key or value decodes; the WAL's checksum is what finds it.
            assert!(BatchReader::new(&copy, 20).count() <= 21);
            seen += u32::from(damaged(&copy, 20));
        }
        assert!(seen > 100, "{seen} damages seen");
    }

    #[test]
    fn a_refused_push_changes_nothing() {
        let mut builder = BatchBuilder::new();
        let id = KeyspaceId(0);
        builder.push_put(id, b"k", b"v").unwrap();
        let before = builder.bytes().to_vec();
        let long = vec![0; KEY_BYTES_MAX + 1];
        assert!(matches!(builder.push_put(id, b"", b""), Err(Error::KeyTooLarge { .. })));
        assert!(matches!(builder.push_delete(id, &long), Err(Error::KeyTooLarge { .. })));
        let long = vec![0; VALUE_BYTES_MAX + 1];
        assert!(matches!(builder.push_put(id, b"k", &long), Err(Error::ValueTooLarge { .. })));
        assert_eq!((builder.len(), builder.bytes()), (1, &before[..]));
        builder.push_put(id, &[1; KEY_BYTES_MAX], &long[1..]).unwrap();
    }
}
