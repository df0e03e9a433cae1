//! What the rest of the engine knows of a table without opening it. Stored in the manifest and in the table's properties.
//!
//! ```text
//! | body length varint | body:
//!   table id, file bytes, tail offset, entry count, tombstone count, sequence min, sequence max,
//!   raw key bytes, raw value bytes: varint each
//!   smallest, largest: varint length and bytes each
//!   applied: varint (0 in tables from before it was there)
//!   of a table that was ingested, in the manifest alone: made as, sequence: varint each
//!   (later versions append; what follows is skipped) |
//! ```

use crate::base::coding::{put_prefixed, put_varint, take_prefixed, take_varint};
use crate::base::key::{SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::NUMBER_MAX;
use crate::format::footer::TABLE_BYTES_MAX;

/// Identity, size, range and counts of a table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TableInfo {
    /// File number of the table; the context of every checksum in it, unless it was ingested.
    pub table_id: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Where filter, index, properties and footer begin: opening reads from here to the end.
    pub tail_offset: u64,
    /// Smallest user key.
    pub smallest: Vec<u8>,
    /// Largest user key.
    pub largest: Vec<u8>,
    /// Entries, tombstones included.
    pub entry_count: u64,
    /// Tombstones.
    pub tombstone_count: u64,
    /// Smallest sequence number.
    pub sequence_min: u64,
    /// Largest sequence number.
    pub sequence_max: u64,
    /// Bytes of all user keys, one per entry, uncompressed.
    pub raw_key_bytes: u64,
    /// Bytes of all values, uncompressed.
    pub raw_value_bytes: u64,
    /// Every range delete of the keyspace up to this sequence number has been applied: no entry here is older and covered.
    pub applied: u64,
    /// Set for a table that came in from outside: its file says nothing of this database.
    pub ingested: Option<Ingested>,
}

/// How a table that was made outside of the database is read. Only the manifest knows it: the file is as it was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ingested {
    /// The number that it was made under: the context of every checksum in it.
    pub made_as: u64,
    /// The sequence number of all its entries, which have 0 in the file.
    pub sequence: SequenceNumber,
}

impl TableInfo {
    /// What every checksum in the file was made with.
    #[inline]
    pub fn checksum_context(&self) -> u64 {
        self.ingested.map_or(self.table_id, |ingested| ingested.made_as)
    }

    /// What a file that says `self` of itself is as table `table_id` of a database, all of it written at `sequence`.
    pub fn ingested_as(self, table_id: u64, sequence: SequenceNumber) -> TableInfo {
        TableInfo {
            table_id,
            sequence_min: sequence,
            sequence_max: sequence,
            applied: sequence.saturating_sub(1),
            ingested: Some(Ingested { made_as: self.table_id, sequence }),
            ..self
        }
    }

    /// This table, ingested, with another sequence number for all its entries.
    pub fn written_at(self, sequence: SequenceNumber) -> TableInfo {
        let ingested = self.ingested.map(|ingested| Ingested { sequence, ..ingested });
        // Not the number itself: expiry would take a table that says so for done.
        let applied = sequence.saturating_sub(1);
        let (sequence_min, sequence_max) = (sequence, sequence);
        TableInfo { sequence_min, sequence_max, applied, ingested, ..self }
    }

    /// Appends its encoding, which knows its own length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(64 + self.smallest.len() + self.largest.len());
        for number in [
            self.table_id,
            self.file_bytes,
            self.tail_offset,
            self.entry_count,
            self.tombstone_count,
            self.sequence_min,
            self.sequence_max,
            self.raw_key_bytes,
            self.raw_value_bytes,
        ] {
            put_varint(&mut body, number);
        }
        put_prefixed(&mut body, &self.smallest);
        put_prefixed(&mut body, &self.largest);
        put_varint(&mut body, self.applied);
        if let Some(Ingested { made_as, sequence }) = self.ingested {
            put_varint(&mut body, made_as);
            put_varint(&mut body, sequence);
        }
        put_prefixed(out, &body);
    }

    /// Takes one from the front of `input`; `None` where the bytes are not one.
    pub fn decode(input: &mut &[u8]) -> Option<TableInfo> {
        let body = &mut take_prefixed(input)?;
        let mut info = TableInfo {
            table_id: take_varint(body)?,
            file_bytes: take_varint(body)?,
            tail_offset: take_varint(body)?,
            entry_count: take_varint(body)?,
            tombstone_count: take_varint(body)?,
            sequence_min: take_varint(body)?,
            sequence_max: take_varint(body)?,
            raw_key_bytes: take_varint(body)?,
            raw_value_bytes: take_varint(body)?,
            smallest: take_prefixed(body)?.to_vec(),
            largest: take_prefixed(body)?.to_vec(),
            applied: if body.is_empty() { 0 } else { take_varint(body)? },
            ingested: None,
        };
        if !body.is_empty() {
            let (made_as, sequence) = (take_varint(body)?, take_varint(body)?);
            info.ingested = Some(Ingested { made_as, sequence });
        }
        let one_number = |ingested: Ingested| {
            ingested.made_as <= NUMBER_MAX
                && (info.sequence_min, info.sequence_max) == (ingested.sequence, ingested.sequence)
        };
        let counts = [info.table_id, info.entry_count, info.raw_key_bytes, info.raw_value_bytes];
        let sane = counts.iter().all(|&count| count <= NUMBER_MAX)
            && info.file_bytes <= TABLE_BYTES_MAX
            && info.sequence_max <= SEQUENCE_MAX
            && info.applied <= SEQUENCE_MAX
            && info.tail_offset <= info.file_bytes
            && info.smallest <= info.largest
            && info.sequence_min <= info.sequence_max
            && info.tombstone_count <= info.entry_count
            && info.ingested.is_none_or(one_number);
        sane.then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_comes_back_and_a_cut_one_is_refused() {
        let info = TableInfo {
            table_id: 12,
            file_bytes: 1 << 31,
            tail_offset: 1 << 20,
            smallest: b"a".to_vec(),
            largest: vec![b'z'; 300],
            entry_count: 1000,
            tombstone_count: 10,
            sequence_min: 5,
            sequence_max: 1 << 50,
            raw_key_bytes: 16_000,
            raw_value_bytes: 100_000,
            applied: 1 << 49,
            ingested: None,
        };
        let ingested = info.clone().ingested_as(13, 1 << 50);
        assert_eq!((info.checksum_context(), ingested.checksum_context()), (12, 12));
        let mut bytes = Vec::new();
        ingested.encode(&mut bytes);
        assert_eq!(TableInfo::decode(&mut &bytes[..]), Some(ingested));
        let mut bytes = Vec::new();
        info.encode(&mut bytes);
        info.encode(&mut bytes);
        let mut input = &bytes[..];
        assert_eq!(TableInfo::decode(&mut input), Some(info.clone()));
        assert_eq!(TableInfo::decode(&mut input), Some(info));
        assert!(input.is_empty());
        for cut in 0..bytes.len() / 2 {
            assert_eq!(TableInfo::decode(&mut &bytes[..cut]), None);
        }
    }
}
