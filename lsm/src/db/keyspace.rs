//! A keyspace: a named, separately sorted map inside a database, with options of its own.

use crate::base::error::{Error, Result};
use crate::base::guard_keys::GuardKeys;
use crate::base::key::{KeyspaceId, Kind, SequenceNumber};
use crate::base::options::Durability;
use crate::base::slice::PinnedSlice;
use crate::db::cursor::{Cursor, Range};
use crate::db::database::Handle;
use crate::db::estimate::Estimate;
use crate::db::get_future::{GetFuture, MultiGetFuture};
use crate::db::histograms::Timed;
use crate::db::ingest::IngestOptions;
use crate::db::level_shape::LevelShape;
use crate::db::read::Place;
use crate::db::snapshot::Snapshot;
use crate::db::sorted_file::SortedFile;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

/// Choices for one write.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// What `Ok` means; `None` takes the database's [`Options::durability`](crate::Options::durability).
    pub durability: Option<Durability>,
}

impl WriteOptions {
    /// Writes that survive power loss once `Ok` is returned.
    pub fn sync() -> WriteOptions {
        WriteOptions { durability: Some(Durability::Sync) }
    }
}

/// Choices for one read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Read as of this snapshot; `None` reads the newest state.
    pub snapshot: Option<Snapshot>,
    /// Cursors: smallest key shown.
    pub lower_bound: Option<Vec<u8>>,
    /// Cursors: first key no longer shown.
    pub upper_bound: Option<Vec<u8>>,
    /// Put blocks that had to be read into the block cache. Default true; switch it off for large scans.
    pub fill_cache: bool,
    /// Cursors: read ahead once the scan is seen to be sequential. Default true.
    pub read_ahead: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            snapshot: None,
            lower_bound: None,
            upper_bound: None,
            fill_cache: true,
            read_ahead: true,
        }
    }
}

/// A handle on a keyspace. Cheap to clone, usable from any thread. It keeps the database open.
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) handle: Arc<Handle>,
    pub(crate) id: KeyspaceId,
}

