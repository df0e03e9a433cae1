//! The `uring` body.
