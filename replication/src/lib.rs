//! Treering's replication: who holds which key, and which of its versions is the newer one.
//!
//! All of it is pure: time, chance, disk and network come in as values and go out as values, so that a whole cluster can run, and fail, and be
//! replayed from a seed, in one thread.
//!
//! Floors, bottom first; a file uses only floors below its own (`tests/layers.rs`):
//!
//! | floor | what it knows |
//! | --- | --- |
//! | [`base`] | ids, tokens, errors, limits |

pub mod base;

pub use base::error::{Error, Result};
