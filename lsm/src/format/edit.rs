//! A version edit: one atomic change of the set of files, as a record of the manifest.
//!
//! ```text
//! edit  = item*
//! item  = tag:varint  length:varint  body
//! tag 1 next file number      varint
//! tag 2 last sequence number  varint
//! tag 3 log start             epoch:varint lsn:varint
//! tag 4 keyspace made         id:varint name:prefixed options:keyspace options
//! tag 5 table added           keyspace:varint level:u8 table info
//! tag 6 table removed         keyspace:varint level:u8 number:varint
//! tag 7 log promised          lsn:varint, below which the log was durable when the edit was written
//! tag 8 range deleted         keyspace:varint sequence:varint start:prefixed end:prefixed (empty: no end)
//! tag 9 time mark             milliseconds since 1970:varint sequence:varint: what was written by then has no larger number
//! tag 10 range forgotten      as tag 8; range deletes of these keys up to this number are no more
//! tag 12 keyspace dropped     id:varint: nothing of it is left, and its number is never given out again
//! tag 13 changes kept         sequence:varint: change files that begin up to this number count
//! tag 11 guard keys           keyspace:varint key:prefixed ...: all of them, ascending, in the place of those before
//! ```
//! Items carry their length so that a tool can show what it does not know; the engine refuses unknown tags, because an
//! item that is skipped is a file that is lost.

use crate::base::coding::{
    put_prefixed, put_varint, take_bytes, take_prefixed, take_varint, take_varint32,
};
use crate::base::guard_keys::GuardKeys;
use crate::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{KEYSPACE_NAME_BYTES_MAX, LEVEL_COUNT, NUMBER_MAX};
use crate::base::options::{Compression, FilterPolicy, KeyspaceOptions};
use crate::base::range_deletes::RangeDelete;
use crate::format::batch::BOUND_BYTES_MAX;
use crate::format::log::LSN_MAX;
use crate::format::table_info::TableInfo;
use std::time::Duration;

/// A keyspace as the manifest knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyspaceRecord {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: KeyspaceOptions,
}

/// Where the part of the log begins that is not in tables.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogMark {
    /// Epoch of the log.
    pub epoch: u64,
    /// First byte that matters.
    pub lsn: u64,
}

/// One atomic change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VersionEdit {
    /// File numbers from here on are free.
    pub next_file: Option<u64>,
    /// Largest sequence number that a table may hold.
    pub last_sequence: Option<u64>,
    /// Start of the log.
    pub log: Option<LogMark>,
    /// The log was durable up to here: it must not end before.
    pub promised: Option<u64>,
    /// Keyspaces made.
    pub keyspaces: Vec<KeyspaceRecord>,
    /// Tables added: keyspace, level, table.
    pub added: Vec<(KeyspaceId, u8, TableInfo)>,
    /// Tables removed: keyspace, level, number.
    pub removed: Vec<(KeyspaceId, u8, FileNumber)>,
    /// Range deletes that left the log.
    pub range_deletes: Vec<(KeyspaceId, RangeDelete)>,
    /// Range deletes up to the number of each, of the keys of each, that nothing needs any more. They go before `range_deletes`.
    pub range_forgets: Vec<(KeyspaceId, RangeDelete)>,
    /// What had been written by then.
    pub time_marks: Vec<TimeMark>,
    /// Change files that begin up to here count.
    pub changes: Option<SequenceNumber>,
    /// Keyspaces dropped. They go after `keyspaces`, before all else.
    pub dropped: Vec<KeyspaceId>,
    /// Where the tables of a keyspace are cut from now on.
    pub guards: Vec<(KeyspaceId, GuardKeys)>,
}

/// Everything that was written before a moment has a sequence number up to this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeMark {
    /// Milliseconds since 1970.
    pub millis: u64,
    /// The sequence number.
    pub sequence: SequenceNumber,
}

