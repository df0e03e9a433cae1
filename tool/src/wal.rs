//! `wal`: the segments of the log, its records, and where and why it ends.

use crate::arguments;
use crate::database::{Database, file_name};
use crate::failure::{Failure, Verdict};
use crate::key_text::escape;
use crate::manifest::Manifest;
use crate::report::{self, count};
use serde_json::{Value, json};
use std::io::Write;
use treering_lsm::Error;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::wal::LogStart;
use treering_lsm::file::wal::walk::{self, Walked};
use treering_lsm::format::batch::BatchReader;
use treering_lsm::format::log::{
    FRAME_BYTES, HeaderError, LOG_HEADER_BYTES, RingHeader, SegmentHeader, decode_fragment,
    decode_promise, frame_ceil,
};
use treering_lsm::io::{AlignedBuffer, OpenMode, read_full};
use treering_lsm::limits::FORMAT_VERSION;

/// A ring file that claims more is not believed.
const RING_BYTES_MAX: u64 = 1 << 31;
/// LSNs up to here are tried for a ring whose place in the log nobody knows: a terabyte of log, some ten seconds.
const LSN_TRIED_MAX: u64 = 1 << 40;

/// A segment file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) slot: u64,
    /// `None` if the header does not validate.
    pub(crate) header: Option<SegmentHeader>,
    /// Not a byte of its first block was written.
    pub(crate) is_spare: bool,
    pub(crate) file_bytes: u64,
}

/// The files of the log, by their headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFiles {
    pub(crate) segments: Vec<Segment>,
    pub(crate) ring: Option<RingHeader>,
    /// A RING is there, whatever is in it.
    pub(crate) has_ring: bool,
    /// The ring's bytes, where nothing but it may say where the log begins.
    ring_bytes: Vec<u8>,
    /// The promise in the ring.
    pub(crate) ring_promise: Option<u64>,
}

impl LogFiles {
    /// Reads all headers.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::Io`].
    pub(crate) fn read(database: &Database) -> Result<LogFiles, Error> {
        let mut files = LogFiles::default();
        for entry in database.entries()? {
            let path = database.path.join(&entry.name);
            let newer = |error| match error {
                HeaderError::Newer(found) => Some(Error::NewerFormat {
                    path: path.clone(),
                    found,
                    supported: FORMAT_VERSION,
                }),
                HeaderError::Invalid => None,
            };
            let file = match entry.kind {
                Some(FileKind::Wal(_) | FileKind::Ring) => {
                    database.disk.open(&path, OpenMode::READ)
                }
                _ => continue,
            };
            let failed = |error| Error::io("read", &path, error);
            let file = file.map_err(failed)?;
            let mut block = AlignedBuffer::zeroed(LOG_HEADER_BYTES);
            let length = read_full(&*file, 0, &mut block).map_err(failed)?;
            let file_bytes = file.size().map_err(failed)?;
            match entry.kind {
                Some(FileKind::Wal(slot)) => {
                    let header = match SegmentHeader::decode(slot, &block[..length]) {
                        Ok(header) => Some(header),
                        Err(error) => newer(error).map_or(Ok(None), Err)?,
                    };
                    let is_spare = block.iter().all(|&byte| byte == 0);
                    files.segments.push(Segment { slot, header, is_spare, file_bytes });
                }
                _ => {
                    files.has_ring = true;
                    files.ring = match RingHeader::decode(&block[..length]) {
                        Ok(header) => Some(header),
                        Err(error) => newer(error).map_or(Ok(None), Err)?,
                    };
                    let Some(header) = files.ring else { continue };
                    files.ring_promise = decode_promise(header.epoch, &block);
                    if header.capacity <= RING_BYTES_MAX.min(file_bytes) {
                        files.ring_bytes = vec![0; header.capacity as usize];
                        read_full(&*file, LOG_HEADER_BYTES as u64, &mut files.ring_bytes)
                            .map_err(failed)?;
                    }
                }
            }
        }
        Ok(files)
    }

