//! Dropping a keyspace: one record of the manifest, whatever is in it.
//!
//! Promises:
//! 1. Either all of it is gone or nothing, also after a crash: its tables are unlinked only after the record is durable, and what the log or a memtable
//!    still holds of it is passed over by flushes and by the next opening.
//! 2. Its number is never given out again. So a record of the log, a table or a handle of it can never be taken for one of a later keyspace of its name.
//! 3. No write that was acknowledged before belongs to it afterwards, and none is acknowledged after: the commit lock is held.
//! 4. A flush or compaction that works for it meanwhile ends without a trace ([`VersionSet::without_dropped`](crate::version::set::VersionSet)).

use crate::base::error::{Error, Result};
use crate::base::planted::{Bug, planted};
use crate::db::engine::Engine;
use crate::db::spans::span;
use crate::format::edit::VersionEdit;
use crate::version::view::View;

impl Engine {
    /// See [`Db::drop_keyspace`](crate::Db::drop_keyspace).
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        let _span = span!("drop keyspace", name = name);
        {
            let mut commit = self.commit.lock();
            self.check_writable()?;
            let mut versions = self.versions.lock();
            let found = versions.keyspace(name).map(|keyspace| keyspace.record.id);
            let id = found.ok_or_else(|| Error::KeyspaceNotFound { name: name.to_owned() })?;
            if id.0 == 0 {
                let detail = "the default keyspace cannot be dropped; delete_range(..) empties it";
                return Err(Error::invalid_option("name", detail));
            }
            let edit = VersionEdit { dropped: vec![id], ..VersionEdit::default() };
            let change = |view: &View, shapes| View { shapes, ..view.clone() };
            let installed = self.install_under(&mut versions, &edit, change);
            // It may be dropped and something behind that have failed.
            if versions.live(id).is_none() && !planted(Bug::DropTakesWrites) {
                commit.dropped.insert(id);
            }
            installed?;
        }
        // Somebody has files to unlink.
        self.schedule.wake();
        Ok(())
    }
}
