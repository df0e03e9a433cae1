//! Reduces a list that shows something to a shorter one that still does.

/// Tries at most.
const TRIES_MAX: usize = 100;

/// Leaves out pieces of the list, large ones first, as long as `shows` says that the rest still shows it.
pub(super) fn reduce<T: Clone>(mut list: Vec<T>, shows: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut tries = 0;
    let mut piece = list.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < list.len() {
            if tries == TRIES_MAX {
                return list;
            }
            tries += 1;
            let end = (from + piece).min(list.len());
            let shorter = [&list[..from], &list[end..]].concat();
            if shows(&shorter) { list = shorter } else { from = end }
        }
        piece = (piece / 2).min(list.len() / 2);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_still_shows_it_and_is_short() {
        let list: Vec<u32> = (0..1000).collect();
        let left = reduce(list, |list| list.contains(&13) && list.contains(&14));
        assert!(left.contains(&13) && left.contains(&14) && left.len() < 10, "{left:?}");
    }
}
