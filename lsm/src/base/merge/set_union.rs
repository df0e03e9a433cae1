//! A set of byte strings to which sets are added.

use super::MergeOperator;
use crate::base::coding::{put_prefixed, take_prefixed};
use std::collections::BTreeSet;

/// The operator "set-union": a value or operand is a set of byte strings; the value is the union of all.
///
/// A set is its elements, each as a length (varint) and its bytes. In values they ascend and stand there once; in operands they need not.
///
/// ```
/// use treering_lsm::SetUnion;
/// let set = SetUnion::encode([b"oak".as_slice(), b"yew", b"oak"]);
/// let elements: Vec<&[u8]> = SetUnion::elements(&set).collect();
/// assert_eq!(elements, [b"oak", b"yew"]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SetUnion;

impl SetUnion {
    /// Its name.
    pub const NAME: &'static str = "set-union";

    /// The set of these elements, as an operand or a value for a put.
    pub fn encode<'e>(elements: impl IntoIterator<Item = &'e [u8]>) -> Vec<u8> {
        let elements: BTreeSet<&[u8]> = elements.into_iter().collect();
        let mut bytes = Vec::new();
        elements.into_iter().for_each(|element| put_prefixed(&mut bytes, element));
        bytes
    }

    /// The elements of a value, in order. Ends at the first that is cut.
    pub fn elements(mut value: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || take_prefixed(&mut value))
    }
}

impl MergeOperator for SetUnion {
    fn name(&self) -> &str {
        SetUnion::NAME
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let mut elements = Vec::new();
        for set in existing.iter().chain(operands) {
            let mut rest = *set;
            while !rest.is_empty() {
                let length = rest.len();
                elements.push(take_prefixed(&mut rest).ok_or_else(|| {
                    format!(
                        "a set of {} bytes ends inside an element, {length} before its end",
                        set.len()
                    )
                })?);
            }
        }
        Ok(SetUnion::encode(elements))
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_are_sets_and_cut_ones_are_refused() {
        let set = |names: &[&str]| SetUnion::encode(names.iter().map(|name| name.as_bytes()));
        let union =
            SetUnion.merge(b"k", Some(&set(&["b"])), &[&set(&["c", "a"]), &set(&["b", ""])]);
        assert_eq!(union.unwrap(), set(&["", "a", "b", "c"]));
        assert_eq!(SetUnion.merge(b"k", None, &[&[]]).unwrap(), Vec::<u8>::new());
        assert!(SetUnion.merge(b"k", None, &[&[5, b'a']]).is_err());
        assert_eq!(SetUnion.combine(b"k", &[&[5, b'a']]), None);
    }
}
