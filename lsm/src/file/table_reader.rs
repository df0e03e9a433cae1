//! table reader.
