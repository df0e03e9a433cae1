//! Ids and the order of entries.
//!
//! An entry is a user key, a *tag* (sequence number and kind) and a value. Entries sort by user key ascending
//! (bytewise), then by tag descending, so that the newest version of a key comes first.

/// Position of a write in the one order of all commits of a database. 56 bits are used.
pub type SequenceNumber = u64;

/// Largest sequence number; a read at it sees everything.
pub const SEQUENCE_MAX: SequenceNumber = (1 << 56) - 1;

/// Number of a file of the database; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileNumber(pub u64);

/// Number of a keyspace; never used twice. The default keyspace is 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyspaceId(pub u32);

/// What an entry says about its key. The discriminants are on disk.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Kind {
    /// The key is gone (a tombstone); the value is empty.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// All keys from this one to before the one in the value are gone. In batches only: memtables and manifest keep ranges by themselves.
    DeleteRange = 2,
    /// An operand for the value before it; see `base/merge.rs`.
    Merge = 3,
}

impl Kind {
    /// Decodes the kind of an operation; `None` for one that this release does not know.
    #[inline]
    pub fn from_u8(byte: u8) -> Option<Kind> {
        match byte {
            0 => Some(Kind::Delete),
            1 => Some(Kind::Put),
            2 => Some(Kind::DeleteRange),
            3 => Some(Kind::Merge),
            _ => None,
        }
    }

    /// As `from_u8`, of an entry of a block: there are no ranges among them.
    #[inline]
    pub fn of_entry(byte: u8) -> Option<Kind> {
        Kind::from_u8(byte).filter(|&kind| kind != Kind::DeleteRange)
    }
}

/// Sequence number and kind in one word: `sequence << 8 | kind`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(pub u64);

impl Tag {
    /// The largest tag: sorts before every version of a key.
    pub const MAX: Tag = Tag(u64::MAX);

    /// Packs a sequence number and a kind.
    #[inline]
    pub fn new(sequence: SequenceNumber, kind: Kind) -> Tag {
        debug_assert!(sequence <= SEQUENCE_MAX);
        Tag(sequence << 8 | kind as u64)
    }

    /// The tag at which a read at `sequence` starts: newest version not newer than `sequence`.
    #[inline]
    pub fn seek(sequence: SequenceNumber) -> Tag {
        Tag(sequence << 8 | 0xff)
    }

    /// The sequence number.
    #[inline]
    pub fn sequence(self) -> SequenceNumber {
        self.0 >> 8
    }

    /// The kind byte as stored.
    #[inline]
    pub fn kind_byte(self) -> u8 {
        self.0 as u8
    }

    /// The kind of an entry, so never that of a range. Tags are only made from known kinds (decoders refuse others), so an unknown
    /// byte reads as `Put`.
    #[inline]
    pub fn kind(self) -> Kind {
        const DELETE: u8 = Kind::Delete as u8;
        const MERGE: u8 = Kind::Merge as u8;
        match self.0 as u8 {
            DELETE => Kind::Delete,
            MERGE => Kind::Merge,
            _ => Kind::Put,
        }
    }
}

/// First eight bytes of `key` after `skip` bytes, big-endian, zero-padded: compares like the bytes themselves.
///
/// Equal heads say nothing; compare the keys then.
#[inline]
pub fn head(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or(&[]);
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

/// Length of the common prefix of two keys. Eight bytes a step: builders call it for every entry.
#[inline]
pub fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let length = left.len().min(right.len());
    let (left, right) = (&left[..length], &right[..length]);
    let mut done = 0;
    for (a, b) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        let (Some(a), Some(b)) = (a.first_chunk::<8>(), b.first_chunk::<8>()) else { break };
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return done + difference.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    done + left[done..].iter().zip(&right[done..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_order_as_keys_do() {
        let keys: [&[u8]; 6] = [b"", b"a", b"a\0", b"ab", b"abcdefgh", b"b"];
        for pair in keys.windows(2) {
            assert!(head(pair[0], 0) <= head(pair[1], 0));
        }
        assert_eq!(head(b"user0001", 4), u64::from_be_bytes(*b"0001\0\0\0\0"));
    }

    #[test]
    fn a_common_prefix_ends_at_the_first_difference() {
        let key = b"0123456789abcdefghijk";
        for cut in 0..=key.len() {
            assert_eq!(common_prefix(key, &key[..cut]), cut);
            let mut other = key.to_vec();
            if let Some(byte) = other.get_mut(cut) {
                *byte ^= 0x80;
            }
            assert_eq!(common_prefix(key, &other), cut);
            assert_eq!(common_prefix(&other, key), cut);
        }
    }
}
