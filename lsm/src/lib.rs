//! Treering's engine: an embedded LSM key-value store on io_uring.

pub mod base;
pub mod db;
pub mod file;
pub mod format;
pub mod io;
pub mod job;
pub mod mem;
pub mod version;

pub use base::error::{Error, Result};
pub use base::limits;
pub use base::options::{
    Compression, Durability, FilterPolicy, IoChoice, KeyspaceOptions, Options,
};
pub use base::slice::PinnedSlice;
pub use db::*;
