//! table info.
