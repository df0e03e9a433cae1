//! Spans of the crate `tracing` around open, recovery, flush, compaction, checkpoint and close. Only with the cargo feature `tracing`;
//! without it a span is a value without a size, and its fields are not computed.
//!
//! Each is entered on the thread that does the work, at level INFO, with target `treering`. Reads and writes have none: a span costs
//! more than a read.

/// Opens a span that lasts until the end of the scope in which its value is bound.
#[cfg(feature = "tracing")]
macro_rules! span {
    ($name:literal $($fields:tt)*) => {
        tracing::info_span!(target: "treering", $name $($fields)*).entered()
    };
}

/// As above, without the feature.
#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($name:literal $($fields:tt)*) => {
        crate::db::spans::NoSpan
    };
}

pub(crate) use span;

/// Nothing, in the place of a span.
#[cfg(not(feature = "tracing"))]
pub(crate) struct NoSpan;
