//! A number to which numbers are added.

use super::MergeOperator;

/// The operator "counter": values and operands are signed 64-bit numbers, 8 bytes, little-endian. A key without a value counts from 0.
/// Sums wrap around, so that it does not matter in which groups they are made.
///
/// ```
/// use treering_lsm::{Counter, Db, KeyspaceOptions};
/// # let directory = tempfile::tempdir()?;
/// let db = Db::open(directory.path(), Default::default())?;
/// let mut options = KeyspaceOptions::default();
/// options.merge_operator = Some(Counter::NAME.to_owned());
/// let visits = db.create_keyspace("visits", options)?;
/// visits.merge(b"front page", &Counter::add(1))?;
/// visits.merge(b"front page", &Counter::add(2))?;
/// let value = visits.get(b"front page")?.expect("it was visited");
/// assert_eq!(Counter::value(&value), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Counter;

impl Counter {
    /// Its name.
    pub const NAME: &'static str = "counter";

    /// The operand that adds `number`, and the value `number` for a put.
    pub fn add(number: i64) -> [u8; 8] {
        number.to_le_bytes()
    }

    /// The number in a value; `None` if it is none.
    pub fn value(bytes: &[u8]) -> Option<i64> {
        Some(i64::from_le_bytes(bytes.try_into().ok()?))
    }
}

impl MergeOperator for Counter {
    fn name(&self) -> &str {
        Counter::NAME
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let numbers = existing.iter().chain(operands).map(|bytes| {
            Counter::value(bytes).ok_or_else(|| {
                format!("a counter has 8 bytes, this value or operand has {}", bytes.len())
            })
        });
        let mut sum = 0i64;
        for number in numbers {
            sum = sum.wrapping_add(number?);
        }
        Ok(sum.to_le_bytes().to_vec())
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_their_grouping() {
        let numbers = [i64::MAX, 5, -7, i64::MIN, 1].map(Counter::add);
        let slices: Vec<&[u8]> = numbers.iter().map(<[u8; 8]>::as_slice).collect();
        let all = Counter.merge(b"k", Some(slices[0]), &slices[1..]).unwrap();
        for cut in 1..slices.len() {
            let rest = Counter.combine(b"k", &slices[cut..]).unwrap();
            let first = Counter.merge(b"k", Some(slices[0]), &slices[1..cut]).unwrap();
            assert_eq!(Counter.merge(b"k", Some(&first), &[&rest]).unwrap(), all);
        }
        assert_eq!(Counter::value(&all), Some(-2));
        assert!(Counter.merge(b"k", Some(b"12"), &slices).unwrap_err().contains("has 2"));
        assert_eq!(Counter.combine(b"k", &[b"x"]), None);
    }
}
