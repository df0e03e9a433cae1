//! FORMAT.md, "Conventions": integers, varints, checksums. Written from the document, with nothing of the engine.

/// CRC-32C over owner, offset and the parts.
pub fn crc(owner: u64, offset: u64, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32c::crc32c(&owner.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    parts.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Walks bytes from front to back; `end` asserts that none is left.
pub struct Walk<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub what: String,
}

impl<'a> Walk<'a> {
    pub fn new(what: impl Into<String>, bytes: &'a [u8]) -> Walk<'a> {
        Walk { bytes, at: 0, what: what.into() }
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let bytes = self.bytes.get(self.at..self.at + length);
        self.at += length;
        bytes.unwrap_or_else(|| {
            panic!("{}: {length} bytes before {} are not there", self.what, self.at)
        })
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    /// An unsigned number in `width` bytes.
    pub fn uint(&mut self, width: usize) -> u64 {
        self.take(width).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                assert!(shift == 0 || byte != 0, "{}: a varint longer than needed", self.what);
                return value;
            }
        }
        panic!("{}: a varint of more than ten bytes", self.what)
    }

    pub fn prefixed(&mut self) -> &'a [u8] {
        let length = self.varint() as usize;
        self.take(length)
    }

    pub fn zeros(&mut self, length: usize) {
        let from = self.at;
        let zero = self.take(length).iter().all(|&byte| byte == 0);
        assert!(zero, "{}: {length} bytes from {from} are not zero", self.what);
    }

    pub fn end(&self) {
        assert_eq!(self.at, self.bytes.len(), "{}: bytes are left", self.what);
    }
}

/// The first eight bytes after `skip`, zero-padded, as a big-endian number.
pub fn head(key: &[u8], skip: usize) -> u64 {
    let mut bytes = [0; 8];
    let rest = &key[skip.min(key.len())..];
    let length = rest.len().min(8);
    bytes[..length].copy_from_slice(&rest[..length]);
    u64::from_be_bytes(bytes)
}

pub fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}
