//! Spans of the feature `tracing`: which there are, and that each one ends.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{open, tiny_options};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use treering_lsm::io::sim::SimDisk;

/// Names of spans by their ids, and what was entered and left.
#[derive(Default)]
struct Seen {
    names: Mutex<Vec<&'static str>>,
    open: AtomicU64,
}

static SEEN: Seen = Seen { names: Mutex::new(Vec::new()), open: AtomicU64::new(0) };

struct Watcher;

impl Subscriber for Watcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "treering"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut names = SEEN.names.lock().unwrap();
        names.push(span.metadata().name());
        Id::from_u64(names.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {
        SEEN.open.fetch_add(1, Ordering::Relaxed);
    }

    fn exit(&self, _: &Id) {
        SEEN.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn every_long_work_has_a_span_and_every_span_ends() {
    tracing::subscriber::set_global_default(Watcher).unwrap();
    let db = open(&SimDisk::new(1), &tiny_options()).unwrap();
    db.put(b"oak", b"1").unwrap();
    db.checkpoint("/copy").unwrap();
    db.put(b"oak", b"2").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    let names = SEEN.names.lock().unwrap().clone();
    let expected = ["open", "recovery", "checkpoint", "flush", "flush", "compaction", "close"];
    assert_eq!(names, expected);
    assert_eq!(SEEN.open.load(Ordering::Relaxed), 0);
}
