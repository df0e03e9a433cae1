//! What a case has reached, from the statistics of the database and from what the reads say.

use crate::drive::Tally;
use treering_lsm::{Place, Stats};

/// Counts of one case.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    tally: Tally,
}

impl Coverage {
    pub(super) fn note(&mut self, name: &str, count: u64) {
        self.tally.note(name, count);
    }

    pub(super) fn fired(&mut self, kind: &str) {
        self.tally.fired(kind, 1);
    }

    /// A read that was looked at: what answered it.
    pub(super) fn answered(&mut self, place: Option<Place>) {
        match place {
            Some(Place::Memtable) => self.note("read_memtable", 1),
            Some(Place::Frozen) => self.note("read_frozen", 1),
            Some(Place::Level(level)) => self.note(&format!("read_L{level}"), 1),
            None => self.note("read_nothing", 1),
        }
    }

    /// All counters of an opening; once, at its end.
    pub(super) fn add(&mut self, stats: &Stats) {
        self.note("cache_hits", stats.block_cache_hits);
        self.note("cache_misses", stats.block_cache_misses);
        for keyspace in &stats.keyspaces {
            let last = keyspace.levels.len() - 1;
            let held = keyspace.levels.iter().filter(|level| level.files > 0).count();
            self.tally.note_max("max_levels", held as u64);
            for (index, level) in keyspace.levels.iter().enumerate() {
                let merges = level.compactions - level.moves;
                match index {
                    0 => self.note("flushes", merges),
                    _ => self.note(&format!("merges_L{index}"), merges),
                }
                self.note("moves", level.moves);
                self.note("versions_hidden_dropped", level.keys_dropped - level.tombstones_dropped);
                self.note("versions_kept_for_a_snapshot", level.versions_kept);
                match index {
                    _ if index == last => {
                        self.note("tombstones_dropped_last_level", level.tombstones_dropped);
                        // Below the last level lies nothing: only a snapshot keeps one there.
                        self.note("tombstones_kept_for_a_snapshot", level.tombstones_kept);
                    }
                    0 => self.note("tombstones_flushed", level.tombstones_kept),
                    _ => {
                        self.note("tombstones_dropped_above", level.tombstones_dropped);
                        self.note("tombstones_kept_above", level.tombstones_kept);
                    }
                }
            }
        }
    }

    pub(super) fn finish(&self, tally: &mut Tally) {
        tally.add(&self.tally);
    }
}
