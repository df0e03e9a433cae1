//! Point reads: one key, and many keys whose blocks are read together.
//!
//! A read takes the view (one load, no lock, no shared counter) and then the visible sequence number. Memtables come
//! first, newest first; then the tables that may hold the key, with the filters of all candidates prefetched before the
//! first is probed.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, Kind, SequenceNumber, Tag};
use crate::base::limits::LEVEL_COUNT;
use crate::base::perf;
use crate::base::slice::PinnedSlice;
use crate::db::block_reads::{Answer, BlockReads};
use crate::db::engine::Engine;
use crate::file::table_reader::{BlockHandle, TableReader};
use crate::format::block::Block;
use crate::version::shape::Shape;
use crate::version::view::View;
use std::sync::Arc;

/// Tables looked at together: their filters are prefetched in one go.
const CANDIDATES_MAX: usize = 16;
/// Searches of one multi_get that go on together: enough for the CPU's outstanding misses.
const STRIDE: usize = 32;

/// Where a read of a key is decided, by a value or a tombstone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The memtable that takes writes.
    Memtable,
    /// A memtable that waits for its flush.
    Frozen,
    /// A table of this level, 0 to 6.
    Level(usize),
}

impl Engine {
    pub(crate) fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: Option<SequenceNumber>,
        fill_cache: bool,
    ) -> Result<Option<PinnedSlice>> {
        self.health.check_open()?;
        let (view, sequence) = self.current.read(snapshot);
        let hash = key_hash(key);
        if let Some(found) = get_from_memory(&view, keyspace, key, hash, sequence) {
            return Ok(found);
        }
        let Some(shape) = view.shape(keyspace) else { return Ok(None) };
        let mut candidates = Candidates::new(shape, key);
        loop {
            let readers = candidates.next_group(hash)?;
            for reader in readers.iter() {
                perf::count(|counts| counts.tables_considered += 1);
                if !reader.may_contain(hash) {
                    perf::count(|counts| counts.filter_negatives += 1);
                    continue;
                }
                if let Some((tag, value)) = reader.get(key, hash, sequence, fill_cache)? {
                    return Ok(value_of(tag, value));
                }
                perf::count(|counts| counts.filter_false_positives += 1);
            }
            if candidates.done() {
                return Ok(None);
            }
        }
    }

    /// Where `get` finds the newest version that it may see; `None` if nowhere.
    pub(crate) fn locate(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: Option<SequenceNumber>,
    ) -> Result<Option<Place>> {
        self.health.check_open()?;
        let (view, sequence) = self.current.read(snapshot);
        for (age, generation) in view.generations().enumerate() {
            let memtable = generation.memtable(keyspace);
            if memtable.is_some_and(|memtable| memtable.get(key, sequence).is_some()) {
                return Ok(Some(if age == 0 { Place::Memtable } else { Place::Frozen }));
            }
        }
        let Some(shape) = view.shape(keyspace) else { return Ok(None) };
        let hash = key_hash(key);
        let mut candidates = Candidates::new(shape, key);
        while let Some(reader) = candidates.next()? {
            if reader.may_contain(hash) && reader.get(key, hash, sequence, false)?.is_some() {
                // Below L0 the search has already moved on to the next level.
                return Ok(Some(Place::Level(candidates.level.saturating_sub(1))));
            }
        }
        Ok(None)
    }

    pub(crate) fn multi_get(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        snapshot: Option<SequenceNumber>,
        fill_cache: bool,
    ) -> Vec<Result<Option<PinnedSlice>>> {
        if let Err(closed) = self.health.check_open() {
            return keys.iter().map(|_| Err(closed.clone())).collect();
        }
        let (view, sequence) = self.current.read(snapshot);
        let shape = view.shape(keyspace);
        let mut results: Vec<Result<Option<PinnedSlice>>> = keys.iter().map(|_| Ok(None)).collect();
        let hashes: Vec<u64> = keys.iter().map(|key| key_hash(key)).collect();
        for &hash in &hashes {
            view.generations().for_each(|generation| generation.prefetch(keyspace, hash));
        }
        let mut searches: Vec<Search<'_>> = Vec::with_capacity(keys.len());
        for (index, (key, &hash)) in keys.iter().zip(&hashes).enumerate() {
            match get_from_memory(&view, keyspace, key, hash, sequence) {
                Some(found) => results[index] = Ok(found),
                None => searches.extend(shape.map(|shape| Search::new(index, key, hash, shape))),
            }
        }
        self.search_tables(&mut searches, sequence, fill_cache, &mut results);
        results
    }

    /// Takes every search to its end. Blocks that are not cached are read through one queue: the first reads are with the
    /// device while later keys still look, and a search that its block sends on asks for the next one at once.
    fn search_tables(
        &self,
        searches: &mut [Search<'_>],
        sequence: SequenceNumber,
        fill_cache: bool,
        results: &mut [Result<Option<PinnedSlice>>],
    ) {
        let mut reads: Option<BlockReads> = None;
        for first in (0..searches.len()).step_by(STRIDE) {
            let stride = first..searches.len().min(first + STRIDE);
            advance_together(&mut searches[stride.clone()], sequence, results);
            for at in stride {
                let Some((reader, handle)) = searches[at].wanted() else { continue };
                reads
                    .get_or_insert_with(|| BlockReads::new(&*self.environment.disk, searches.len()))
                    .want(reader, handle, at);
            }
            // What has come meanwhile, so that a call with very many keys does not hold all their buffers at once.
            let Some(reads) = &mut reads else { continue };
            while let Some(answer) = reads.take_ready() {
                take_answer(answer, searches, reads, sequence, fill_cache, results);
            }
        }
        let Some(mut reads) = reads else { return };
        while let Some(answer) = reads.wait() {
            take_answer(answer, searches, &mut reads, sequence, fill_cache, results);
        }
    }
}