const TAG_NEXT_FILE: u64 = 1;
const TAG_LAST_SEQUENCE: u64 = 2;
const TAG_LOG: u64 = 3;
const TAG_KEYSPACE: u64 = 4;
const TAG_ADDED: u64 = 5;
const TAG_REMOVED: u64 = 6;
const TAG_PROMISED: u64 = 7;
const TAG_RANGE_DELETE: u64 = 8;
const TAG_TIME_MARK: u64 = 9;
const TAG_RANGE_FORGET: u64 = 10;
const TAG_GUARDS: u64 = 11;
const TAG_DROPPED: u64 = 12;
const TAG_CHANGES: u64 = 13;

impl VersionEdit {
    /// Appends the encoded edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let mut item = |tag: u64, write: &dyn Fn(&mut Vec<u8>)| {
            body.clear();
            write(&mut body);
            put_varint(out, tag);
            put_prefixed(out, &body);
        };
        if let Some(next) = self.next_file {
            item(TAG_NEXT_FILE, &|out| put_varint(out, next));
        }
        if let Some(sequence) = self.last_sequence {
            item(TAG_LAST_SEQUENCE, &|out| put_varint(out, sequence));
        }
        if let Some(log) = self.log {
            item(TAG_LOG, &|out| {
                put_varint(out, log.epoch);
                put_varint(out, log.lsn);
            });
        }
        if let Some(promised) = self.promised {
            item(TAG_PROMISED, &|out| put_varint(out, promised));
        }
        if let Some(changes) = self.changes {
            item(TAG_CHANGES, &|out| put_varint(out, changes));
        }
        for keyspace in &self.keyspaces {
            item(TAG_KEYSPACE, &|out| {
                put_varint(out, u64::from(keyspace.id.0));
                put_prefixed(out, keyspace.name.as_bytes());
                encode_options(&keyspace.options, out);
            });
        }
        for keyspace in &self.dropped {
            item(TAG_DROPPED, &|out| put_varint(out, u64::from(keyspace.0)));
        }
        for (keyspace, level, info) in &self.added {
            item(TAG_ADDED, &|out| {
                put_varint(out, u64::from(keyspace.0));
                out.push(*level);
                info.encode(out);
            });
        }
        for (keyspace, guards) in &self.guards {
            item(TAG_GUARDS, &|out| {
                put_varint(out, u64::from(keyspace.0));
                guards.keys().iter().for_each(|key| put_prefixed(out, key));
            });
        }
        for mark in &self.time_marks {
            item(TAG_TIME_MARK, &|out| {
                put_varint(out, mark.millis);
                put_varint(out, mark.sequence);
            });
        }
        let forgets = self.range_forgets.iter().map(|range| (TAG_RANGE_FORGET, range));
        let deletes = self.range_deletes.iter().map(|range| (TAG_RANGE_DELETE, range));
        for (tag, (keyspace, range)) in forgets.chain(deletes) {
            item(tag, &|out| {
                put_varint(out, u64::from(keyspace.0));
                put_varint(out, range.sequence);
                put_prefixed(out, &range.start);
                put_prefixed(out, &range.end);
            });
        }
        for (keyspace, level, number) in &self.removed {
            item(TAG_REMOVED, &|out| {
                put_varint(out, u64::from(keyspace.0));
                out.push(*level);
                put_varint(out, number.0);
            });
        }
    }

    /// Decodes an edit; the error says what is wrong with it.
    pub fn decode(mut input: &[u8]) -> Result<VersionEdit, String> {
        let mut edit = VersionEdit::default();
        while !input.is_empty() {
            let tag = take_varint(&mut input).ok_or("edit ends inside a tag")?;
            let body = take_prefixed(&mut input).ok_or("edit ends inside an item")?;
            edit.decode_item(tag, body)
                .ok_or_else(|| format!("item with tag {tag} is malformed or unknown"))?;
        }
        Ok(edit)
    }

    fn decode_item(&mut self, tag: u64, mut body: &[u8]) -> Option<()> {
        let input = &mut body;
        match tag {
            TAG_NEXT_FILE => self.next_file = Some(take_up_to(input, NUMBER_MAX)?),
            TAG_LAST_SEQUENCE => self.last_sequence = Some(take_up_to(input, SEQUENCE_MAX)?),
            TAG_LOG => {
                let epoch = take_up_to(input, NUMBER_MAX)?;
                self.log = Some(LogMark { epoch, lsn: take_up_to(input, LSN_MAX)? });
            }
            TAG_PROMISED => self.promised = Some(take_up_to(input, LSN_MAX)?),
            TAG_KEYSPACE => {
                let id = KeyspaceId(take_varint32(input)?);
                let name = String::from_utf8(take_prefixed(input)?.to_vec()).ok()?;
                if name.len() > KEYSPACE_NAME_BYTES_MAX {
                    return None;
                }
                self.keyspaces.push(KeyspaceRecord { id, name, options: decode_options(input)? });
            }
            TAG_ADDED => {
                let keyspace = KeyspaceId(take_varint32(input)?);
                let level = take_level(input)?;
                self.added.push((keyspace, level, TableInfo::decode(input)?));
            }
            TAG_TIME_MARK => {
                let millis = take_varint(input)?;
                let sequence = take_up_to(input, SEQUENCE_MAX)?;
                self.time_marks.push(TimeMark { millis, sequence });
            }
            TAG_CHANGES => self.changes = Some(take_up_to(input, SEQUENCE_MAX)?),
            TAG_DROPPED => self.dropped.push(KeyspaceId(take_varint32(input)?)),
            TAG_GUARDS => {
                let keyspace = KeyspaceId(take_varint32(input)?);
                let mut keys: Vec<&[u8]> = Vec::new();
                while !input.is_empty() {
                    let key = take_prefixed(input)?;
                    if keys.last().is_some_and(|last| *last >= key) {
                        return None;
                    }
                    keys.push(key);
                }
                self.guards.push((keyspace, GuardKeys::new(keys).ok()?));
            }
            TAG_RANGE_DELETE | TAG_RANGE_FORGET => {
                let keyspace = KeyspaceId(take_varint32(input)?);
                let sequence = take_up_to(input, SEQUENCE_MAX)?;
                let start = take_prefixed(input)?.to_vec();
                let end = take_prefixed(input)?.to_vec();
                let is_long = start.len().max(end.len()) > BOUND_BYTES_MAX;
                let is_empty = start.is_empty() || (!end.is_empty() && start >= end);
                if is_long || is_empty || sequence == 0 {
                    return None;
                }
                let range = (keyspace, RangeDelete { start, end, sequence });
                match tag {
                    TAG_RANGE_FORGET => self.range_forgets.push(range),
                    _ => self.range_deletes.push(range),
                }
            }
            TAG_REMOVED => {
                let keyspace = KeyspaceId(take_varint32(input)?);
                let level = take_level(input)?;
                self.removed.push((keyspace, level, FileNumber(take_varint(input)?)));
            }
            _ => return None,
        }
        input.is_empty().then_some(())
    }
}

