//! The database handle.

use crate::base::error::{Error, Result};
use crate::base::key::KeyspaceId;
use crate::base::limits::{KEYSPACE_COUNT_MAX, KEYSPACE_NAME_BYTES_MAX};
use crate::base::options::{KeyspaceOptions, Options};
use crate::base::perf::{self, PerfContext};
use crate::base::slice::PinnedSlice;
use crate::base::sync::MutexGuard;
use crate::db::batch::WriteBatch;
use crate::db::change_feed::ChangeFeed;
use crate::db::engine::Engine;
use crate::db::environment::Environment;
use crate::db::get_future::GetFuture;
use crate::db::health_report::HealthReport;
use crate::db::histograms::{Latencies, Timed};
use crate::db::keyspace::{Keyspace, ReadOptions, WriteOptions};
use crate::db::open::{self, Purpose};
use crate::db::snapshot::Snapshot;
use crate::db::stats::Stats;
use crate::format::edit::{KeyspaceRecord, VersionEdit};
use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

/// What all handles share; the last one to go closes the database.
pub(crate) struct Handle {
    pub(crate) engine: Arc<Engine>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to see the error of closing calls `Db::close`. What was acknowledged is safe without it.
        let _ = self.engine.close();
    }
}

/// An open database. Cheap to clone, usable from any thread; closed when the last handle (also of a keyspace) is dropped.
///
/// ```
/// use treering_lsm::{Db, Options};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let db = Db::open(path, Options::default())?;
/// db.put(b"tree", b"oak")?;
/// assert_eq!(db.get(b"tree")?.as_deref(), Some(&b"oak"[..]));
/// db.delete(b"tree")?;
/// assert!(db.get(b"tree")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Db {
    default: Keyspace,
}

