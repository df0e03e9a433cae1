//! A stretch of keys: what a change changes and what a transaction relies on.

use crate::world::{Change, What};

/// The keys of a keyspace from a first one on and before an end, which is empty where there is none.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) keyspace: usize,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Span {
    /// One key alone.
    pub(super) fn key(keyspace: usize, key: &[u8]) -> Span {
        Span { keyspace, start: key.to_vec(), end: [key, &[0]].concat() }
    }

    pub(super) fn range(keyspace: usize, start: &[u8], end: &[u8]) -> Span {
        // There is no key before this one.
        Span { keyspace, start: start.max(&[0]).to_vec(), end: end.to_vec() }
    }

    /// The keys of which a change says what becomes of them.
    pub(super) fn of(change: &Change) -> Span {
        let at = usize::from(change.keyspace);
        match &change.what {
            What::DeleteTo(end) => Span::range(at, &change.key, end),
            What::Put(_) | What::Delete => Span::key(at, &change.key),
        }
    }

    /// True if there may be a key in both.
    pub(super) fn meets(&self, other: &Span) -> bool {
        let start = (&self.start).max(&other.start);
        let is_before = |end: &[u8]| end.is_empty() || &start[..] < end;
        self.keyspace == other.keyspace && is_before(&self.end) && is_before(&other.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_share_no_key_do_not_meet() {
        let meets = |a: (&str, &str), b: (&str, &str)| {
            let span = |(start, end): (&str, &str)| Span::range(0, start.as_ref(), end.as_ref());
            assert_eq!(span(a).meets(&span(b)), span(b).meets(&span(a)));
            span(a).meets(&span(b))
        };
        assert!(meets(("a", "c"), ("b", "")) && meets(("", ""), ("", "b")));
        assert!(!meets(("a", "b"), ("b", "c")) && !meets(("", "b"), ("b", "")));
        assert!(!meets(("", "\0"), ("", "")), "the empty key is none");
        let key = Span::key(0, b"b");
        assert!(key.meets(&Span::of(&Change::delete_range(0, "a", "b\0"))));
        assert!(!key.meets(&Span::of(&Change::delete_range(0, "a", "b"))));
        assert!(!key.meets(&Span::of(&Change::delete(1, "b"))));
    }
}
