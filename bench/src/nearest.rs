//! "Did you mean": the offered name that is nearest to one that is not.

/// The nearest of `names`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(wrong, name);
    let (score, name) = names
        .into_iter()
        .map(|name| (score(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))?;
    (score > 0.7).then_some(name)
}

/// The end of an error line: the suggestion, or where to look.
pub(crate) fn hint(suggestion: Option<&str>, mark: &str) -> String {
    match suggestion {
        Some(name) => format!("did you mean {mark}{name}?"),
        None => "see --help".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_told_what_was_meant() {
        let names = ["fillseq", "fillrandom", "readseq", "readrandom", "seekrandom"];
        assert_eq!(nearest("fillramdom", names), Some("fillrandom"));
        assert_eq!(nearest("readsec", names), Some("readseq"));
        assert_eq!(nearest("xyzzy", names), None);
    }
}
