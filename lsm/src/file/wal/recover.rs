//! Reading a log back after the process or the power went.
//!
//! Each fragment is looked for in the segment that covers its LSN, in the ring, and across both: the blocks that had
//! left the ring when the process died may end in the middle of a fragment. After a power cut each page of the ring
//! may be new, old or gone. Epoch and LSN are in the checksum, so whatever validates is right, wherever it stands. The
//! chain of fragments from the start to the first place where nothing validates is the log.
//!
//! Whether that place is a torn tail or damage, the promises say: each sync mark and the ring's header name an LSN below
//! which everything was durable, and so may the caller, from the manifest. All marks count, also those behind the end
//! of the chain; they are looked for at every byte, for the fragments before them may be gone.
//!
//! What is not found is lost for good, for the next log begins where this one ends. So all files are read once more
//! before a place counts as the end: a bit that was read wrong is not the end of a log that nobody had synced yet.
//!
//! Promises: 1. Nothing on disk is changed, so recovering again gives the same. 2. Memory is bounded by the ring, a window
//! of [`WINDOW_BYTES`] and the longest record whose fragments validated. 3. Damaged bytes give an error or an end,
//! never a panic.

pub mod walk;

use super::LogStart;
use super::log::{
    Assembler, FRAGMENT_HEADER_BYTES, FRAME_BYTES, Fragment, FragmentKind, HeaderError,
    LOG_HEADER_BYTES, Lsn, Record, RingHeader, SegmentHeader, decode_fragment, decode_promise,
    find_promise, frame_ceil, frame_left,
};
use crate::base::error::{Error, Result};
use crate::base::limits::{FORMAT_VERSION, IO_ALIGN};
use crate::base::planted::{Bug, planted};
use crate::file::name::{self, FileKind};
use crate::io::{AlignedBuffer, Disk, File, OpenMode, read_full};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a segment that are read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// A ring file that claims more is not believed.
const RING_BYTES_MAX: u64 = 1 << 31;
/// Laps of the ring that are tried for a mark behind the end of the chain.
const LAPS_MAX: u64 = 1 << 12;

const FRAME: u64 = FRAME_BYTES as u64;

/// Takes a recovered record: sequence number, count of operations, batch.
pub type Apply<'a> = dyn FnMut(u64, u32, &[u8]) -> Result<()> + 'a;

/// What [`recover`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// End of the last complete record.
    pub end_lsn: Lsn,
    /// No byte of the log stands at or above this; the next log begins here or later.
    pub max_lsn: Lsn,
    /// Numbers of all segment files, for reuse once the manifest no longer needs them.
    pub slots: Vec<u64>,
    /// Records given to `apply`.
    pub records: u64,
    /// Their batch bytes.
    pub bytes: u64,
    /// Something that nobody was promised is lost: an unfinished record, or valid bytes behind the end.
    pub torn_tail: bool,
}

/// Reads the log that begins at `start` and gives each record, in order, to `apply` (sequence, count, batch).
///
/// `promised` is an LSN that is known to have been durable, from outside the log (0 if none): a log that ends before it is
/// damaged. Without it a log whose files are all gone cannot be told from an empty one.
///
/// # Errors
/// [`Error::Corruption`] if something promised is missing or damaged, records may have been applied by then; or if a file of the
/// log is of a later run than `start`.
/// [`Error::NewerFormat`]. [`Error::Io`]. Whatever `apply` returns.
pub fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    start: LogStart,
    promised: Lsn,
    apply: &mut Apply<'_>,
) -> Result<Recovered> {
    let mut source = Source::open(&**disk, directory, start.epoch)?;
    let mut lsn = frame_ceil(start.lsn);
    let mut found = Recovered { end_lsn: lsn, slots: source.slots.clone(), ..Default::default() };
    let mut promised = promised.max(source.promise);
    let mut assembler = Assembler::default();
    // Behind a seal, and at the start, a segment begins.
    let mut begins = true;
    let mut read_again_at = None;
    loop {
        if frame_left(lsn) < FRAGMENT_HEADER_BYTES {
            lsn = frame_ceil(lsn);
        }
        let hit = match source.find(lsn)? {
            Some(hit) => hit,
            None if read_again_at == Some(lsn) => break,
            None => {
                read_again_at = Some(lsn);
                drop(source);
                source = Source::open(&**disk, directory, start.epoch)?;
                promised = promised.max(source.promise);
                continue;
            }
        };
        let fragment = source.fragment(&hit);
        promised = promised.max(fragment.promise().unwrap_or(0));
        let next = Some(fragment.kind);
        let damaged = |detail| source.place(lsn, false).damaged(detail);
        settle(assembler.settle(next).map_err(damaged)?, &mut found, apply)?;
        assembler.push(fragment).map_err(damaged)?;
        lsn += fragment.total_bytes() as u64;
        begins = fragment.kind == FragmentKind::Seal;
        if begins {
            lsn = frame_ceil(lsn);
        }
        if !assembler.is_open() {
            found.end_lsn = lsn;
        }
    }
    let place = source.place(lsn, begins);
    let last = assembler.settle(None).map_err(|detail| place.damaged(detail))?;
    settle(last, &mut found, apply)?;

    found.max_lsn = source.bound(lsn.max(promised));
    let behind = source.search_behind(lsn, found.max_lsn)?;
    promised = promised.max(behind.promise);
    if promised > lsn && !planted(Bug::PromiseIgnored) {
        let detail = format!(
            "the log ends at LSN {lsn}, but everything below LSN {promised} was acknowledged as durable"
        );
        return Err(place.damaged(detail));
    }
    found.torn_tail = assembler.is_open() || behind.fragments;
    Ok(found)
}