/// Hands a block that was read to the searches that wait for it, and lets them go on.
fn take_answer(
    answer: Answer,
    searches: &mut [Search<'_>],
    reads: &mut BlockReads,
    sequence: SequenceNumber,
    fill_cache: bool,
    results: &mut [Result<Option<PinnedSlice>>],
) {
    let Answer { completion, waiters } = answer;
    let Some((reader, handle)) = searches[waiters[0]].wanted() else { return };
    let block = reader.admit(handle, completion, fill_cache);
    reads.done(reader, handle);
    for at in waiters {
        let search = &mut searches[at];
        let found = block.as_ref().map_err(Error::clone);
        let found =
            found.and_then(|block| TableReader::find(block, search.key, search.hash, sequence));
        search.take(found, results);
        advance_together(std::slice::from_mut(search), sequence, results);
        if let Some((reader, handle)) = search.wanted() {
            reads.want(reader, handle, at);
        }
    }
}

/// `Some` if a memtable decides: a value, or a tombstone (`Some(None)`).
#[inline]
fn get_from_memory(
    view: &View,
    keyspace: KeyspaceId,
    key: &[u8],
    hash: u64,
    sequence: SequenceNumber,
) -> Option<Option<PinnedSlice>> {
    for generation in view.generations() {
        if !generation.may_hold(keyspace, hash) {
            perf::count(|counts| counts.memtables_passed += 1);
            continue;
        }
        perf::count(|counts| counts.memtables_searched += 1);
        let Some(memtable) = generation.memtable(keyspace) else { continue };
        if let Some((tag, value)) = memtable.get(key, sequence) {
            return Some(match tag.kind() {
                // SAFETY: the bytes live in the memtable's arena, where entries never change, until the last Arc goes.
                Kind::Put => Some(unsafe { PinnedSlice::new(memtable.clone(), value) }),
                Kind::Delete => None,
            });
        }
    }
    None
}

#[inline]
fn value_of(tag: Tag, value: PinnedSlice) -> Option<PinnedSlice> {
    match tag.kind() {
        Kind::Put => Some(value),
        Kind::Delete => None,
    }
}

/// Where a search through memory and cached blocks has come to.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The key is decided.
    Known(Option<PinnedSlice>),
    /// This block has to be read; the search goes on after its table.
    Wants(Arc<TableReader>, BlockHandle),
}

