//! Bytes to which bytes are appended.

use super::MergeOperator;

/// The operator "append": the value is the put value and all operands after it, one behind the other, with nothing in between.
#[derive(Clone, Copy, Debug)]
pub struct Append;

impl Append {
    /// Its name.
    pub const NAME: &'static str = "append";
}

impl MergeOperator for Append {
    fn name(&self) -> &str {
        Append::NAME
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let length =
            existing.map_or(0, <[u8]>::len) + operands.iter().map(|o| o.len()).sum::<usize>();
        let mut value = Vec::with_capacity(length);
        value.extend_from_slice(existing.unwrap_or_default());
        operands.iter().for_each(|operand| value.extend_from_slice(operand));
        Ok(value)
    }

    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        self.merge(key, None, operands).ok()
    }
}
