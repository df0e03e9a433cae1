//! Merge operators: values that are changed by what is added to them, without being read first.
//!
//! A merge writes an *operand*. The value of the key is what the operator makes of the last put and of the operands after it; it is
//! computed when the key is read, and once and for all when a flush or compaction meets put and operands together. The idea and the two
//! functions are RocksDB's ("Merge Operator", 2013).
//!
//! ```text
//!   put k 5 | merge k +1 | merge k +2        get k = merge(k, Some(5), [+1, +2]) = 8
//!             └── combine: merge k +3 ──┘    get k = merge(k, Some(5), [+3])     = 8
//! ```

mod append;
mod counter;
mod set_union;

pub use append::Append;
pub use counter::Counter;
pub use set_union::SetUnion;

use crate::base::error::{Error, Result};
use crate::base::limits::VALUE_BYTES_MAX;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What the operands of a keyspace mean.
///
/// Both functions are called by readers, flushes and compactions, from several threads at once, and must give the same for the same
/// arguments. A failure (or a panic, which counts as one) is the answer of whoever reads the key; flushes and compactions then keep the
/// operands as they are, so nothing is lost.
pub trait MergeOperator: fmt::Debug + Send + Sync {
    /// Its name, kept in the manifest: a database opens only with an operator of this name at hand. Change it when the meaning of
    /// operands changes.
    fn name(&self) -> &str;

    /// The value after `operands`, oldest first, were added to `existing`; `None` if there is no value before them.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, String>;

    /// One operand that does what these do one after the other, oldest first, whatever the value before them is; `None` if there is none.
    /// With it, operands do not pile up while the value lies deep below.
    fn combine(&self, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
        let _not_possible = (key, operands);
        None
    }
}

/// The operators that a database knows, by name.
#[derive(Clone, Debug)]
pub struct MergeOperators {
    list: Vec<Arc<dyn MergeOperator>>,
}

impl Default for MergeOperators {
    fn default() -> Self {
        MergeOperators { list: vec![Arc::new(Counter), Arc::new(Append), Arc::new(SetUnion)] }
    }
}

impl MergeOperators {
    /// Those that are supplied, and `others`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that is empty or there twice.
    pub fn with(others: &[Arc<dyn MergeOperator>]) -> Result<MergeOperators> {
        let mut operators = MergeOperators::default();
        for operator in others {
            let name = operator.name();
            if name.is_empty() || operators.list.iter().any(|known| known.name() == name) {
                let detail = format!("two operators are named {name:?}, or it is no name");
                return Err(Error::invalid_option("merge_operators", detail));
            }
            operators.list.push(Arc::clone(operator));
        }
        Ok(operators)
    }

    /// The operator of a keyspace whose options ask for `name`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if there is no such operator.
    pub fn find(&self, name: Option<&str>) -> Result<Option<Arc<dyn MergeOperator>>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.list.iter().find(|operator| operator.name() == name);
        found.cloned().map(Some).ok_or_else(|| {
            let known: Vec<&str> = self.list.iter().map(|operator| operator.name()).collect();
            let detail = format!(
                "a keyspace needs the operator {name:?}; give it in Options::merge_operators (there are {})",
                known.join(", ")
            );
            Error::invalid_option("merge_operators", detail)
        })
    }
}

/// The value of `key` after `operands`, oldest first.
///
/// # Errors
/// [`Error::Merge`].
pub fn merged(
    operator: Option<&dyn MergeOperator>,
    key: &[u8],
    existing: Option<&[u8]>,
    operands: &[&[u8]],
) -> Result<Vec<u8>> {
    let failed = |operator: &str, detail: String| {
        Err(Error::Merge { operator: operator.to_owned(), key: key.to_vec(), detail })
    };
    let Some(operator) = operator else {
        return failed("none", "the keyspace has no merge operator".to_owned());
    };
    match catch_unwind(AssertUnwindSafe(|| operator.merge(key, existing, operands))) {
        Ok(Ok(value)) if value.len() > VALUE_BYTES_MAX => {
            let detail =
                format!("it made {} bytes, a value has up to {VALUE_BYTES_MAX}", value.len());
            failed(operator.name(), detail)
        }
        Ok(Ok(value)) => Ok(value),
        Ok(Err(detail)) => failed(operator.name(), detail),
        Err(_) => failed(operator.name(), "it panicked".to_owned()),
    }
}

/// One operand for several, oldest first, if the operator has one.
pub fn combined(operator: &dyn MergeOperator, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
    let combined = catch_unwind(AssertUnwindSafe(|| operator.combine(key, operands))).ok()?;
    combined.filter(|operand| operand.len() <= VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Bad;
    impl MergeOperator for Bad {
        fn name(&self) -> &str {
            "bad"
        }
        fn merge(
            &self,
            _: &[u8],
            _: Option<&[u8]>,
            _: &[&[u8]],
        ) -> std::result::Result<Vec<u8>, String> {
            panic!("on purpose")
        }
    }

    #[test]
    fn operators_are_found_by_name_and_may_fail() {
        let operators = MergeOperators::with(&[Arc::new(Bad)]).unwrap();
        assert!(operators.find(None).unwrap().is_none());
        assert_eq!(operators.find(Some("append")).unwrap().unwrap().name(), "append");
        let missing = operators.find(Some("missing")).unwrap_err().to_string();
        assert!(
            missing.contains("\"missing\"") && missing.contains("counter, append"),
            "{missing}"
        );
        assert!(MergeOperators::with(&[Arc::new(Bad), Arc::new(Bad)]).is_err());
        assert!(MergeOperators::with(&[Arc::new(Counter)]).is_err());
        let bad = operators.find(Some("bad")).unwrap();
        let error = merged(bad.as_deref(), b"k", None, &[b"x"]).unwrap_err();
        assert!(matches!(error, Error::Merge { ref detail, .. } if detail == "it panicked"));
        assert!(merged(None, b"k", None, &[b"x"]).is_err());
        assert_eq!(combined(&Bad, b"k", &[b"x"]), None);
    }
}
