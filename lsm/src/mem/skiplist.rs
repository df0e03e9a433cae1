//! skiplist.