/// A number that later sums may not overflow with.
fn take_up_to(input: &mut &[u8], max: u64) -> Option<u64> {
    take_varint(input).filter(|&number| number <= max)
}

fn take_level(input: &mut &[u8]) -> Option<u8> {
    let level = take_bytes(input, 1)?[0];
    (usize::from(level) < LEVEL_COUNT).then_some(level)
}

fn encode_options(options: &KeyspaceOptions, out: &mut Vec<u8>) {
    put_varint(out, u64::from(options.block_bytes));
    out.extend(options.compression.iter().map(|compression| *compression as u8));
    let (policy, bits) = match options.filter {
        FilterPolicy::None => (0, 0),
        FilterPolicy::Blocked { bits } => (1, bits),
        FilterPolicy::Standard { bits } => (2, bits),
    };
    out.extend([policy, bits]);
    put_varint(out, options.table_bytes);
    put_varint(out, options.level_base_bytes);
    put_varint(out, u64::from(options.level_fanout));
    put_varint(out, u64::from(options.level0_tables));
    // From here on fields may be missing at the end.
    let fields = match options {
        KeyspaceOptions { prefix_bytes: Some(_), .. } => 3,
        KeyspaceOptions { ttl: Some(_), .. } => 2,
        KeyspaceOptions { merge_operator: Some(_), .. } => 1,
        _ => 0,
    };
    if fields >= 1 {
        put_prefixed(out, options.merge_operator.as_deref().unwrap_or_default().as_bytes());
    }
    if fields >= 2 {
        put_varint(out, options.ttl.map_or(0, |ttl| ttl.as_millis() as u64));
    }
    if fields >= 3 {
        put_varint(out, u64::from(options.prefix_bytes.unwrap_or_default()));
    }
}

