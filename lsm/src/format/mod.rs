//! Floor 2: bytes to values and back, pure. No file is touched here.

pub mod batch;
pub mod block;
pub mod change;
pub mod compression;
pub mod edit;
pub mod filter;
pub mod footer;
pub mod index;
pub mod log;
pub mod properties;
pub mod table_info;
