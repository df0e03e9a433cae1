//! The loop that flush and compaction share: sorted entries in, those that somebody can see out.

use crate::base::compaction_filter::FilterVerdict;
use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::{Kind, Tag};
use crate::base::merge::MergeOperator;
use crate::job::counters::LevelWork;
use crate::job::filtering::Filtering;
use crate::job::operands::Operands;
use crate::job::output::{JobContext, Output};
use crate::job::retain::{Retain, Verdict};
use std::sync::Arc;

/// Entries between two looks at whether the database is closing.
const CHECK_EVERY: u64 = 4096;

/// What a rewrite asks about a key.
#[derive(Debug)]
pub struct Questions<C, B> {
    /// Should a table end before this key, given the bytes of the open one?
    pub cut_before: C,
    /// May something older than the input lie below it? As in [`Retain::decide`].
    pub covers_below: B,
}

/// What the keyspace makes of its entries.
#[derive(Debug)]
pub struct Meaning<'a> {
    /// What operands become.
    pub operator: Option<Arc<dyn MergeOperator>>,
    /// Who is asked about values.
    pub filtering: &'a mut Filtering,
}

/// Walks `cursor` from its first entry and writes what `retain` keeps; operands become values, or fewer operands, where the operator can.
/// Entries are counted in `work`.
///
/// # Errors
/// Those of the cursor and the output; [`Error::Closed`](crate::Error::Closed) if the database is closing.
pub fn rewrite(
    context: &JobContext,
    cursor: &mut impl EntryCursor,
    retain: &mut Retain,
    meaning: Meaning<'_>,
    output: &mut Output<'_>,
    work: &mut LevelWork,
    mut questions: Questions<impl FnMut(&[u8], u64) -> bool, impl Fn(&[u8]) -> bool>,
) -> Result<()> {
    let mut last_key: Vec<u8> = Vec::new();
    let Meaning { operator, filtering } = meaning;
    let mut operands = Operands::new(operator);
    cursor.seek_to_first()?;
    while cursor.valid() {
        let (key, tag) = (cursor.key(), cursor.tag());
        let same_key = work.keys_in > 0 && key == &last_key[..];
        if !same_key {
            if !operands.is_empty() {
                let base = retain.nothing_below(|| (questions.covers_below)(&last_key));
                let base = base.then_some(None);
                end_operands(retain, output, work, &mut operands, &last_key, base)?;
            }
            if (questions.cut_before)(key, output.table_bytes()) {
                output.cut()?;
            }
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        let stripe = retain.stripe();
        let verdict = retain.decide(key, same_key, tag, || (questions.covers_below)(key));
        if !operands.is_empty() && retain.stripe() != stripe {
            // A snapshot looks between them and what comes now.
            work.keys_written(operands.write_apart(output, key)?);
        }
        let kept = match verdict {
            Verdict::Keep => Some(tag),
            Verdict::KeepOld => Some(Tag(u64::from(tag.kind_byte()))),
            Verdict::DropHidden | Verdict::DropTombstone => None,
            Verdict::Operand => {
                operands.push(key, tag, cursor.value());
                None
            }
            Verdict::Base => {
                let base = (tag.kind() == Kind::Put).then(|| cursor.value());
                let is_merged = end_operands(retain, output, work, &mut operands, key, Some(base))?;
                (!is_merged).then_some(tag)
            }
            Verdict::DropUnderOperands => {
                end_operands(retain, output, work, &mut operands, key, Some(None))?;
                None
            }
        };
        let is_asked = filtering.is_on()
            && matches!(verdict, Verdict::Keep | Verdict::KeepOld)
            && tag.kind() == Kind::Put
            && retain.is_unseen();
        let said = match is_asked {
            true => filtering.ask(key, tag, cursor.value()),
            false => FilterVerdict::Keep,
        };
        let kept = match said {
            FilterVerdict::Keep => kept.map(|tag| (tag, None)),
            FilterVerdict::Replace(value) => kept.map(|tag| (tag, Some(value))),
            FilterVerdict::Remove => {
                let leaves_nothing = retain.has_no_snapshots()
                    && retain.nothing_below(|| (questions.covers_below)(key));
                let tombstone = Tag::new(tag.sequence(), Kind::Delete);
                (!leaves_nothing).then_some((tombstone, Some(Vec::new())))
            }
        };
        match kept {
            Some((tag, changed)) => {
                output.add(key, tag, changed.as_deref().unwrap_or(cursor.value()))?;
                work.versions_kept += u64::from(same_key && tag.kind() != Kind::Merge);
            }
            None => {
                work.keys_dropped += 1;
                work.tombstones_dropped += u64::from(verdict == Verdict::DropTombstone);
            }
        }
        work.keys_in += 1;
        if work.keys_in.is_multiple_of(CHECK_EVERY) {
            context.check_open()?;
        }
        cursor.next()?;
    }
    if !operands.is_empty() {
        let base = retain.nothing_below(|| (questions.covers_below)(&last_key)).then_some(None);
        end_operands(retain, output, work, &mut operands, &last_key, base)?;
    }
    Ok(())
}

/// Writes what becomes of operands: the value they make of `base` (`None`: that is not known; `Some(None)`: there is none), which is true, or
/// operands again.
#[cold]
fn end_operands(
    retain: &Retain,
    output: &mut Output<'_>,
    work: &mut LevelWork,
    operands: &mut Operands,
    key: &[u8],
    base: Option<Option<&[u8]>>,
) -> Result<bool> {
    let tag_of = |tag| retain.tag_of_value(tag);
    if let Some(base) = base
        && operands.write_value(output, key, base, tag_of)?
    {
        work.keys_written(1);
        return Ok(true);
    }
    work.keys_written(operands.write_apart(output, key)?);
    Ok(false)
}