fn decode_options(input: &mut &[u8]) -> Option<KeyspaceOptions> {
    let mut options = KeyspaceOptions { block_bytes: take_varint32(input)?, ..Default::default() };
    for (slot, &byte) in options.compression.iter_mut().zip(take_bytes(input, LEVEL_COUNT)?) {
        *slot = match byte {
            0 => Compression::None,
            1 => Compression::Lz4,
            2 => Compression::Zstd,
            _ => return None,
        };
    }
    let filter = take_bytes(input, 2)?;
    options.filter = match filter[0] {
        0 => FilterPolicy::None,
        1 => FilterPolicy::Blocked { bits: filter[1] },
        2 => FilterPolicy::Standard { bits: filter[1] },
        _ => return None,
    };
    options.table_bytes = take_varint(input)?;
    options.level_base_bytes = take_varint(input)?;
    options.level_fanout = take_varint32(input)?;
    options.level0_tables = take_varint32(input)?;
    if !input.is_empty() {
        let name = String::from_utf8(take_prefixed(input)?.to_vec()).ok()?;
        options.merge_operator = Some(name).filter(|name| !name.is_empty());
    }
    if !input.is_empty() {
        // None, before another field.
        let millis = take_varint(input)?;
        options.ttl = (millis > 0).then(|| Duration::from_millis(millis));
    }
    if !input.is_empty() {
        options.prefix_bytes = Some(u16::try_from(take_varint(input)?).ok()?);
    }
    options.validate().ok()?;
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> VersionEdit {
        let info = TableInfo {
            table_id: 9,
            file_bytes: 4096,
            tail_offset: 2048,
            smallest: b"a".to_vec(),
            largest: b"z".to_vec(),
            entry_count: 3,
            tombstone_count: 1,
            sequence_min: 5,
            sequence_max: 7,
            raw_key_bytes: 3,
            raw_value_bytes: 30,
            applied: 6,
            ingested: None,
        };
        let range = |start: &[u8], end: &[u8], sequence| RangeDelete {
            start: start.to_vec(),
            end: end.to_vec(),
            sequence,
        };
        VersionEdit {
            next_file: Some(10),
            last_sequence: Some(7),
            log: Some(LogMark { epoch: 2, lsn: 65_536 }),
            promised: Some(70_000),
            keyspaces: vec![KeyspaceRecord {
                id: KeyspaceId(3),
                name: "users".into(),
                options: KeyspaceOptions {
                    filter: FilterPolicy::Standard { bits: 12 },
                    merge_operator: Some("counter".into()),
                    ttl: Some(Duration::from_secs(60)),
                    prefix_bytes: Some(4),
                    ..Default::default()
                },
            }],
            added: vec![
                (KeyspaceId(3), 1, info.clone()),
                (KeyspaceId(3), 2, info.ingested_as(8, 99)),
            ],
            removed: vec![(KeyspaceId(0), 6, FileNumber(4))],
            range_forgets: vec![(KeyspaceId(3), range(b"c", b"d", 76))],
            time_marks: vec![TimeMark { millis: 1 << 41, sequence: 5 }],
            changes: Some(70),
            dropped: vec![KeyspaceId(2)],
            guards: vec![(KeyspaceId(3), GuardKeys::new([&b"x"[..], b"c"]).unwrap())],
            range_deletes: vec![
                (KeyspaceId(3), range(b"a", b"bb", 77)),
                (KeyspaceId(0), range(b"m", b"", 78)),
            ],
        }
    }

    #[test]
    fn an_edit_comes_back_whole() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        assert_eq!(VersionEdit::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn a_cut_edit_never_decodes_to_something_longer_than_a_prefix() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        for length in 0..bytes.len() {
            if let Ok(edit) = VersionEdit::decode(&bytes[..length]) {
                assert_ne!(edit, sample());
            }
        }
        bytes.push(99);
        assert!(VersionEdit::decode(&bytes).is_err());
    }
}