fn settle(record: Option<Record<'_>>, found: &mut Recovered, apply: &mut Apply<'_>) -> Result<()> {
    if let Some(Record { sequence, count, batch }) = record {
        found.records += 1;
        found.bytes += batch.len() as u64;
        apply(sequence, count, batch)?;
    }
    Ok(())
}

/// A place in a file, for errors.
struct Place {
    path: PathBuf,
    offset: u64,
}

impl Place {
    fn damaged(&self, detail: impl Into<String>) -> Error {
        Error::corruption(&self.path, self.offset, detail)
    }
}

/// What stands behind the end of the chain.
struct Behind {
    promise: Lsn,
    fragments: bool,
}

/// Which copy of a frame.
#[derive(Clone, Copy, Debug)]
enum Held {
    Segment,
    Ring,
    /// The beginning from the segment, the rest from the ring.
    Mixed,
}

/// A fragment that validated, and where.
struct Hit {
    held: Held,
    frame: Lsn,
    kind: FragmentKind,
    /// In the frame.
    payload: Range<usize>,
}

struct Segment {
    header: SegmentHeader,
    file: Arc<dyn File>,
}

impl Segment {
    fn end(&self) -> Lsn {
        self.header.base + self.header.capacity
    }
}

/// All places where bytes of the log may stand.
struct Source {
    epoch: u64,
    directory: PathBuf,
    slots: Vec<u64>,
    /// Those of our epoch, by base.
    segments: Vec<Segment>,
    /// A segment file that is not empty and whose header does not validate.
    unreadable: Option<PathBuf>,
    /// The ring's bytes; empty if it is not of our epoch.
    ring: Vec<u8>,
    /// Promise of the ring's header, or 0.
    promise: Lsn,
    /// Bytes of one segment: its index, the LSN of the first byte.
    window: AlignedBuffer,
    window_at: Option<(usize, Lsn)>,
    /// A frame put together from segment and ring.
    mixed: Vec<u8>,
}

impl Source {
    fn open(disk: &dyn Disk, directory: &Path, epoch: u64) -> Result<Source> {
        let names = disk.list(directory).map_err(|error| Error::io("list", directory, error))?;
        let mut source = Source {
            epoch,
            directory: directory.to_owned(),
            slots: Vec::new(),
            segments: Vec::new(),
            unreadable: None,
            ring: Vec::new(),
            promise: 0,
            window: AlignedBuffer::zeroed(0),
            window_at: None,
            mixed: Vec::new(),
        };
        for kind in names.iter().filter_map(|text| name::parse(text)) {
            match kind {
                FileKind::Wal(slot) => source.open_segment(disk, slot)?,
                FileKind::Ring => source.open_ring(disk)?,
                _ => {}
            }
        }
        source.segments.sort_by_key(|segment| segment.header.base);
        if let Some(longest) = source.segments.iter().map(|segment| segment.header.capacity).max() {
            source.window = AlignedBuffer::zeroed(longest.min(WINDOW_BYTES as u64) as usize);
        }
        Ok(source)
    }

    fn open_segment(&mut self, disk: &dyn Disk, slot: u64) -> Result<()> {
        self.slots.push(slot);
        let path = name::wal(&self.directory, slot);
        // Past the page cache: after a failed sync it may hold what the device does not.
        let file = disk.open(&path, OpenMode::READ_DIRECT);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        let mut block = AlignedBuffer::zeroed(LOG_HEADER_BYTES);
        let count = read_full(&*file, 0, &mut block);
        let count = count.map_err(|error| Error::io("read", &path, error))?;
        match SegmentHeader::decode(slot, &block[..count]) {
            Ok(header) if header.epoch > self.epoch => {
                return Err(self.too_new(&path, header.epoch));
            }
            Ok(header) if header.epoch == self.epoch => {
                self.segments.push(Segment { header, file });
            }
            Err(HeaderError::Newer(version)) => return Err(newer(path, version)),
            Err(HeaderError::Invalid) if !is_zero(&block) => self.unreadable = Some(path),
            Ok(_) | Err(HeaderError::Invalid) => {}
        }
        Ok(())
    }

