//! The `posix` body.
