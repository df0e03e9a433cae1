//! Is this value a slice of the value buffer? An index over the first eight bytes of every position answers it.

use crate::generate::value::ValueBuffer;
use std::collections::{HashMap, HashSet};

const HEAD_BYTES: usize = 8;

/// The index.
pub(super) struct Slices<'a> {
    text: &'a [u8],
    /// First bytes and position, sorted.
    heads: Vec<(u64, u32)>,
    /// All slices of a length below eight, made when first asked for.
    short: HashMap<usize, HashSet<&'a [u8]>>,
}

impl<'a> Slices<'a> {
    /// Indexes a buffer.
    pub(super) fn new(buffer: &'a ValueBuffer) -> Slices<'a> {
        let text = buffer.bytes();
        let heads = text.windows(HEAD_BYTES).enumerate();
        let mut heads: Vec<(u64, u32)> =
            heads.map(|(position, bytes)| (head(bytes), position as u32)).collect();
        heads.sort_unstable();
        Slices { text, heads, short: HashMap::new() }
    }

    /// True if `value` is a slice.
    pub(super) fn contains(&mut self, value: &[u8]) -> bool {
        if value.len() < HEAD_BYTES {
            let all = || self.text.windows(value.len().max(1)).collect();
            return value.is_empty()
                || self.short.entry(value.len()).or_insert_with(all).contains(value);
        }
        let wanted = head(value);
        let first = self.heads.partition_point(|(bytes, _)| *bytes < wanted);
        self.heads[first..]
            .iter()
            .take_while(|(bytes, _)| *bytes == wanted)
            .any(|(_, position)| self.text[*position as usize..].starts_with(value))
    }
}

fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; HEAD_BYTES];
    head.copy_from_slice(&bytes[..HEAD_BYTES]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::value::ValuePlace;

    #[test]
    fn a_value_with_one_wrong_byte_is_no_slice() {
        let buffer = ValueBuffer::new(0.5, 100);
        let mut slices = Slices::new(&buffer);
        for (position, length) in [(0, 100), (777, 3), (1_048_500, 100), (1234, 100_000), (5, 0)] {
            let mut value = buffer.at(ValuePlace { position, length }).to_vec();
            assert!(slices.contains(&value));
            if length >= 8 {
                value[length - 1] ^= 0x80;
                assert!(!slices.contains(&value));
            }
        }
        assert!(!slices.contains(b"\0\0\0"));
    }
}
