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
//! | [`placement`] | nodes, weights and zones; which nodes hold a tablet; what moves when they change |

pub mod base;
pub mod placement;

pub use base::error::{Error, Result};