    /// The newest run that a file is of.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let headers = self.segments.iter().filter_map(|segment| segment.header);
        headers.map(|header| header.epoch).chain(self.ring.map(|ring| ring.epoch)).max()
    }

    /// First LSNs of the segments of a run, ascending.
    pub(crate) fn bases(&self, epoch: u64) -> Vec<u64> {
        let headers = self.segments.iter().filter_map(|segment| segment.header);
        let mut bases: Vec<u64> =
            headers.filter(|header| header.epoch == epoch).map(|header| header.base).collect();
        bases.sort_unstable();
        bases
    }

    /// The lowest LSN at which something of run `epoch` may stand.
    pub(crate) fn lowest(&self, epoch: u64) -> Option<u64> {
        self.bases(epoch).first().copied().into_iter().chain(self.lowest_in_ring(epoch)).min()
    }

    /// The lowest LSN of a frame in the ring that belongs to run `epoch`.
    ///
    /// A run that wrote little has no segment that says where it stands in the log. The ring holds its bytes at LSN modulo capacity,
    /// and a fragment validates at its own LSN only: so the laps are tried, from where earlier runs ended.
    fn lowest_in_ring(&self, epoch: u64) -> Option<u64> {
        let ring = self.ring.filter(|ring| ring.epoch == epoch && !self.ring_bytes.is_empty())?;
        let lap = ring.capacity;
        let frame = |offset: u64| &self.ring_bytes[offset as usize..offset as usize + FRAME_BYTES];
        let holds = |offset: u64, lsn: u64| decode_fragment(epoch, lsn, frame(offset)).is_some();
        let offsets = || (0..lap).step_by(FRAME_BYTES);
        let written = |offset: &u64| frame(*offset)[6] != 0;
        let ends = self.segments.iter().filter_map(|segment| segment.header).map(|h| h.base);
        let known = ends.chain(self.ring_promise).max().unwrap_or(0);
        let tries = |from: u64| (from..LSN_TRIED_MAX / lap).map(|turn| turn * lap);
        let near = tries((known / lap).saturating_sub(1)).take(4);
        let any = |turn: &u64| offsets().filter(written).any(|offset| holds(offset, turn + offset));
        let turn = near.chain(tries(0)).find(any)?;
        let turns = [turn.saturating_sub(lap), turn, turn + lap];
        let found = offsets().filter(written).flat_map(|offset| {
            let there = move |turn: &u64| holds(offset, turn + offset);
            turns.into_iter().filter(there).map(move |turn| turn + offset)
        });
        found.min()
    }
}

/// Runs the command.
pub(crate) fn run(
    arguments: &arguments::Wal,
    json: bool,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let (database, only) = target(arguments)?;
    let files = LogFiles::read(&database)?;
    // Without a manifest nobody knows where the log begins: then at its lowest byte.
    let manifest = Manifest::sound(&database);
    let (start, promised) = match &manifest {
        Ok(manifest) => {
            let log = manifest.state.log;
            (LogStart { epoch: log.epoch, lsn: log.lsn }, manifest.state.promised)
        }
        Err(_) => {
            let epoch = files.epoch().unwrap_or(0);
            (LogStart { epoch, lsn: files.lowest(epoch).unwrap_or(0) }, 0)
        }
    };
    if json {
        print_files_json(&files, start, out)?;
    } else {
        print_files(&files, start, manifest.as_ref().err(), out)?;
    }
    let mut records = 0u64;
    let mut operations = 0u64;
    let mut trouble: Option<std::io::Error> = None;
    let walked = walk::walk(&database.disk, &database.path, start, &mut |record| {
        if only.as_ref().is_some_and(|range| !range.contains(&record.lsn)) {
            return Ok(());
        }
        records += 1;
        operations += u64::from(record.count);
        let printed = if json {
            print_record_json(&record, arguments, out)
        } else {
            print_record(&record, arguments, out)
        };
        // The walk knows errors of the engine only: this one ends it by a word that is thrown away.
        printed.map_err(|error| {
            trouble = Some(error);
            Error::Closed
        })
    });
    if let Some(error) = trouble {
        return Err(error.into());
    }
    let walked = walked?;
    let promised = walked.promised.max(promised);
    let sound = is_sound(&walked, promised);
    if json {
        let ending = json!({
            "end": ending_json(&walked, promised, sound), "records": records, "operations": operations
        });
        writeln!(out, "{ending}")?;
    } else {
        let counts = (count(records, "record"), count(operations, "operation"));
        writeln!(out, "{}, {}", counts.0, counts.1)?;
        print_ending(&walked, promised, sound, out)?;
    }
    Ok(Verdict::of(sound))
}