impl Db {
    /// Opens the database in the directory `path`, or makes one there.
    ///
    /// What the WAL holds is written to tables before this returns. No table is opened.
    ///
    /// # Errors
    /// [`Error::InvalidOption`], [`Error::Locked`], [`Error::NotADatabase`] (other files are in the directory),
    /// [`Error::NewerFormat`], [`Error::Corruption`] (names file and offset), [`Error::NoSpace`], [`Error::Io`]. The files are as
    /// they were then, but for strays of an earlier crash.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        let environment = Environment::system(options.io)?;
        Db::open_in(environment, path, options)
    }

    /// Opens a database in a world of the caller's choice: a simulated disk, a manual clock, manual background work.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open_in(
        environment: Environment,
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<Db> {
        Db::open_for(Purpose::Write, environment, path.as_ref(), options)
    }

    fn open_for(
        purpose: Purpose,
        environment: Environment,
        path: &Path,
        options: Options,
    ) -> Result<Db> {
        let engine = open::open(environment, path, options, purpose)?;
        Ok(Db { default: Keyspace { handle: Arc::new(Handle { engine }), id: KeyspaceId(0) } })
    }

    /// Opens the database in `path` to read it, without changing a byte or making a file: also from a directory that may not be written to. Any number may have
    /// it open so at once, while nobody has it open for writing.
    ///
    /// What the log holds is read into memory. Everything that writes (also a flush, a compaction, a checkpoint) answers [`Error::ReadOnly`]; exports are
    /// possible. Nothing expires meanwhile. No background thread runs but that of a listener.
    ///
    /// # Errors
    /// As [`Db::open`]; [`Error::NotADatabase`] where there is none; [`Error::Locked`] while somebody has it open for writing;
    /// [`Error::InvalidOption`] if `memory_limit` does not hold what is in the log.
    ///
    /// ```
    /// use treering_lsm::{Db, Error, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path();
    /// let db = Db::open(path, Options::default())?;
    /// db.put(b"oak", b"600 years")?;
    /// db.close()?;
    /// let (db, other) = (Db::open_read_only(path, Options::default())?, Db::open_read_only(path, Options::default())?);
    /// assert_eq!(db.get(b"oak")?, other.get(b"oak")?);
    /// assert!(matches!(db.put(b"yew", b"2000 years"), Err(Error::ReadOnly)));
    /// assert!(matches!(Db::open(path, Options::default()), Err(Error::Locked { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        let environment = Environment::system(options.io)?;
        Db::open_read_only_in(environment, path, options)
    }

    /// As [`Db::open_read_only`], in a world of the caller's choice.
    ///
    /// # Errors
    /// As `open_read_only`.
    pub fn open_read_only_in(
        environment: Environment,
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<Db> {
        Db::open_for(Purpose::Read, environment, path.as_ref(), options)
    }

    /// Removes the files of the database in `path`; the empty directory stays.
    ///
    /// # Errors
    /// [`Error::Locked`] if it is open, [`Error::NotADatabase`] if there is none or a file is not ours; nothing is removed then.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        open::destroy(path.as_ref())
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.default.handle.engine
    }

    /// The keyspace that every database has; the shorthands of `Db` work on it.
    pub fn default_keyspace(&self) -> &Keyspace {
        &self.default
    }

    /// A keyspace by name; the default one is named "default".
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let versions = self.engine().versions.lock();
        let state = versions
            .keyspace(name)
            .ok_or_else(|| Error::KeyspaceNotFound { name: name.to_owned() })?;
        Ok(Keyspace { handle: Arc::clone(&self.default.handle), id: state.record.id })
    }

    /// A keyspace by name, which is made if it is not there. If it is, it keeps the options that it has: these here say nothing then.
    ///
    /// # Errors
    /// Those of [`create_keyspace`](Self::create_keyspace) but [`Error::KeyspaceExists`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let jobs = db.open_or_create_keyspace("jobs", Default::default())?;
    /// jobs.put(b"1", b"saw")?;
    /// let again = db.open_or_create_keyspace("jobs", Default::default())?;
    /// assert_eq!(again.get(b"1")?.as_deref(), Some(&b"saw"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create_keyspace(
        &self,
        name: &str,
        options: KeyspaceOptions,
    ) -> Result<Keyspace> {
        options.validate()?;
        loop {
            match self.keyspace(name) {
                Err(Error::KeyspaceNotFound { .. }) => {}
                other => return other,
            }
            match self.create_keyspace(name, options.clone()) {
                // By another thread; which may have dropped it since.
                Err(Error::KeyspaceExists { .. }) => {}
                other => return other,
            }
        }
    }

    /// Names of all keyspaces, oldest first.
    pub fn keyspace_names(&self) -> Vec<String> {
        let versions = self.engine().versions.lock();
        let live = versions.keyspaces().iter().filter(|keyspace| !keyspace.is_dropped);
        live.map(|keyspace| keyspace.record.name.clone()).collect()
    }

    /// Makes a keyspace. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::KeyspaceExists`], [`Error::InvalidOption`] (options, or a name that is empty or longer than 255 bytes), errors of
    /// the manifest as in [`Keyspace::put_with`].
    pub fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        options.validate()?;
        if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
            let detail =
                format!("a name of {} bytes, 1 to {KEYSPACE_NAME_BYTES_MAX} possible", name.len());
            return Err(Error::invalid_option("name", detail));
        }
        let engine = self.engine();
        engine.check_writable()?;
        let mut versions = engine.versions.lock();
        // Its memtable comes first, for others may write to the keyspace as soon as it has a name. A memtable too many does
        // no harm.
        let mut memtables = 0;
        while memtables <= versions.keyspaces().len() && versions.keyspace(name).is_none() {
            memtables = versions.keyspaces().len() + 1;
            MutexGuard::unlocked(&mut versions, || engine.add_memtables(memtables))?;
        }
        versions.operators().find(options.merge_operator.as_deref())?;
        if versions.keyspace(name).is_some() {
            return Err(Error::KeyspaceExists { name: name.to_owned() });
        }
        if versions.keyspaces().len() >= KEYSPACE_COUNT_MAX {
            let detail = format!(
                "{KEYSPACE_COUNT_MAX} were made in this database, dropped ones included; begin another database"
            );
            return Err(Error::invalid_option("name", detail));
        }
        let id = KeyspaceId(versions.keyspaces().len() as u32);
        let record = KeyspaceRecord { id, name: name.to_owned(), options };
        let edit = VersionEdit { keyspaces: vec![record], ..VersionEdit::default() };
        versions.apply(&edit).map_err(|error| engine.fail(error))?;
        let shapes = versions.shapes();
        engine.current.change(|view| crate::version::view::View { shapes, ..view.clone() });
        drop(versions);
        // Somebody may have to look after its time to live.
        engine.schedule.wake();
        Ok(Keyspace { handle: Arc::clone(&self.default.handle), id })
    }

    /// Drops a keyspace with everything in it, in constant time. It is durable when this returns; the space comes back in the background. A new
    /// keyspace may have the name again.
    ///
    /// Handles of it answer [`Error::KeyspaceDropped`] from then on, also to reads at a snapshot that is older; a batch or transaction that writes to it
    /// is refused whole. Cursors and pinned values that are there stay readable. Each keyspace that was ever made costs some hundred bytes of memory for as long
    /// as the database lives.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`], [`Error::InvalidOption`] for the default keyspace, which every database has; errors of the manifest as in
    /// [`Keyspace::put_with`].
    ///
    /// ```
    /// use treering_lsm::{Db, Error};
    /// # let directory = tempfile::tempdir()?;
    /// let db = Db::open(directory.path(), Default::default())?;
    /// let sessions = db.create_keyspace("sessions", Default::default())?;
    /// sessions.put(b"ann", b"1")?;
    /// db.drop_keyspace("sessions")?;
    /// assert!(matches!(sessions.get(b"ann"), Err(Error::KeyspaceDropped { .. })));
    /// let sessions = db.create_keyspace("sessions", Default::default())?;
    /// assert!(sessions.get(b"ann")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.engine().drop_keyspace(name)
    }

    /// [`Keyspace::put`] on the default keyspace.
    #[inline]
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.default.put(key, value)
    }

    /// [`Keyspace::get`] on the default keyspace.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<PinnedSlice>> {
        self.default.get(key)
    }

    /// [`Keyspace::get_async`] on the default keyspace, with default options.
    pub fn get_async(&self, key: &[u8]) -> GetFuture {
        self.default.get_async(key, &ReadOptions::default())
    }

    /// [`Keyspace::delete`] on the default keyspace.
    #[inline]
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.default.delete(key)
    }

    /// [`Keyspace::merge`] on the default keyspace.
    pub fn merge(&self, key: &[u8], operand: &[u8]) -> Result<()> {
        self.default.merge(key, operand)
    }

    /// [`Keyspace::delete_range`] on the default keyspace.
    pub fn delete_range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Result<()> {
        self.default.delete_range(range)
    }

    /// Applies a batch: all of it or nothing, across keyspaces. One that is larger than a memtable
    /// ([`Options::write_buffer_bytes`](crate::Options::write_buffer_bytes)) and has no merges is written to tables at once and durable when this returns. Errors as [`Keyspace::put_with`], and
    /// [`Error::InvalidOption`] for a batch made with keyspaces of another database.
    ///
    /// ```
    /// use treering_lsm::{Db, WriteBatch, WriteOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Db::open(directory.path(), Default::default())?;
    /// let names = db.default_keyspace();
    /// let ages = db.create_keyspace("ages", Default::default())?;
    /// let mut batch = WriteBatch::new();
    /// batch.put(names, b"1", b"ann")?;
    /// batch.put(&ages, b"1", b"52")?;
    /// db.write(&batch, &WriteOptions::sync())?;
    /// assert_eq!(ages.get(b"1")?.as_deref(), Some(&b"52"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<()> {
        let engine = self.engine();
        batch.check_owner(engine)?;
        let durability = options.durability.unwrap_or(engine.options.durability);
        engine.timed(Timed::Write, || engine.write_batch(&batch.operations, durability))
    }

    /// Makes a second database in `directory`, which must be empty or not there, with the state of now. It is durable when this returns.
    ///
    /// The tables are shared by hard links: nothing is copied, and a table takes its space until neither database needs it. The
    /// directory must be in the same file system. The copy is opened like any other database and goes its own way.
    ///
    /// It holds all writes acknowledged before the call, those of class None included, and the first few of those made during it.
    /// Returns the sequence number of the last one before the call.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a directory that is not empty or in another file system; errors of [`Db::flush`] and of making
    /// the files. What was made is removed again; what a crash leaves half-made is no database and refused by [`Db::open`].
    ///
    /// # Cost
    /// A flush of what is in memory, one link for each table, and three syncs. Reads and writes go on.
    ///
    /// ```
    /// use treering_lsm::Db;
    /// # let home = tempfile::tempdir()?;
    /// # let (path, copy) = (home.path().join("db"), home.path().join("copy"));
    /// let db = Db::open(path, Default::default())?;
    /// db.put(b"oak", b"600 years")?;
    /// db.checkpoint(&copy)?;
    /// db.delete(b"oak")?;
    /// let copy = Db::open(&copy, Default::default())?;
    /// assert!(copy.get(b"oak")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self, directory: impl AsRef<Path>) -> Result<u64> {
        self.engine().checkpoint(directory.as_ref())
    }

    /// The commits after the sequence number `after`, in their order, each whole and once: to keep something else up to date. For a database that keeps them
    /// ([`Options::change_log_bytes`](crate::Options::change_log_bytes)); they outlive reopening.
    ///
    /// A copy and what has happened since: take a [`snapshot`](Db::snapshot), copy what it sees, and follow from its
    /// [`sequence`](Snapshot::sequence) on. A [`checkpoint`](Db::checkpoint) may hold some commits after the number that it returns: who follows from there
    /// sees these again, which does no harm but to merges. A number inside of a batch gives the batch whole. Not
    /// told are what expires, what a compaction filter changes, and that a keyspace was dropped. Of an ingest it is told which keys it brought.
    ///
    /// It yields what readers see, which may be before it is durable. A crash may take such a commit back; its number is not given out again (each opening with a
    /// change log leaves some out), and whoever has seen it gets [`Error::ChangesGone`] at its next beginning.
    ///
    /// # Errors
    /// [`Error::ChangesGone`] if the next commit after `after` is not kept (any more), or `after` lies ahead or was taken back by a crash: never a silent gap.
    /// [`Error::InvalidOption`] for a database that keeps none. [`Error::Io`], [`Error::Corruption`] of a change file.
    ///
    /// ```
    /// use treering_lsm::{Change, Db, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let mut options = Options::default();
    /// options.change_log_bytes = 64 << 20;
    /// let db = Db::open(directory.path(), options)?;
    /// let before = db.snapshot().sequence();
    /// db.put(b"oak", b"600 years")?;
    /// let mut feed = db.changes(before)?;
    /// let commit = feed.next()?.expect("there is one");
    /// for change in commit.changes() {
    ///     assert!(matches!(change?, Change::Put { key: b"oak", value: b"600 years", .. }));
    /// }
    /// assert!(feed.next()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn changes(&self, after: u64) -> Result<ChangeFeed> {
        let engine = self.engine();
        engine.health.check_open()?;
        let log = engine.changes.as_ref().ok_or_else(|| {
            let detail =
                "no changes are kept here: that takes an opening for writing, with some bytes for them";
            Error::invalid_option("change_log_bytes", detail)
        })?;
        ChangeFeed::new(Arc::clone(&self.default.handle), Arc::clone(log), after)
    }

    /// A snapshot of all keyspaces as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.engine().snapshots.take(&self.engine().current)
    }

    /// Writes what is in memory to tables. Errors as [`Keyspace::flush`].
    pub fn flush(&self) -> Result<()> {
        self.engine().flush_all()
    }

    /// Merges every keyspace into its last level. Errors as [`Keyspace::compact_range`].
    pub fn compact(&self) -> Result<()> {
        let ids: Vec<KeyspaceId> = {
            let versions = self.engine().versions.lock();
            let live = versions.keyspaces().iter().filter(|keyspace| !keyspace.is_dropped);
            live.map(|keyspace| keyspace.record.id).collect()
        };
        ids.into_iter().try_for_each(|id| match self.engine().compact_range(id, None) {
            // Since we looked.
            Err(Error::KeyspaceDropped { .. }) => Ok(()),
            other => other,
        })
    }

    /// Waits until nothing waits for a flush and no compaction is due or running.
    ///
    /// # Errors
    /// The last background error.
    pub fn wait_for_compactions(&self) -> Result<()> {
        self.engine().wait_for_compactions()
    }

    /// Reads every table: checksums, order, and that what the manifest says is true. Bypasses the cache.
    ///
    /// # Errors
    /// The first damage found, as [`Error::Corruption`].
    pub fn verify(&self) -> Result<()> {
        let view = self.engine().current.view_full();
        for shape in view.shapes.iter().flatten() {
            for table in shape.levels().iter().flat_map(|level| level.tables()) {
                table.verify()?;
            }
        }
        Ok(())
    }

    /// What the database has done and holds.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// How the database is: healthy, degraded (and by what), poisoned or closed. For a health check, or to shed load.
    ///
    /// Answers also when nothing else does. Takes two short locks that no I/O is done under but the manifest's: while an edit of the
    /// manifest is written, it waits for that.
    ///
    /// ```
    /// use treering_lsm::{Db, HealthState};
    /// # let directory = tempfile::tempdir()?;
    /// let db = Db::open(directory.path(), Default::default())?;
    /// let health = db.health();
    /// assert!(matches!(health.state, HealthState::Healthy) && health.takes_writes());
    /// assert_eq!(health.to_string(), "healthy (debt 0.0 MiB, 2 of 2 spare memtables free)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self) -> HealthReport {
        self.engine().health_report()
    }

    /// Does `work` and says what its operations did, as far as the calling thread did it: why a get was slow.
    ///
    /// Counts operations on any database. Without it counting costs nothing that could be measured; with it some nanoseconds a count, and
    /// two looks at the clock for each read and wait. What is not counted: blocks that a `multi_get` or a seek reads together, and
    /// `get_async`.
    ///
    /// ```
    /// use treering_lsm::Db;
    /// # let directory = tempfile::tempdir()?;
    /// let db = Db::open(directory.path(), Default::default())?;
    /// db.put(b"oak", b"600 years")?;
    /// db.flush()?;
    /// let (value, cost) = db.measure(|| db.get(b"oak"));
    /// assert!(value?.is_some());
    /// assert_eq!((cost.memtables_passed, cost.tables_considered, cost.blocks_read), (1, 1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> (T, PerfContext) {
        perf::measure(Arc::clone(&self.engine().environment.clock), work)
    }

    /// How long operations took; `None` unless [`Options::histograms`] is set. Other threads go on meanwhile.
    ///
    /// ```
    /// use treering_lsm::{Db, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let mut options = Options::default();
    /// options.histograms = true;
    /// let db = Db::open(directory.path(), options)?;
    /// db.put(b"oak", b"600 years")?;
    /// db.get(b"oak")?;
    /// let times = db.histograms().expect("switched on");
    /// assert_eq!((times.write.count, times.get.count), (1, 1));
    /// assert!(times.get.p99 <= times.get.max);
    /// println!("{times}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn histograms(&self) -> Option<Latencies> {
        self.engine().latencies()
    }

    /// Starts the counters of [`Db::stats`] and the histograms over.
    pub fn reset_stats(&self) {
        self.engine().reset_stats();
    }

    /// Does one unit of background work in manual mode; false if there was none.
    ///
    /// # Errors
    /// The error of the job; it is tried again at the next call.
    pub fn step(&self) -> Result<bool> {
        self.engine().step()
    }

    /// Ends background work, makes what is in the log durable and closes the database. Writes of class None that no flush has
    /// written yet are lost: call [`Db::flush`] first to keep them. Other handles then get [`Error::Closed`], and whoever closes
    /// again the same answer; cursors and pinned slices stay readable.
    ///
    /// # Errors
    /// A failed last sync, or [`Error::Poisoned`] if log or manifest had failed before: what was acknowledged as Buffered may then not
    /// survive a loss of power. What was acknowledged as Sync is safe all the same. The database is closed in any case.
    pub fn close(self) -> Result<()> {
        self.engine().close()
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.engine().directory.display())
    }
}