impl Keyspace {
    /// Its number in this database.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.handle.engine.keyspace_name(self.id)
    }

    /// The sequence number of the snapshot to read at.
    #[inline]
    fn sequence(&self, options: &ReadOptions) -> Result<Option<SequenceNumber>> {
        let snapshot = options.snapshot.as_ref();
        snapshot.map(|snapshot| snapshot.sequence_in(&self.handle.engine.snapshots)).transpose()
    }

    fn durability(&self, options: &WriteOptions) -> Durability {
        options.durability.unwrap_or(self.handle.engine.options.durability)
    }

    /// Sets `key` to `value` with the database's default durability. See [`Keyspace::put_with`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with(key, value, &WriteOptions::default())
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`](crate::Error::KeyTooLarge) and [`Error::ValueTooLarge`](crate::Error::ValueTooLarge) change nothing;
    /// [`Error::NoSpace`](crate::Error::NoSpace): nothing was acknowledged, a later retry is safe;
    /// [`Error::Poisoned`](crate::Error::Poisoned) and I/O errors: reopen the database; the write may or may not be there then.
    ///
    /// # Cost
    /// About a third of a microsecond for small values without sync; a device write with [`Durability::Sync`], shared with all concurrent ones.
    #[inline]
    pub fn put_with(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<()> {
        let (engine, durability) = (&self.handle.engine, self.durability(options));
        engine.timed(Timed::Write, || engine.write_one(Kind::Put, self.id, key, value, durability))
    }

    /// Removes `key`, if it is there, with the default durability. Errors as [`Keyspace::put_with`].
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete_with(key, &WriteOptions::default())
    }

    /// Removes `key`, if it is there. Errors as [`Keyspace::put_with`].
    #[inline]
    pub fn delete_with(&self, key: &[u8], options: &WriteOptions) -> Result<()> {
        let (engine, durability) = (&self.handle.engine, self.durability(options));
        engine.timed(Timed::Write, || engine.write_one(Kind::Delete, self.id, key, &[], durability))
    }

    /// The newest value of `key`. See [`Keyspace::get_with`].
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<PinnedSlice>> {
        let engine = &self.handle.engine;
        engine.timed(Timed::Get, || engine.get(self.id, key, None, true))
    }

    /// The value of `key`, without copying it.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) names the damaged table; an I/O error may pass.
    ///
    /// # Cost
    /// At most one device read per level that may hold the key; none for cached blocks, and for absent keys in 99 of 100 cases (filter).
    #[inline]
    pub fn get_with(&self, key: &[u8], options: &ReadOptions) -> Result<Option<PinnedSlice>> {
        let sequence = self.sequence(options)?;
        let engine = &self.handle.engine;
        engine.timed(Timed::Get, || engine.get(self.id, key, sequence, options.fill_cache))
    }

    /// The value of `key`, without keeping the thread while a block is read.
    ///
    /// What memtables and cache hold is known when this returns. Everything else is read by a thread of the database that keeps many
    /// reads in flight, so one caller with many futures gets what the device has to give. It needs no particular runtime.
    /// Dropping the future abandons the read. The answer is as of the call, not of the first poll.
    ///
    /// # Errors
    /// As [`Keyspace::get_with`]; [`Error::Closed`](crate::Error::Closed) if the database is closed before the block is read.
    ///
    /// # Cost
    /// A get that is answered from memory costs what [`Keyspace::get_with`] does. One that reads costs two allocations and a wake-up
    /// more; alone in flight it is slower than a get. A table that nobody has read yet is opened in the call, and so is a part of the
    /// index of a very large one. At most 127 reads are in flight, further ones wait.
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = Box::pin(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
    /// #             Poll::Ready(output) => return output,
    /// #             Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let keyspace = db.default_keyspace().clone();
    /// keyspace.put(b"yew", b"2000")?;
    /// let value = block_on(async move { keyspace.get_async(b"yew", &Default::default()).await })?;
    /// assert_eq!(value.as_deref(), Some(&b"2000"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_async(&self, key: &[u8], options: &ReadOptions) -> GetFuture {
        match self.sequence(options) {
            Ok(sequence) => self.handle.engine.get_async(self.id, key, sequence, options),
            Err(error) => GetFuture::known(Err(error)),
        }
    }

    /// Where a get of `key` is decided: in memory or at which level; `None` if nothing was ever written, or nothing is left
    /// of it. For looking into a database; as costly as a get.
    ///
    /// # Errors
    /// As [`Keyspace::get_with`].
    pub fn locate(&self, key: &[u8], options: &ReadOptions) -> Result<Option<Place>> {
        self.handle.engine.locate(self.id, key, self.sequence(options)?)
    }

    /// The values of several keys, all as of one moment, in the order of `keys`.
    ///
    /// Blocks that are not cached are read together, many in flight at once: on a device that serves several requests at
    /// a time this is several times faster than as many gets.
    ///
    /// # Errors
    /// Each key has its own result; errors as [`Keyspace::get_with`].
    pub fn multi_get(
        &self,
        keys: &[&[u8]],
        options: &ReadOptions,
    ) -> Vec<Result<Option<PinnedSlice>>> {
        match self.sequence(options) {
            Ok(sequence) => {
                let engine = &self.handle.engine;
                let fill_cache = options.fill_cache;
                engine.timed(Timed::MultiGet, || {
                    engine.multi_get(self.id, keys, sequence, fill_cache)
                })
            }
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// As [`multi_get`](Keyspace::multi_get), without keeping the thread: blocks that are not cached are read by the database's own
    /// thread, as for [`get_async`](Keyspace::get_async), all of them in flight from the call on.
    ///
    /// # Errors
    /// Each key has its own result; errors as [`get_async`](Keyspace::get_async).
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = Box::pin(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
    /// #             Poll::Ready(output) => return output,
    /// #             Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let keyspace = db.default_keyspace().clone();
    /// keyspace.put(b"yew", b"2000")?;
    /// let found = block_on(async move { keyspace.multi_get_async(&[b"oak", b"yew"], &Default::default()).await });
    /// assert!(matches!(&found[0], Ok(None)));
    /// assert!(matches!(&found[1], Ok(Some(value)) if value == b"2000"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn multi_get_async(&self, keys: &[&[u8]], options: &ReadOptions) -> MultiGetFuture {
        let engine = &self.handle.engine;
        let mut options = options.clone();
        // All as of one moment, although each begins at its own.
        options.snapshot.get_or_insert_with(|| engine.snapshots.take(&engine.current));
        let parts = keys.iter().map(|key| self.get_async(key, &options)).collect();
        MultiGetFuture::new(parts, options.snapshot)
    }

    /// How much the tables hold of a key range, about: nothing but the indexes of tables at its ends is looked at.
    ///
    /// Right to about a block of each table that an end of the range lies in. Versions and tombstones that compaction has not yet
    /// dropped count; what is still in memory does not ([`flush`](Keyspace::flush) first to have it in).
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), or the error of opening a table.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let keyspace = db.default_keyspace();
    /// keyspace.put(b"oak", b"600 years")?;
    /// keyspace.flush()?;
    /// assert_eq!(keyspace.estimate(..)?.entries, 1);
    /// assert_eq!(keyspace.estimate(&b"p"[..]..)?.file_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn estimate<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Result<Estimate> {
        let (lower, upper) = bounds_of(&range);
        self.handle.engine.estimate(self.id, lower.as_deref(), upper.as_deref())
    }

    /// How its levels are filled, as of now. Looks at what the manifest says of each table; no table is opened, nothing is read.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let keyspace = db.default_keyspace();
    /// keyspace.put(b"oak", b"600 years")?;
    /// keyspace.delete(b"elm")?;
    /// keyspace.flush()?;
    /// let shape = keyspace.shape();
    /// assert_eq!((shape.tables(), shape.levels[0].tombstone_share()), (1, 0.5));
    /// println!("{shape}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shape(&self) -> LevelShape {
        self.handle.engine.level_shape(self.id)
    }

    /// A cursor over the keyspace as of now (or the snapshot), not yet positioned.
    ///
    /// It keeps the memtables and tables of that moment alive until it is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), or the error of opening a table.
    pub fn cursor(&self, options: &ReadOptions) -> Result<Cursor> {
        self.handle.engine.cursor(self.id, options)
    }

    /// The entries of a key range, from both ends.
    ///
    /// # Errors
    /// As [`Keyspace::cursor`]; the iterator yields the errors of reading.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let keyspace = db.default_keyspace();
    /// for name in ["ann", "bob", "cyd"] {
    ///     keyspace.put(name.as_bytes(), b"1")?;
    /// }
    /// let names = keyspace.range("b".as_bytes().., &Default::default())?;
    /// let names: Result<Vec<_>, _> = names.map(|entry| entry.map(|(key, _)| key)).collect();
    /// assert_eq!(names?, [b"bob", b"cyd"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range<'k>(
        &self,
        range: impl RangeBounds<&'k [u8]>,
        options: &ReadOptions,
    ) -> Result<Range> {
        let (lower, upper) = bounds_of(&range);
        let mut options = options.clone();
        options.lower_bound = lower.or(options.lower_bound);
        options.upper_bound = upper.or(options.upper_bound);
        Range::new(self, options)
    }

    /// The entries whose keys begin with `prefix`. Errors as [`Keyspace::range`].
    pub fn prefix(&self, prefix: &[u8], options: &ReadOptions) -> Result<Range> {
        let mut options = options.clone();
        options.lower_bound = Some(prefix.to_vec());
        options.upper_bound = prefix_end(prefix);
        Range::new(self, options)
    }

    /// Adds `operand` to the value of `key`, with the default durability. See [`Keyspace::merge_with`].
    pub fn merge(&self, key: &[u8], operand: &[u8]) -> Result<()> {
        self.merge_with(key, operand, &WriteOptions::default())
    }

    /// Adds `operand` to the value of `key` as the keyspace's [merge operator](crate::MergeOperator) does it, without reading the value.
    ///
    /// # Errors
    /// As [`Keyspace::put_with`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for a keyspace without an operator. Whether the
    /// operator can do it shows when the key is read: [`Error::Merge`](crate::Error::Merge).
    ///
    /// # Cost
    /// That of a put. A read of the key puts together all operands since its last put; flushes and compactions make them one.
    #[inline]
    pub fn merge_with(&self, key: &[u8], operand: &[u8], options: &WriteOptions) -> Result<()> {
        let (engine, durability) = (&self.handle.engine, self.durability(options));
        engine.timed(Timed::Write, || {
            engine.write_one(Kind::Merge, self.id, key, operand, durability)
        })
    }

    /// Removes all keys of a range at once, with the default durability. See [`Keyspace::delete_range_with`].
    pub fn delete_range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Result<()> {
        self.delete_range_with(range, &WriteOptions::default())
    }

    /// Removes all keys of a range at once. An empty range removes nothing.
    ///
    /// # Errors
    /// As [`Keyspace::put_with`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for a range that ends before it begins.
    ///
    /// # Cost
    /// A write of the two bounds, however many keys lie between them. Tables that lie in the range are forgotten whole by the next compaction
    /// step; a reader passes what is left of it by one seek. The bounds are kept in memory (about 100 bytes and the keys) until the
    /// tables that they cut into have been rewritten; while there are any, a read of a key asks for it first.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let log = db.default_keyspace();
    /// for day in ["2026-01-01", "2026-01-02", "2026-01-03"] {
    ///     log.put(day.as_bytes(), b"...")?;
    /// }
    /// log.delete_range(.."2026-01-03".as_bytes())?;
    /// assert!(log.get(b"2026-01-02")?.is_none());
    /// assert!(log.get(b"2026-01-03")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_range_with<'k>(
        &self,
        range: impl RangeBounds<&'k [u8]>,
        options: &WriteOptions,
    ) -> Result<()> {
        let engine = &self.handle.engine;
        match range_to_delete(&range)? {
            Some((start, end)) => {
                let durability = self.durability(options);
                engine.timed(Timed::Write, || {
                    engine.write_range_delete(self.id, &start, &end, durability)
                })
            }
            None => engine.check_writable(),
        }
    }

    /// Has tables cut before each of these keys, in the place of the guard keys before: from now on no flush and no compaction writes a table that goes
    /// over one. So a range from one guard key to another is made of whole tables: it can be deleted, exported or moved without touching the neighbours'.
    /// Tables that are there go over a new guard key until they are rewritten: [`Keyspace::compact_range`] does that. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`](crate::Error::KeyTooLarge) for one that cannot be a key, [`Error::InvalidOption`](crate::Error::InvalidOption) for more than
    /// 65,536 of them or 4 MiB together: nothing is changed. Others as [`Keyspace::put_with`].
    ///
    /// # Cost
    /// One record of the manifest with all the keys. Each range between two keys has at least one table in each level that it has data in: keep ranges
    /// well above [`KeyspaceOptions::table_bytes`](crate::KeyspaceOptions::table_bytes) times the fanout.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// let keyspace = db.default_keyspace();
    /// keyspace.set_guard_keys(["a/", "b/", "c/"])?;
    /// keyspace.put(b"a/1", b"ann")?;
    /// keyspace.put(b"b/1", b"bob")?;
    /// db.flush()?;
    /// assert_eq!(db.stats().keyspaces[0].levels[0].files, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_guard_keys(&self, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<()> {
        let keys: Vec<_> = keys.into_iter().collect();
        let guards = GuardKeys::new(keys.iter().map(AsRef::as_ref))?;
        self.handle.engine.set_guards(self.id, guards)
    }

    /// The guard keys, ascending.
    pub fn guard_keys(&self) -> Vec<Vec<u8>> {
        let view = self.handle.engine.current.view();
        view.shape(self.id).map_or_else(Vec::new, |shape| shape.guards().keys().to_vec())
    }

    /// Writes a range as sorted files into `directory`, for [`ingest`](Keyspace::ingest) elsewhere: as it is now, or in the snapshot of
    /// `options`. The files are named 000001.sst and so on, in the order of their keys; none is made where there is nothing. The directory is made if
    /// needed. The files are durable when this returns.
    ///
    /// # Errors
    /// As [`Keyspace::cursor`] and the reads of a cursor; [`Error::Io`](crate::Error::Io) where a file of such a name is there already,
    /// [`Error::NoSpace`](crate::Error::NoSpace). What this call made is removed then.
    ///
    /// # Cost
    /// That of a scan and of writing tables: each of them is merged, compressed and written in the calling thread. Reads and writes go on. No log, no
    /// memtable and no block cache is involved; the tables of this moment are kept until it is done.
    ///
    /// ```
    /// use treering_lsm::{Db, IngestOptions, ReadOptions};
    /// # let home = tempfile::tempdir()?;
    /// # let path = |name: &str| home.path().join(name);
    /// let (here, there) = (Db::open(path("a"), Default::default())?, Db::open(path("b"), Default::default())?);
    /// here.put(b"oak", b"600 years")?;
    /// here.put(b"yew", b"2000 years")?;
    /// let files = here.default_keyspace().export(&b"p"[..].., path("files"), &ReadOptions::default())?;
    /// let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
    /// there.default_keyspace().ingest(&paths, &IngestOptions::default())?;
    /// assert!(there.get(b"yew")?.is_some() && there.get(b"oak")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export<'k>(
        &self,
        range: impl RangeBounds<&'k [u8]>,
        directory: impl AsRef<Path>,
        options: &ReadOptions,
    ) -> Result<Vec<SortedFile>> {
        let (lower, upper) = bounds_of(&range);
        let mut options = options.clone();
        options.lower_bound = lower.or(options.lower_bound);
        options.upper_bound = upper.or(options.upper_bound);
        self.handle.engine.export(self, directory.as_ref(), &options)
    }

    /// Takes sorted files in as tables, all at once or not at all, as if all their entries had been written in one batch now. Their entries win over
    /// what the keys had before; what else is in the keyspace stays. Returns the sequence number of the commit.
    ///
    /// The files are those of [`SortedFileWriter`](crate::SortedFileWriter) or [`Keyspace::export`], of any database. They are shared by hard links where
    /// the file system allows it, else copied, and may be removed afterwards.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) for files that overlap one another or that were not made for this,
    /// [`Error::Corruption`](crate::Error::Corruption) for damaged ones, [`Error::Io`](crate::Error::Io) where one cannot be read: nothing was
    /// changed. Others as [`Keyspace::put_with`].
    ///
    /// # Durability
    /// Durable when it returns, and with it everything that was committed before it but writes of class None.
    ///
    /// # Cost
    /// Each file is read once ([`IngestOptions::verify`](crate::IngestOptions)); nothing is written but a link, an edit of the manifest and a memtable that was begun. No
    /// compaction is needed where nothing in the keyspace lies between the keys of a file. Reads go on; writes wait for some milliseconds at the end, or for
    /// a flush if they go to the same keys.
    pub fn ingest(&self, files: &[impl AsRef<Path>], options: &IngestOptions) -> Result<u64> {
        let files: Vec<_> = files.iter().map(|file| file.as_ref().to_owned()).collect();
        self.handle.engine.ingest(self.id, &files, options)
    }

    /// Writes what is in memory to tables. All keyspaces are flushed together.
    ///
    /// # Errors
    /// The error of the flush; it is tried again in the background.
    pub fn flush(&self) -> Result<()> {
        self.handle.engine.flush_all()
    }

    /// Merges everything that meets `smallest..=largest` (`None`: all keys) into the last level and returns when done.
    ///
    /// Needs free space for a copy of what it merges. Runs in the calling thread; reads and writes go on.
    ///
    /// # Errors
    /// As a flush or a read of all tables concerned; nothing is changed then.
    pub fn compact_range(&self, range: Option<(&[u8], &[u8])>) -> Result<()> {
        self.handle.engine.compact_range(self.id, range)
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({})", self.id.0)
    }
}

