//! table writer.
