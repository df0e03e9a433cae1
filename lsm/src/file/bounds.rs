//! What a scan will be asked to show, and what that says about tables.
//!
//! Where all keys between the bounds begin with the same bytes, a table whose filter holds prefixes of that length can deny all of them: then no
//! block of it is read. Measured (`cargo run --release -p treering-bench --example prefixes -- DIR 1600000 10 3`, 8 M puts of 100 bytes, two levels, 100 MiB in files, on 2 cores
//! that others used too, three interleaved rounds): a scan of a prefix that is absent 17 to 24 us without, 5 to 7 with; of one that is there 27 to 39 and 23 to 41.

/// What a scan will not be asked to show: keys below `lower`, and `upper` and all above. Nothing is read ahead out there.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The first key.
    pub lower: Option<Vec<u8>>,
    /// The first key that is beyond.
    pub upper: Option<Vec<u8>>,
}

impl Bounds {
    /// The first `length` bytes of every key between the bounds; `None` if keys between them may differ there, or be shorter.
    pub fn prefix(&self, length: usize) -> Option<&[u8]> {
        // All keys are at least `lower`, which begins so. None of them is above all that begin so if `upper` is not.
        let prefix = self.lower.as_ref()?.get(..length)?;
        let upper = self.upper.as_deref();
        let Some(last) = prefix.iter().rposition(|&byte| byte != 0xff) else { return Some(prefix) };
        let end = prefix[..last].iter().copied().chain([prefix[last] + 1]);
        upper.is_some_and(|upper| upper.iter().copied().le(end)).then_some(prefix)
    }

    /// True if keys from `smallest` on are all beyond.
    pub fn ends_before(&self, smallest: &[u8]) -> bool {
        self.upper.as_deref().is_some_and(|upper| smallest >= upper)
    }

    /// True if keys up to `largest` are all before the first.
    pub fn begins_after(&self, largest: &[u8]) -> bool {
        self.lower.as_deref().is_some_and(|lower| largest < lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(lower: &[u8], upper: Option<&[u8]>, length: usize) -> Option<Vec<u8>> {
        let bounds = Bounds { lower: Some(lower.to_vec()), upper: upper.map(<[u8]>::to_vec) };
        bounds.prefix(length).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_prefix_is_known_only_if_all_keys_between_have_it() {
        // Guards: no table is passed over that may hold a key of the scan.
        let ab = Some(b"ab".to_vec());
        assert_eq!(prefix(b"ab", Some(b"ac"), 2), ab);
        assert_eq!(prefix(b"abc", Some(b"abd"), 2), ab);
        assert_eq!(prefix(b"abc", Some(b"ac"), 2), ab);
        assert_eq!(prefix(b"ab", Some(b"ac\0"), 2), None, "the key ac");
        assert_eq!(prefix(b"ab", Some(b"ad"), 2), None);
        assert_eq!(prefix(b"ab", None, 2), None);
        assert_eq!(prefix(b"a", Some(b"b"), 2), None, "the key a itself");
        assert_eq!(prefix(b"a\xff", Some(b"b"), 2), Some(b"a\xff".to_vec()));
        assert_eq!(prefix(b"a\xff", Some(b"b\0"), 2), None, "the key b");
        assert_eq!(prefix(b"\xff\xff\x01", None, 2), Some(b"\xff\xff".to_vec()));
        assert_eq!(prefix(b"\xff\xfe", None, 2), None);
        assert_eq!(Bounds::default().prefix(1), None);
    }

    #[test]
    fn a_prefix_is_that_of_every_key_between() {
        // Guards: as above, for all short keys over three bytes.
        let bytes = [0u8, 1, 0xff];
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 0..3 {
            let longer = keys.iter().filter(|key| key.len() == length);
            let longer = longer.flat_map(|key| bytes.map(|byte| [&key[..], &[byte]].concat()));
            let longer: Vec<_> = longer.collect();
            keys.extend(longer);
        }
        let ends = keys.iter().cloned().map(Some).chain([None]);
        for (lower, upper) in
            keys.iter().flat_map(|lower| ends.clone().map(move |end| (lower, end)))
        {
            let bounds = Bounds { lower: Some(lower.clone()), upper };
            let Some(prefix) = bounds.prefix(2) else { continue };
            let inside = keys.iter().filter(|key| {
                *key >= lower && bounds.upper.as_ref().is_none_or(|upper| *key < upper)
            });
            inside.for_each(|key| assert!(key.starts_with(prefix), "{bounds:?} {key:?}"));
        }
    }
}