    fn open_ring(&mut self, disk: &dyn Disk) -> Result<()> {
        let path = self.directory.join(name::RING);
        let failed = |error| Error::io("read", &path, error);
        // Through the page cache: that is where the stores of a killed process are.
        let file = disk.open(&path, OpenMode::READ).map_err(failed)?;
        let mut block = vec![0; LOG_HEADER_BYTES];
        let count = read_full(&*file, 0, &mut block).map_err(failed)?;
        let header = match RingHeader::decode(&block[..count]) {
            Ok(header) => header,
            Err(HeaderError::Newer(version)) => return Err(newer(path, version)),
            Err(HeaderError::Invalid) => return Ok(()),
        };
        if header.epoch > self.epoch {
            return Err(self.too_new(&path, header.epoch));
        }
        let size = file.size().map_err(failed)?.saturating_sub(LOG_HEADER_BYTES as u64);
        if planted(Bug::RingNotRead) {
            return Ok(());
        }
        if header.epoch == self.epoch && header.capacity <= size.min(RING_BYTES_MAX) {
            self.ring = vec![0; header.capacity as usize];
            let count = read_full(&*file, LOG_HEADER_BYTES as u64, &mut self.ring);
            count.map_err(failed)?;
            self.promise = decode_promise(self.epoch, &block).unwrap_or(0);
        }
        Ok(())
    }

    /// A run's epoch is in a durable manifest before anything is written under it.
    fn too_new(&self, path: &Path, epoch: u64) -> Error {
        let detail = format!(
            "{} is of run {epoch}, but the manifest that is named here knows only of run {}",
            path.display(),
            self.epoch
        );
        Error::corruption(&self.directory.join(name::CURRENT), 0, detail)
    }

    /// Index of the segment that covers `lsn`: the newest that begins at or below it.
    fn covering(&self, lsn: Lsn) -> Option<usize> {
        let index = self.segments.partition_point(|segment| segment.header.base <= lsn);
        index.checked_sub(1).filter(|&index| lsn < self.segments[index].end())
    }

    /// Where the byte at `lsn` stands, or should; if a segment `begins` there, it is in no earlier one.
    fn place(&self, lsn: Lsn, begins: bool) -> Place {
        let covering = self.covering(lsn);
        let right = |index: &usize| !begins || self.segments[*index].header.base == lsn;
        if let Some(index) = covering.filter(right) {
            let Segment { header, file } = &self.segments[index];
            let offset = LOG_HEADER_BYTES as u64 + (lsn - header.base);
            Place { path: file.path().to_owned(), offset }
        } else if let Some(path) = &self.unreadable {
            // Nothing says that it is this one, but nothing else is known to be wrong.
            Place { path: path.clone(), offset: 0 }
        } else if let Some(lap) = lsn.checked_rem(self.ring.len() as u64) {
            let offset = LOG_HEADER_BYTES as u64 + lap;
            Place { path: self.directory.join(name::RING), offset }
        } else {
            Place { path: self.directory.clone(), offset: 0 }
        }
    }

    /// No log byte of this run stands at or above the result, if none stands unseen above `seen`.
    fn bound(&self, seen: Lsn) -> Lsn {
        let end = self.segments.iter().map(Segment::end).fold(seen, Lsn::max);
        frame_ceil(end + self.ring.len() as u64)
    }

    /// Looks for the fragment at `lsn`.
    fn find(&mut self, lsn: Lsn) -> Result<Option<Hit>> {
        let frame = lsn - lsn % FRAME;
        self.load(frame)?;
        let whole = self.look(Held::Segment, lsn).or_else(|| self.look(Held::Ring, lsn));
        if whole.is_some() || self.ring.is_empty() {
            return Ok(whole);
        }
        // Block after block from the segment, the rest from the ring.
        self.mixed = self.ring_frame(frame).to_vec();
        for block in (0..FRAME_BYTES).step_by(IO_ALIGN) {
            let mut mixed = std::mem::take(&mut self.mixed);
            let taken = self.loaded(frame).get(block..block + IO_ALIGN);
            let taken = taken.map(|bytes| mixed[block..block + IO_ALIGN].copy_from_slice(bytes));
            self.mixed = mixed;
            let hit = taken.and_then(|()| self.look(Held::Mixed, lsn));
            if taken.is_none() || hit.is_some() {
                return Ok(hit);
            }
        }
        Ok(None)
    }

