//! The operands of one key that no snapshot can tell apart, on their way to becoming one entry.

use crate::base::error::{Error, Result};
use crate::base::key::{Kind, Tag};
use crate::base::merge::{MergeOperator, combined, merged};
use crate::job::output::Output;
use std::sync::Arc;

/// Operands held at once; more are combined early, where the operator can.
const HELD_MAX: usize = 4096;

/// Collected newest first, as a flush or compaction meets them.
#[derive(Debug)]
pub struct Operands {
    operator: Option<Arc<dyn MergeOperator>>,
    held: Vec<(Tag, Vec<u8>)>,
    /// So many make it worth trying to combine them; more after the operator could not.
    try_at: usize,
}

impl Operands {
    /// None yet.
    pub fn new(operator: Option<Arc<dyn MergeOperator>>) -> Operands {
        Operands { operator, held: Vec::new(), try_at: HELD_MAX }
    }

    /// True without operands.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes one more, older than those before.
    pub fn push(&mut self, key: &[u8], tag: Tag, operand: &[u8]) {
        self.held.push((tag, operand.to_vec()));
        if self.held.len() >= self.try_at {
            self.combine(key);
            self.try_at = HELD_MAX.max(2 * self.held.len());
        }
    }

    fn oldest_first(&self) -> Vec<&[u8]> {
        self.held.iter().rev().map(|(_, operand)| &operand[..]).collect()
    }

    fn combine(&mut self, key: &[u8]) {
        let Some(operator) = &self.operator else { return };
        if self.held.len() > 1
            && let Some(one) = combined(&**operator, key, &self.oldest_first())
        {
            let newest = self.held[0].0;
            self.held.clear();
            self.held.push((newest, one));
        }
    }

    /// Writes the value that they make of `base`, under the tag that `tag_of` gives for that of the newest; false, with nothing written and
    /// all still held, if the operator fails.
    pub fn write_value(
        &mut self,
        output: &mut Output<'_>,
        key: &[u8],
        base: Option<&[u8]>,
        tag_of: impl FnOnce(Tag) -> Tag,
    ) -> Result<bool> {
        let newest = self.held[0].0;
        match merged(self.operator.as_deref(), key, base, &self.oldest_first()) {
            Ok(value) => {
                output.add(key, tag_of(Tag::new(newest.sequence(), Kind::Put)), &value)?;
                self.clear();
                Ok(true)
            }
            // Whoever reads the key is told. Here nothing may be lost.
            Err(Error::Merge { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Writes them as operands, as few as the operator can make of them. Returns how many.
    pub fn write_apart(&mut self, output: &mut Output<'_>, key: &[u8]) -> Result<u64> {
        self.combine(key);
        for (tag, operand) in &self.held {
            output.add(key, *tag, operand)?;
        }
        let written = self.held.len() as u64;
        self.clear();
        Ok(written)
    }

    /// For the next key.
    fn clear(&mut self) {
        self.held.clear();
        self.try_at = HELD_MAX;
    }
}
