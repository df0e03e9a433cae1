//! table cursor.
