//! Keys: the number in big-endian bytes, filled up with the digit `0`.
//!
//! ```text
//! keys_per_prefix = 0:   | number, 8 bytes big-endian | '0' '0' ...      | key_size bytes
//! keys_per_prefix > 0:   | prefix number | '0' ...    | number | '0' ... | prefix_size, then the rest
//! ```
//! A field that is shorter than eight bytes holds the low bytes of its number.

/// The form of all keys of a benchmark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyFormat {
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of the prefix, 0 if there is none.
    pub prefix_size: usize,
    /// Keys that share a prefix, 0 if there is none.
    pub keys_per_prefix: u64,
    /// Keys of the whole database; decides the number of prefixes.
    pub num: u64,
}

impl KeyFormat {
    /// A buffer of the right length, to be filled by [`KeyFormat::write`].
    pub(crate) fn buffer(&self) -> Vec<u8> {
        vec![b'0'; self.key_size]
    }

    /// Writes the key of `number`.
    #[inline]
    pub(crate) fn write(&self, number: u64, key: &mut [u8]) {
        let start = if self.keys_per_prefix > 0 {
            self.write_prefix(number, key);
            self.prefix_size
        } else {
            0
        };
        let field = &mut key[start..];
        if field.len() >= 8 {
            field[..8].copy_from_slice(&number.to_be_bytes());
            field[8..].fill(b'0');
        } else {
            let length = field.len();
            field.copy_from_slice(&number.to_be_bytes()[8 - length..]);
        }
    }

    fn write_prefix(&self, number: u64, key: &mut [u8]) {
        let prefix = number % (self.num / self.keys_per_prefix).max(1);
        let length = self.prefix_size.min(8);
        key[..length].copy_from_slice(&prefix.to_be_bytes()[8 - length..]);
        key[length..self.prefix_size].fill(b'0');
    }

    /// A key in a prefix that no fill writes (`--seek_missing_prefix`): the padding of the prefix has a `1`.
    pub(crate) fn spoil_prefix(&self, key: &mut [u8]) {
        key[8] = b'1';
    }

    /// True if keys of different numbers below `num` differ, and a number can be read back from its key.
    pub(crate) fn is_invertible(&self) -> bool {
        let field = self.key_size - if self.keys_per_prefix > 0 { self.prefix_size } else { 0 };
        field >= 8 || self.num <= 1u64 << (8 * field)
    }

    /// The number whose key this is; `None` if it is no key of this form.
    pub(crate) fn number(&self, key: &[u8]) -> Option<u64> {
        if key.len() != self.key_size {
            return None;
        }
        let start = if self.keys_per_prefix > 0 { self.prefix_size } else { 0 };
        let field = &key[start..];
        let mut bytes = [0; 8];
        let length = field.len().min(8);
        bytes[8 - length..].copy_from_slice(&field[..length]);
        let number = u64::from_be_bytes(bytes);
        let mut expected = self.buffer();
        self.write(number, &mut expected);
        (expected == key && number < self.num).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_its_number_in_every_form() {
        for (key_size, prefix_size, keys_per_prefix) in
            [(16, 0, 0), (8, 0, 0), (4, 0, 0), (20, 4, 10), (32, 12, 100), (12, 8, 3)]
        {
            let format = KeyFormat { key_size, prefix_size, keys_per_prefix, num: 1000 };
            assert!(format.is_invertible());
            let mut key = format.buffer();
            for number in [0, 1, 255, 256, 999] {
                format.write(number, &mut key);
                assert_eq!(format.number(&key), Some(number), "{format:?}");
            }
            if key_size > prefix_size + 8 {
                key[key_size - 1] ^= 0x80;
                assert_eq!(format.number(&key), None, "{format:?}: wrong padding");
            }
        }
        let plain = KeyFormat { key_size: 16, prefix_size: 0, keys_per_prefix: 0, num: 1000 };
        let mut key = plain.buffer();
        plain.write(0x0102, &mut key);
        assert_eq!(key, *b"\0\0\0\0\0\0\x01\x0200000000");
        assert!(!KeyFormat { key_size: 1, num: 257, ..plain }.is_invertible());
    }
}
