//! Point reads: one key, and many keys whose blocks are read together.
//!
//! A read takes the view (one load, no lock, no shared counter) and then the visible sequence number. Memtables come
//! first, newest first; then the tables that may hold the key, with the filters of all candidates prefetched before the
//! first is probed.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::limits::LEVEL_COUNT;
use crate::base::perf;
use crate::base::slice::PinnedSlice;
use crate::db::block_reads::{Answer, BlockReads};
use crate::db::engine::Engine;
use crate::db::gather::{Base, Gather};
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
        let Some(shape) = view.shape(keyspace) else { return Err(self.dropped(keyspace)) };
        let mut gather = Gather::new(sequence, view.deleted(keyspace, key, sequence));
        if let Some(base) = look_in_memory(&view, keyspace, key, hash, &mut gather)? {
            return gather.end(shape.operator(), key, base);
        }
        let mut candidates = Candidates::new(shape, key, gather.deleted());
        loop {
            let readers = candidates.next_group(hash)?;
            for reader in readers.iter() {
                perf::count(|counts| counts.tables_considered += 1);
                if !reader.may_contain(hash) {
                    perf::count(|counts| counts.filter_negatives += 1);
                    continue;
                }
                if let Some(base) = gather.take(|bound| reader.get(key, hash, bound, fill_cache))? {
                    return gather.end(shape.operator(), key, base);
                }
                perf::count(|counts| counts.filter_false_positives += 1);
            }
            if candidates.done() {
                return gather.end(shape.operator(), key, None);
            }
        }
    }

    /// Where `get` finds the newest version that it may see; `None` if nowhere, or only in a range delete.
    pub(crate) fn locate(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: Option<SequenceNumber>,
    ) -> Result<Option<Place>> {
        self.health.check_open()?;
        let (view, sequence) = self.current.read(snapshot);
        let Some(shape) = view.shape(keyspace) else { return Err(self.dropped(keyspace)) };
        let deleted = view.deleted(keyspace, key, sequence);
        for (age, generation) in view.generations().enumerate() {
            let found = generation.memtable(keyspace).and_then(|m| m.get(key, sequence));
            if found.is_some_and(|(tag, _)| tag.sequence() >= deleted) {
                return Ok(Some(if age == 0 { Place::Memtable } else { Place::Frozen }));
            }
        }
        let hash = key_hash(key);
        let mut candidates = Candidates::new(shape, key, deleted);
        while let Some(reader) = candidates.next()? {
            if reader.may_contain(hash)
                && let Some((tag, _)) = reader.get(key, hash, sequence, false)?
                && tag.sequence() >= deleted
            {
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
        let Some(shape) = view.shape(keyspace) else {
            return keys.iter().map(|_| Err(self.dropped(keyspace))).collect();
        };
        let mut results: Vec<Result<Option<PinnedSlice>>> = keys.iter().map(|_| Ok(None)).collect();
        let hashes: Vec<u64> = keys.iter().map(|key| key_hash(key)).collect();
        for &hash in &hashes {
            view.generations().for_each(|generation| generation.prefetch(keyspace, hash));
        }
        let mut searches: Vec<Search<'_>> = Vec::with_capacity(keys.len());
        for (index, (key, &hash)) in keys.iter().zip(&hashes).enumerate() {
            let mut gather = Gather::new(sequence, view.deleted(keyspace, key, sequence));
            match look_in_memory(&view, keyspace, key, hash, &mut gather) {
                Ok(Some(base)) => results[index] = gather.end(shape.operator(), key, base),
                Ok(None) => {
                    let candidates = Candidates::new(shape, key, gather.deleted());
                    searches.push(Search {
                        index,
                        key,
                        hash,
                        candidates,
                        gather,
                        step: Step::Choose,
                    });
                }
                Err(error) => results[index] = Err(error),
            }
        }
        self.search_tables(&mut searches, fill_cache, &mut results);
        results
    }

    /// Takes every search to its end. Blocks that are not cached are read through one queue: the first reads are with the
    /// device while later keys still look, and a search that its block sends on asks for the next one at once.
    fn search_tables(
        &self,
        searches: &mut [Search<'_>],
        fill_cache: bool,
        results: &mut [Result<Option<PinnedSlice>>],
    ) {
        let mut reads: Option<BlockReads> = None;
        for first in (0..searches.len()).step_by(STRIDE) {
            let stride = first..searches.len().min(first + STRIDE);
            advance_together(&mut searches[stride.clone()], results);
            for at in stride {
                let Some((reader, handle)) = searches[at].wanted() else { continue };
                reads
                    .get_or_insert_with(|| BlockReads::new(&*self.environment.disk, searches.len()))
                    .want(reader, handle, at);
            }
            // What has come meanwhile, so that a call with very many keys does not hold all their buffers at once.
            let Some(reads) = &mut reads else { continue };
            while let Some(answer) = reads.take_ready() {
                take_answer(answer, searches, reads, fill_cache, results);
            }
        }
        let Some(mut reads) = reads else { return };
        while let Some(answer) = reads.wait() {
            take_answer(answer, searches, &mut reads, fill_cache, results);
        }
    }
}

/// Hands a block that was read to the searches that wait for it, and lets them go on.
fn take_answer(
    answer: Answer,
    searches: &mut [Search<'_>],
    reads: &mut BlockReads,
    fill_cache: bool,
    results: &mut [Result<Option<PinnedSlice>>],
) {
    let Answer { completion, waiters } = answer;
    let Some((reader, handle)) = searches[waiters[0]].wanted() else { return };
    let block = reader.admit(handle, completion, fill_cache);
    reads.done(reader, handle);
    for at in waiters {
        let search = &mut searches[at];
        search.take(block.as_ref().map_err(Error::clone), results);
        advance_together(std::slice::from_mut(search), results);
        if let Some((reader, handle)) = search.wanted() {
            reads.want(reader, handle, at);
        }
    }
}

/// `Some` if a memtable decides.
#[inline]
fn look_in_memory(
    view: &View,
    keyspace: KeyspaceId,
    key: &[u8],
    hash: u64,
    gather: &mut Gather,
) -> Result<Option<Base>> {
    for generation in view.generations() {
        if !generation.may_hold(keyspace, hash) {
            perf::count(|counts| counts.memtables_passed += 1);
            continue;
        }
        perf::count(|counts| counts.memtables_searched += 1);
        let Some(memtable) = generation.memtable(keyspace) else { continue };
        if let Some(base) = gather.take_memtable(memtable, key)? {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

/// Where a search through memory and cached blocks has come to.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The key is decided.
    Known(Option<PinnedSlice>),
    /// This block has to be read; the search goes on after its table.
    Wants(Arc<TableReader>, BlockHandle),
}

/// A search that can be left and taken up again, as long as its view is held.
#[derive(Debug)]
pub(crate) struct Progress {
    keyspace: KeyspaceId,
    hash: u64,
    /// What has been met; `None` before the memtables have been asked.
    gather: Option<Gather>,
    sequence: SequenceNumber,
    /// The next table to look at.
    level: usize,
    index: usize,
}

impl Progress {
    /// A search that has not begun.
    pub(crate) fn new(keyspace: KeyspaceId, hash: u64, sequence: SequenceNumber) -> Progress {
        Progress { keyspace, hash, gather: None, sequence, level: 0, index: 0 }
    }

    /// Goes on until the key is decided or a block is wanted that is not cached.
    ///
    /// # Errors
    /// Those of opening a table, or of a partition of its index, which is read here and now; of a merge operator.
    pub(crate) fn look(&mut self, view: &View, key: &[u8]) -> Result<Looked> {
        let (keyspace, hash) = (self.keyspace, self.hash);
        let Some(shape) = view.shape(keyspace) else { return Ok(Looked::Known(None)) };
        let gather = match &mut self.gather {
            Some(gather) => gather,
            none => {
                let deleted = view.deleted(keyspace, key, self.sequence);
                let gather = none.insert(Gather::new(self.sequence, deleted));
                if let Some(base) = look_in_memory(view, keyspace, key, hash, gather)? {
                    return gather.end(shape.operator(), key, base).map(Looked::Known);
                }
                gather
            }
        };
        let (level, index, deleted) = (self.level, self.index, gather.deleted());
        let mut candidates = Candidates { shape, key, level, index, deleted };
        loop {
            let Some(reader) = candidates.next()? else {
                return gather.end(shape.operator(), key, None).map(Looked::Known);
            };
            (self.level, self.index) = (candidates.level, candidates.index);
            if !reader.may_contain(hash) {
                continue;
            }
            let Some(handle) = reader.locate(key)? else { continue };
            let Some(block) = reader.cached(handle) else {
                return Ok(Looked::Wants(Arc::clone(reader), handle));
            };
            if let Some(base) = gather.take(|bound| TableReader::find(&block, key, hash, bound))? {
                return gather.end(shape.operator(), key, base).map(Looked::Known);
            }
        }
    }

    /// Takes the block that was wanted, and goes on.
    ///
    /// # Errors
    /// As [`Progress::look`], and of a damaged block.
    pub(crate) fn take(&mut self, block: &Arc<Block>, view: &View, key: &[u8]) -> Result<Looked> {
        if let Some(gather) = &mut self.gather
            && let Some(base) =
                gather.take(|bound| TableReader::find(block, key, self.hash, bound))?
        {
            let operator = view.shape(self.keyspace).and_then(|shape| shape.operator());
            return gather.end(operator, key, base).map(Looked::Known);
        }
        self.look(view, key)
    }
}

/// The tables of a shape that may hold a key, newest first.
#[derive(Debug)]
struct Candidates<'a> {
    shape: &'a Arc<Shape>,
    key: &'a [u8],
    level: usize,
    index: usize,
    /// The newest range delete over the key: tables with nothing newer cannot have it.
    deleted: SequenceNumber,
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
    fn new(shape: &'a Arc<Shape>, key: &'a [u8], deleted: SequenceNumber) -> Candidates<'a> {
        Candidates { shape, key, level: 0, index: 0, deleted }
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
                    if table.covers(self.key) && table.info().sequence_max >= self.deleted {
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
                && table.info().sequence_max >= self.deleted
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
fn advance_together(searches: &mut [Search<'_>], results: &mut [Result<Option<PinnedSlice>>]) {
    loop {
        let mut moved = false;
        for search in searches.iter_mut() {
            moved |= search.advance(results);
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
    gather: Gather,
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
    /// No older table has the key.
    End,
    Done,
}

impl<'a> Search<'a> {
    /// The block that it needs next and that is not cached.
    fn wanted(&self) -> Option<(&'a Arc<TableReader>, BlockHandle)> {
        match self.step {
            Step::Wait(reader, handle) => Some((reader, handle)),
            _ => None,
        }
    }

    /// Goes on by one step; false if there is none without a block that must be read.
    #[inline]
    fn advance(&mut self, results: &mut [Result<Option<PinnedSlice>>]) -> bool {
        let next = match &self.step {
            Step::Wait(..) | Step::Done => return false,
            Step::Find(block) => {
                let block = Arc::clone(block);
                self.take(Ok(&block), results);
                return true;
            }
            Step::End => {
                results[self.index] = self.end(None);
                Ok(Step::Done)
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
        let Some(reader) = self.candidates.next()? else { return Ok(Step::End) };
        reader.prefetch_filter(self.hash);
        Ok(Step::Filter(reader))
    }

    /// Takes what a block says about the key.
    fn take(&mut self, block: Result<&Arc<Block>>, results: &mut [Result<Option<PinnedSlice>>]) {
        let (key, hash, gather) = (self.key, self.hash, &mut self.gather);
        let found =
            block.and_then(|block| gather.take(|bound| TableReader::find(block, key, hash, bound)));
        self.step = Step::Done;
        match found {
            Ok(None) => self.step = Step::Choose,
            Ok(Some(base)) => results[self.index] = self.end(base),
            Err(error) => results[self.index] = Err(error),
        }
    }

    fn end(&mut self, base: Base) -> Result<Option<PinnedSlice>> {
        self.gather.end(self.candidates.shape.operator(), self.key, base)
    }
}
