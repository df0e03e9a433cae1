//! The loop that flush and compaction share: sorted entries in, those that somebody can see out.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::Tag;
use crate::job::counters::LevelWork;
use crate::job::output::{JobContext, Output};
use crate::job::retain::{Retain, Verdict};

/// Entries between two looks at whether the database is closing.
const CHECK_EVERY: u64 = 4096;

/// Walks `cursor` from its first entry and writes what `retain` keeps. `cut_before` says whether a table should end before a
/// key, given the bytes of the open table; `covers_below` is [`Retain::decide`]'s. Entries are counted in `work`.
///
/// # Errors
/// Those of the cursor and the output; [`Error::Closed`](crate::Error::Closed) if the database is closing.
pub fn rewrite(
    context: &JobContext,
    cursor: &mut impl EntryCursor,
    retain: &mut Retain,
    output: &mut Output<'_>,
    work: &mut LevelWork,
    mut cut_before: impl FnMut(&[u8], u64) -> bool,
    covers_below: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    let mut last_key: Vec<u8> = Vec::new();
    cursor.seek_to_first()?;
    while cursor.valid() {
        let (key, tag) = (cursor.key(), cursor.tag());
        let same_key = work.keys_in > 0 && key == &last_key[..];
        if !same_key {
            if cut_before(key, output.table_bytes()) {
                output.cut()?;
            }
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        let verdict = retain.decide(key, same_key, tag, || covers_below(key));
        let kept = match verdict {
            Verdict::Keep => Some(tag),
            Verdict::KeepOld => Some(Tag(u64::from(tag.kind_byte()))),
            Verdict::DropHidden | Verdict::DropTombstone => None,
        };
        match kept {
            Some(tag) => {
                output.add(key, tag, cursor.value())?;
                work.versions_kept += u64::from(same_key);
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
    Ok(())
}