impl Looked {
    /// The end of a search that met a version.
    pub(crate) fn found((tag, value): (Tag, PinnedSlice)) -> Looked {
        Looked::Known(value_of(tag, value))
    }
}

/// A search that can be left and taken up again, as long as its view is held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The memtables have been asked; then the next table to look at.
    begun: bool,
    level: usize,
    index: usize,
}

impl Progress {
    /// Goes on until the key is decided or a block is wanted that is not cached.
    ///
    /// # Errors
    /// Those of opening a table, or of a partition of its index, which is read here and now.
    pub(crate) fn look(
        &mut self,
        view: &View,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        sequence: SequenceNumber,
    ) -> Result<Looked> {
        if !std::mem::replace(&mut self.begun, true)
            && let Some(found) = get_from_memory(view, keyspace, key, hash, sequence)
        {
            return Ok(Looked::Known(found));
        }
        let Some(shape) = view.shape(keyspace) else { return Ok(Looked::Known(None)) };
        let mut candidates = Candidates { shape, key, level: self.level, index: self.index };
        loop {
            let Some(reader) = candidates.next()? else { return Ok(Looked::Known(None)) };
            (self.level, self.index) = (candidates.level, candidates.index);
            if !reader.may_contain(hash) {
                continue;
            }
            let Some(handle) = reader.locate(key)? else { continue };
            let Some(block) = reader.cached(handle) else {
                return Ok(Looked::Wants(Arc::clone(reader), handle));
            };
            if let Some(found) = TableReader::find(&block, key, hash, sequence)? {
                return Ok(Looked::found(found));
            }
        }
    }
}

/// The tables of a shape that may hold a key, newest first.
#[derive(Debug)]
struct Candidates<'a> {
    shape: &'a Arc<Shape>,
    key: &'a [u8],
    level: usize,
    index: usize,
}

/// Up to [`CANDIDATES_MAX`] readers.
struct Readers<'a> {
    list: [Option<&'a Arc<TableReader>>; CANDIDATES_MAX],
    count: usize,
}

impl<'a> Readers<'a> {
    #[inline]
    fn iter(&self) -> impl Iterator<Item = &'a Arc<TableReader>> {
        self.list[..self.count].iter().flatten().copied()
    }
}

impl<'a> Candidates<'a> {
    fn new(shape: &'a Arc<Shape>, key: &'a [u8]) -> Candidates<'a> {
        Candidates { shape, key, level: 0, index: 0 }
    }

    #[inline]
    fn done(&self) -> bool {
        self.level >= LEVEL_COUNT
    }

    /// The next table that may hold the key by its key range.
    #[inline]
    fn next(&mut self) -> Result<Option<&'a Arc<TableReader>>> {
        while self.level == 0 {
            match self.shape.level(0).tables().get(self.index) {
                Some(table) => {
                    self.index += 1;
                    if table.covers(self.key) {
                        return table.reader().map(Some);
                    }
                }
                None => self.level = 1,
            }
        }
        while self.level < LEVEL_COUNT {
            let level = self.shape.level(self.level);
            self.level += 1;
            if !level.is_empty()
                && let Some(table) = level.find(self.key)
            {
                return table.reader().map(Some);
            }
        }
        Ok(None)
    }

    /// The next few, with their filters on the way into the CPU's cache.
    #[inline]
    fn next_group(&mut self, hash: u64) -> Result<Readers<'a>> {
        let mut readers = Readers { list: [None; CANDIDATES_MAX], count: 0 };
        while readers.count < CANDIDATES_MAX {
            let Some(reader) = self.next()? else { break };
            reader.prefetch_filter(hash);
            readers.list[readers.count] = Some(reader);
            readers.count += 1;
        }
        Ok(readers)
    }
}

