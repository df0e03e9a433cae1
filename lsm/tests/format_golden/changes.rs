//! FORMAT.md, "Change files".

use crate::Entry;
use crate::bytes::{Walk, crc};
use crate::log::operations;

/// What was met in change files.
#[derive(Debug, Default)]
pub struct Changes {
    pub files: usize,
    /// By kind.
    pub frames: [usize; 6],
    /// The operations of all batches.
    pub entries: Vec<Entry>,
}

/// Walks the file that begins with `first`.
pub fn change_file(first: u64, bytes: &[u8], met: &mut Changes) {
    let mut walk = Walk::new("change file", bytes);
    assert_eq!(walk.take(8), b"TRCHANGE");
    assert_eq!(walk.u32(), 1);
    walk.zeros(4);
    assert_eq!(walk.u64(), first);
    let covered = &bytes[..walk.at];
    assert_eq!(walk.u32(), crc(first, 0, &[covered]));
    walk.zeros(4);
    let (mut last, mut count) = (None, 0);
    loop {
        let offset = walk.at;
        let sum = walk.u32();
        let length = walk.u32() as usize;
        let (kind, sequence, told) = (walk.u8(), walk.u64(), walk.u32());
        let payload = walk.take(length);
        assert_eq!(sum, crc(first, offset as u64, &[&bytes[offset + 4..walk.at]]));
        met.frames[usize::from(kind)] += 1;
        if kind == 3 {
            assert!(length == 0 && Some(sequence) == last && told == count, "the end");
            break;
        }
        assert!(last.map_or(sequence == first, |last| sequence > last), "numbers ascend");
        match kind {
            1 => {
                let head = [&sequence.to_le_bytes()[..], &told.to_le_bytes()].concat();
                operations(&[&head, payload].concat(), &mut met.entries);
            }
            2 => {
                assert_eq!(told, 1);
                let mut files = Walk::new("ingest", payload);
                while files.at < payload.len() {
                    files.varint();
                    assert!(files.prefixed() <= files.prefixed(), "the smallest key comes first");
                }
                files.end();
            }
            4 | 5 => assert!(length == 0 && told > 0),
            other => panic!("frame of kind {other}"),
        }
        (last, count) = (Some(sequence + u64::from(told) - 1), count + 1);
    }
    walk.end();
    met.files += 1;
}
