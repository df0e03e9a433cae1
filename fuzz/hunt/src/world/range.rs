//! What a scan found, held against what each key may show.

use super::account::Possible;
use crate::drive::Failure;
use treering_lsm::{PinnedSlice, ReadOptions};

/// Checks that `found` are the first entries of the range, from the end if `reverse`, and all of them if it is `whole`.
pub(super) fn check_range(
    possible: &Possible,
    keyspace: u8,
    options: &ReadOptions,
    reverse: bool,
    found: &[(Vec<u8>, PinnedSlice)],
    whole: bool,
) -> Result<(), Failure> {
    let lower = options.lower_bound.clone().unwrap_or_default();
    let inside = possible.range((keyspace, lower)..).take_while(|((of, key), _)| {
        *of == keyspace && options.upper_bound.as_ref().is_none_or(|upper| key < upper)
    });
    let mut inside: Vec<_> = inside.map(|((_, key), choices)| (key, choices)).collect();
    if reverse {
        inside.reverse();
    }
    let mut found = found.iter().peekable();
    for (key, choices) in inside {
        match found.peek() {
            Some((at, value)) if at == key => {
                if !choices.iter().any(|choice| choice.as_deref() == Some(&**value)) {
                    return Err(format!("a scan shows a wrong value of {}", key.escape_ascii()));
                }
                found.next();
            }
            None if !whole => return Ok(()),
            _ if choices.contains(&None) => {}
            _ => return Err(format!("a scan misses {}", key.escape_ascii())),
        }
    }
    match found.next() {
        Some((key, _)) => Err(format!("a scan shows {}, which is not there", key.escape_ascii())),
        None => Ok(()),
    }
}