    fn look(&self, held: Held, lsn: Lsn) -> Option<Hit> {
        let start = (lsn % FRAME) as usize;
        let frame = lsn - lsn % FRAME;
        let bytes = self.bytes(held, frame).get(start..)?;
        let fragment = decode_fragment(self.epoch, lsn, bytes)?;
        let start = start + FRAGMENT_HEADER_BYTES;
        let payload = start..start + fragment.payload.len();
        Some(Hit { held, frame, kind: fragment.kind, payload })
    }

    /// The bytes of a frame, as far as they are there.
    fn bytes(&self, held: Held, frame: Lsn) -> &[u8] {
        match held {
            Held::Segment => self.loaded(frame),
            Held::Ring => self.ring_frame(frame),
            Held::Mixed => &self.mixed,
        }
    }

    /// What [`find`](Source::find) found, until it is called again.
    fn fragment(&self, hit: &Hit) -> Fragment<'_> {
        let bytes = self.bytes(hit.held, hit.frame);
        Fragment { kind: hit.kind, payload: &bytes[hit.payload.clone()] }
    }

    /// Brings the segment bytes of the frame at `frame` into the window, if there are any.
    fn load(&mut self, frame: Lsn) -> Result<()> {
        let Some(index) = self.covering(frame) else {
            self.window_at = None;
            return Ok(());
        };
        if let Some((at, from)) = self.window_at
            && at == index
            && (from..from + WINDOW_BYTES as u64).contains(&frame)
        {
            return Ok(());
        }
        let Segment { header, file } = &self.segments[index];
        self.window.set_length(WINDOW_BYTES.min((header.base + header.capacity - frame) as usize));
        let offset = LOG_HEADER_BYTES as u64 + (frame - header.base);
        let count = read_full(&**file, offset, &mut self.window);
        let count = count.map_err(|error| Error::io("read", file.path(), error))?;
        self.window.set_length(count);
        self.window_at = Some((index, frame));
        Ok(())
    }

    /// The segment bytes of a loaded frame: fewer than a frame where the file ends.
    fn loaded(&self, frame: Lsn) -> &[u8] {
        let Some((_, from)) = self.window_at else { return &[] };
        let start = ((frame - from) as usize).min(self.window.len());
        &self.window[start..self.window.len().min(start + FRAME_BYTES)]
    }

    fn ring_frame(&self, frame: Lsn) -> &[u8] {
        match frame.checked_rem(self.ring.len() as u64) {
            Some(offset) => &self.ring[offset as usize..offset as usize + FRAME_BYTES],
            None => &[],
        }
    }

    /// Looks for sync marks, and for any sign that the log went on, from `end` up to `bound`.
    fn search_behind(&mut self, end: Lsn, bound: Lsn) -> Result<Behind> {
        let mut behind = Behind { promise: 0, fragments: false };
        let first = end - end % FRAME;
        for index in 0..self.segments.len() {
            let mut frame = first.max(self.segments[index].header.base);
            // A later segment takes over where it begins.
            while self.covering(frame) == Some(index) {
                self.load(frame)?;
                if self.loaded(frame).is_empty() {
                    break;
                }
                self.search_frame(self.loaded(frame), &[frame], end, &mut behind);
                frame += FRAME;
            }
        }
        for offset in (0..self.ring.len() as u64).step_by(FRAME_BYTES) {
            let lap = self.ring.len() as u64;
            let start = first + (offset + lap - first % lap) % lap;
            let frames = (0..LAPS_MAX).map(|n| start + n * lap).take_while(|&at| at < bound);
            let frames: Vec<Lsn> = frames.collect();
            self.search_frame(self.ring_frame(offset), &frames, end, &mut behind);
        }
        Ok(behind)
    }

    /// Looks through the bytes of one frame, which may stand at any of the LSNs in `frames`.
    fn search_frame(&self, bytes: &[u8], frames: &[Lsn], end: Lsn, behind: &mut Behind) {
        if is_zero(bytes) {
            return;
        }
        let fragment = |frame: Lsn, at: usize| {
            let lsn = frame + at as u64;
            let bytes = if lsn >= end { &bytes[at..] } else { &[] };
            decode_fragment(self.epoch, lsn, bytes)
        };
        behind.fragments |= frames.iter().any(|&frame| fragment(frame, 0).is_some());
        let promise = |at| frames.iter().find_map(|&frame| fragment(frame, at)?.promise());
        let promise = find_promise(bytes, promise);
        behind.fragments |= promise.is_some();
        behind.promise = behind.promise.max(promise.unwrap_or(0));
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // In lines, so that the compiler makes vector instructions of it.
    bytes.chunks(64).all(|line| line.iter().fold(0, |any, byte| any | byte) == 0)
}

fn newer(path: PathBuf, found: u32) -> Error {
    Error::NewerFormat { path, found, supported: FORMAT_VERSION }
}
