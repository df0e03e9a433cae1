//! footer.
