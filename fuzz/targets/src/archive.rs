//! Several files of a database in one input. Runs of zeros are counted, not spelled out: a ring of 128 KiB is mostly empty, and a
//! fuzzer that has to carry it changes nothing but zeros.
//!
//! ```text
//! file:  kind u8 │ number u8 │ run ...           kinds and what the number is for: see `name_of`
//! run:   length u16 │ bytes │ zeros u32          both 0: the end of the file
//! ```

use crate::input::Input;
use std::collections::BTreeMap;
use std::path::Path;
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::name;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, OpenMode, read_whole, write_full};

/// Files of a directory by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Where the files are put.
pub(crate) const DIRECTORY: &str = "/db";

/// Bytes of all files of an archive; what is above is left out.
const BYTES_MAX: usize = 1 << 20;
const FILES_MAX: usize = 24;
/// Shorter runs of zeros are spelled out.
const ZEROS_MIN: usize = 16;
const KINDS: u8 = 8;

fn name_of(kind: u8, number: u8) -> String {
    let place = Path::new("");
    let path = match kind % KINDS {
        0 => return name::CURRENT.into(),
        1 => return name::RING.into(),
        2 => return name::BALLAST.into(),
        3 => name::manifest(place, FileNumber(number.into())),
        4 => name::table(place, FileNumber(number.into())),
        5 => name::wal(place, number.into()),
        6 => return format!("{number:06}.sst.tmp"),
        _ => return format!("note-{number}"),
    };
    path.to_string_lossy().into_owned()
}

/// The files of an input.
pub(crate) fn unpack(input: &mut Input<'_>) -> Files {
    let mut files = Files::new();
    let mut left = BYTES_MAX;
    while !input.is_empty() && files.len() < FILES_MAX {
        let name = name_of(input.u8(), input.u8());
        let mut bytes = Vec::new();
        while !input.is_empty() {
            let length = usize::from(input.u16());
            let run = input.take(length);
            let zeros = input.u32() as usize;
            if length == 0 && zeros == 0 {
                break;
            }
            let run = &run[..run.len().min(left)];
            let zeros = zeros.min(left - run.len());
            left -= run.len() + zeros;
            bytes.extend_from_slice(run);
            bytes.resize(bytes.len() + zeros, 0);
        }
        files.insert(name, bytes);
    }
    files
}

/// The input whose files these are; files with other names are left out.
pub(crate) fn pack(files: &Files) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let of_kind = |kind| (0..=u8::MAX).map(move |number| (kind, number));
        let known =
            (0..KINDS).flat_map(of_kind).find(|&(kind, number)| name_of(kind, number) == *name);
        let Some((kind, number)) = known else { continue };
        out.extend_from_slice(&[kind, number]);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let is_gap = |window: &[u8]| window.iter().all(|&byte| byte == 0);
            let literal = rest.windows(ZEROS_MIN).position(is_gap).unwrap_or(rest.len());
            let literal = literal.min(usize::from(u16::MAX));
            let zeros = rest[literal..].iter().take_while(|&&byte| byte == 0).count();
            out.extend_from_slice(&(literal as u16).to_le_bytes());
            out.extend_from_slice(&rest[..literal]);
            out.extend_from_slice(&(zeros as u32).to_le_bytes());
            rest = &rest[literal + zeros..];
        }
        out.extend_from_slice(&[0; 6]);
    }
    out
}

/// A disk that holds these files.
pub(crate) fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_directory(Path::new(DIRECTORY)).expect("a new disk takes everything");
    for (name, bytes) in files {
        let path = Path::new(DIRECTORY).join(name);
        let file = disk.open(&path, OpenMode::CREATE).expect("a new disk takes everything");
        write_full(&*file, 0, bytes, false).expect("a new disk takes everything");
        file.sync_data().expect("a new disk takes everything");
    }
    disk.sync_directory(Path::new(DIRECTORY)).expect("a new disk takes everything");
    disk
}

/// The files that a disk holds.
pub(crate) fn files_of(disk: &SimDisk) -> Files {
    let names = disk.list(Path::new(DIRECTORY)).expect("the directory is there");
    let read = |name: String| {
        let bytes = read_whole(disk, &Path::new(DIRECTORY).join(&name), u64::MAX);
        (name, bytes.expect("a listed file is there"))
    };
    names.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive gives back what was packed.
    #[test]
    fn files_come_back_from_an_archive() {
        let mut ring = vec![0; 5000];
        ring[100] = 7;
        let noise: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8 + 1).collect();
        let files = Files::from([
            ("CURRENT".into(), b"text\n".to_vec()),
            ("RING".into(), ring),
            ("000009.sst".into(), noise),
            ("000001.wal".into(), Vec::new()),
        ]);
        assert_eq!(unpack(&mut Input::new(&pack(&files))), files);
        assert_eq!(files_of(&disk_of(&files)), files);
    }
}