/// The database, and the LSNs that were asked for, if not all.
fn target(arguments: &arguments::Wal) -> Result<(Database, Option<std::ops::Range<u64>>), Failure> {
    let target = &arguments.target;
    if target.is_dir() {
        let database = Database::at(target)?;
        database.must_hold_something()?;
        return Ok((database, None));
    }
    match Database::of_file(target)? {
        (database, Some(FileKind::Wal(slot))) => {
            let files = LogFiles::read(&database)?;
            let segment = files.segments.iter().find(|segment| segment.slot == slot);
            match segment.and_then(|segment| segment.header) {
                Some(header) => Ok((database, Some(header.base..header.base + header.capacity))),
                None => {
                    let path = name::wal(&database.path, slot);
                    let detail = "its header does not validate: a spare, a torn write, or damage";
                    Err(Error::corruption(&path, 0, detail).into())
                }
            }
        }
        // What is in the ring alone cannot be told from what is in segments, too.
        (database, Some(FileKind::Ring)) => Ok((database, None)),
        _ => {
            let name = file_name(target);
            Failure::refused(format!("{name} is not named as a file of the log is, 000003.wal"))
        }
    }
}

/// True if nothing is missing that was promised. Holes behind the promises are torn writes.
pub(crate) fn is_sound(walked: &Walked, promised: u64) -> bool {
    let first = walked.holes.first().unwrap_or(&walked.end);
    first.impossible.is_none() && promised <= first.lsns.start
}

fn print_files(
    files: &LogFiles,
    start: LogStart,
    unknown: Option<&Error>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if let Some(error) = unknown {
        writeln!(out, "no manifest says where the log begins ({})", report::damage_line(error))?;
    }
    writeln!(out, "the log begins at epoch {}, LSN {}", start.epoch, frame_ceil(start.lsn))?;
    for Segment { slot, header, is_spare, file_bytes } in &files.segments {
        write!(out, "{slot:06}.wal {:>10}  ", report::bytes(*file_bytes))?;
        match header {
            Some(header) => writeln!(
                out,
                "epoch {}, number {} of its run, from LSN {}{}",
                header.epoch,
                header.ordinal,
                header.base,
                if header.epoch < start.epoch { ", of an earlier run" } else { "" }
            )?,
            None if *is_spare => writeln!(out, "spare")?,
            None => writeln!(out, "no valid header")?,
        }
    }
    match files.ring {
        Some(ring) => writeln!(
            out,
            "RING       {:>10}  epoch {}, durable below {}",
            report::bytes(ring.capacity),
            ring.epoch,
            files.ring_promise.map_or("nothing it can name".to_owned(), |lsn| lsn.to_string())
        ),
        None if files.has_ring => writeln!(out, "RING        no valid header"),
        None => Ok(()),
    }
}

fn print_files_json(files: &LogFiles, start: LogStart, out: &mut dyn Write) -> std::io::Result<()> {
    let segments: Vec<Value> = files
        .segments
        .iter()
        .map(|segment| {
            json!({
                "slot": segment.slot,
                "file_bytes": segment.file_bytes,
                "epoch": segment.header.map(|header| header.epoch),
                "ordinal": segment.header.map(|header| header.ordinal),
                "base": segment.header.map(|header| header.base),
            })
        })
        .collect();
    let line = json!({
        "start": { "epoch": start.epoch, "lsn": frame_ceil(start.lsn) },
        "segments": segments,
        "ring": files.ring.map(|ring| json!({
            "epoch": ring.epoch, "bytes": ring.capacity, "promised": files.ring_promise
        })),
    });
    writeln!(out, "{line}")
}

