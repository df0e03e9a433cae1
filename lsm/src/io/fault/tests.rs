//! The wrapper does what its rules say on a disk that can be looked into; that it conforms on every body is in
//! `tests/io_conformance.rs`.

use super::*;
