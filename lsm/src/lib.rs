//! Treering's engine: an embedded LSM key-value store on io_uring.

pub mod base;
pub mod file;
pub mod format;
pub mod io;
pub mod mem;
pub mod version;
