//! The `sim` body.