/// The first key of a range, and the key after its last.
pub(crate) fn bounds_of<'k>(
    range: &impl RangeBounds<&'k [u8]>,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let after = |key: &[u8]| [key, &[0]].concat();
    let lower = match range.start_bound() {
        Bound::Included(key) => Some(key.to_vec()),
        Bound::Excluded(key) => Some(after(key)),
        Bound::Unbounded => None,
    };
    let upper = match range.end_bound() {
        Bound::Included(key) => Some(after(key)),
        Bound::Excluded(key) => Some(key.to_vec()),
        Bound::Unbounded => None,
    };
    (lower, upper)
}

/// The bounds of a range as a range delete has them: the first key, and the first that stays, empty without end. `None` for no keys.
pub(crate) fn range_to_delete<'k>(
    range: &impl RangeBounds<&'k [u8]>,
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (lower, upper) = bounds_of(range);
    // The smallest key there is.
    let start = lower.filter(|start| !start.is_empty()).unwrap_or_else(|| vec![0]);
    match upper {
        None => Ok(Some((start, Vec::new()))),
        Some(end) if start < end => Ok(Some((start, end))),
        Some(end) => {
            let is_empty = match (range.start_bound(), range.end_bound()) {
                (
                    Bound::Included(from) | Bound::Excluded(from),
                    Bound::Included(to) | Bound::Excluded(to),
                ) => from <= to,
                _ => true,
            };
            if is_empty {
                return Ok(None);
            }
            let detail = format!(
                "it ends at {:?}, before it begins at {:?}; give the smaller key first",
                end.escape_ascii().to_string(),
                start.escape_ascii().to_string()
            );
            Err(Error::invalid_option("range", detail))
        }
    }
}

/// The first key after all that begin with `prefix`; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_high_bytes_has_no_end() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