/// Takes every search on to its end or to a block that is not cached, all of them one step at a time. Each step asks the CPU for what the
/// next one looks at, so that the misses of many keys run at once: a lone search waits for one after the other.
fn advance_together(
    searches: &mut [Search<'_>],
    sequence: SequenceNumber,
    results: &mut [Result<Option<PinnedSlice>>],
) {
    loop {
        let mut moved = false;
        for search in searches.iter_mut() {
            moved |= search.advance(sequence, results);
        }
        if !moved {
            return;
        }
    }
}

/// One key of a multi_get on its way through the tables.
#[derive(Debug)]
struct Search<'a> {
    /// Where its result goes.
    index: usize,
    key: &'a [u8],
    hash: u64,
    candidates: Candidates<'a>,
    step: Step<'a>,
}

/// What a search does next.
#[derive(Debug)]
enum Step<'a> {
    /// Take the next table that may hold the key by its key range.
    Choose,
    /// Ask its filter.
    Filter(&'a Arc<TableReader>),
    /// Find the block in its index.
    Locate(&'a Arc<TableReader>),
    /// Find the block's address in the cache.
    Approach(&'a Arc<TableReader>, BlockHandle),
    /// Take the block from the cache.
    Look(&'a Arc<TableReader>, BlockHandle),
    /// Search the block.
    Find(Arc<Block>),
    /// The block is not cached: somebody has to read it.
    Wait(&'a Arc<TableReader>, BlockHandle),
    Done,
}

impl<'a> Search<'a> {
    fn new(index: usize, key: &'a [u8], hash: u64, shape: &'a Arc<Shape>) -> Search<'a> {
        Search { index, key, hash, candidates: Candidates::new(shape, key), step: Step::Choose }
    }

    /// The block that it needs next and that is not cached.
    fn wanted(&self) -> Option<(&'a Arc<TableReader>, BlockHandle)> {
        match self.step {
            Step::Wait(reader, handle) => Some((reader, handle)),
            _ => None,
        }
    }

    /// Goes on by one step; false if there is none without a block that must be read.
    #[inline]
    fn advance(
        &mut self,
        sequence: SequenceNumber,
        results: &mut [Result<Option<PinnedSlice>>],
    ) -> bool {
        let next = match &self.step {
            Step::Wait(..) | Step::Done => return false,
            Step::Find(block) => {
                let found = TableReader::find(block, self.key, self.hash, sequence);
                self.take(found, results);
                return true;
            }
            Step::Choose => self.choose(),
            Step::Filter(reader) if !reader.may_contain(self.hash) => self.choose(),
            Step::Filter(reader) => {
                reader.prefetch_index(self.key);
                Ok(Step::Locate(reader))
            }
            Step::Locate(reader) => match reader.locate(self.key) {
                Ok(Some(handle)) => {
                    reader.prefetch_place(handle);
                    Ok(Step::Approach(reader, handle))
                }
                Ok(None) => self.choose(),
                Err(error) => Err(error),
            },
            Step::Approach(reader, handle) => {
                reader.prefetch_cached(*handle);
                Ok(Step::Look(reader, *handle))
            }
            Step::Look(reader, handle) => match reader.cached(*handle) {
                Some(block) => {
                    block.prefetch_columns();
                    Ok(Step::Find(block))
                }
                None => Ok(Step::Wait(reader, *handle)),
            },
        };
        self.step = next.unwrap_or_else(|error| {
            results[self.index] = Err(error);
            Step::Done
        });
        true
    }

    #[inline]
    fn choose(&mut self) -> Result<Step<'a>> {
        let Some(reader) = self.candidates.next()? else { return Ok(Step::Done) };
        reader.prefetch_filter(self.hash);
        Ok(Step::Filter(reader))
    }

    /// Takes what a block said about the key.
    fn take(
        &mut self,
        found: Result<Option<(Tag, PinnedSlice)>>,
        results: &mut [Result<Option<PinnedSlice>>],
    ) {
        self.step = Step::Done;
        match found {
            Ok(None) => self.step = Step::Choose,
            Ok(Some((tag, value))) => results[self.index] = Ok(value_of(tag, value)),
            Err(error) => results[self.index] = Err(error),
        }
    }
}