fn print_record(
    record: &walk::WalkedRecord<'_>,
    arguments: &arguments::Wal,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let last = record.sequence + u64::from(record.count).saturating_sub(1);
    let operations = count(u64::from(record.count), "operation");
    writeln!(
        out,
        "LSN {:<10} seq {}..={last}  {operations}, {} bytes",
        record.lsn,
        record.sequence,
        record.batch.len()
    )?;
    if !arguments.operations {
        return Ok(());
    }
    for item in BatchReader::new(record.batch, record.count) {
        match item {
            Ok(operation) => {
                let kind = report::kind(operation.kind);
                let (keyspace, key) = (operation.keyspace.0, escape(operation.key));
                write!(out, "  {kind} keyspace {keyspace} \"{key}\"")?;
                match arguments.values {
                    true => writeln!(out, " = \"{}\"", escape(operation.value))?,
                    false => writeln!(out, " ({} bytes)", operation.value.len())?,
                }
            }
            Err(damage) => {
                writeln!(out, "  byte {} of the batch: {}", damage.offset, damage.detail)?;
            }
        }
    }
    Ok(())
}

fn print_record_json(
    record: &walk::WalkedRecord<'_>,
    arguments: &arguments::Wal,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut line = json!({
        "lsn": record.lsn, "sequence": record.sequence, "count": record.count,
        "bytes": record.batch.len(),
    });
    if arguments.operations {
        let operations = BatchReader::new(record.batch, record.count).map(|item| match item {
            Ok(operation) => {
                let mut value = json!({
                    "kind": report::kind(operation.kind), "keyspace": operation.keyspace.0,
                    "key": escape(operation.key), "value_bytes": operation.value.len(),
                });
                if arguments.values {
                    value["value"] = json!(escape(operation.value));
                }
                value
            }
            Err(damage) => json!({ "damage": damage.detail, "offset": damage.offset }),
        });
        line["operations"] = operations.collect();
    }
    writeln!(out, "{line}")
}

fn print_ending(
    walked: &Walked,
    promised: u64,
    sound: bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let first = walked.holes.first().unwrap_or(&walked.end);
    let end = first.lsns.start;
    let place = format!("LSN {end} ({} at offset {})", file_name(&first.path), first.offset);
    if let Some(detail) = first.impossible {
        writeln!(out, "damaged at {place}: {detail}")?;
    } else if !sound {
        writeln!(
            out,
            "damaged at {place}: nothing validates here, but everything below LSN {promised} was acknowledged as durable"
        )?;
    } else if walked.unfinished || !walked.holes.is_empty() {
        writeln!(out, "torn tail: ends at {place}; what is behind was promised to nobody")?;
    } else if promised == end {
        writeln!(out, "clean end at {place}: everything was made durable")?;
    } else {
        writeln!(out, "ends at {place}; durable below LSN {promised}, the rest was only buffered")?;
    }
    for hole in &walked.holes {
        writeln!(
            out,
            "records go on at LSN {}, after a hole from {}",
            hole.lsns.end, hole.lsns.start
        )?;
    }
    Ok(())
}

fn ending_json(walked: &Walked, promised: u64, sound: bool) -> Value {
    let first = walked.holes.first().unwrap_or(&walked.end);
    let torn = walked.unfinished || !walked.holes.is_empty();
    let why = match (sound, torn) {
        (false, _) => "damage",
        (true, true) => "torn tail",
        (true, false) => "clean end",
    };
    json!({
        "why": why,
        "lsn": first.lsns.start,
        "file": file_name(&first.path),
        "offset": first.offset,
        "promised": promised,
        "reason": first.impossible,
    })
}
