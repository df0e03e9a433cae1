//! A copy of a file, byte for byte, durable when it is done.

use crate::base::error::{Error, Result};
use crate::file::table_writer::output::Output;
use crate::io::{AlignedBuffer, Disk, OpenMode, read_full};
use std::path::Path;
use std::sync::Arc;

/// Bytes of one read.
const CHUNK_BYTES: usize = 1 << 20;

/// Copies `from` to `to`, which must not exist, past the page cache. `go_on` is asked between the pieces. The name is not
/// durable until the caller syncs the directory; after an error the caller removes what there is of `to`.
///
/// # Errors
/// [`Error::Io`], [`Error::NoSpace`]; what `go_on` answers.
pub fn copy(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<()> {
    let source =
        disk.open(from, OpenMode::READ_DIRECT).map_err(|error| Error::io("open", from, error))?;
    let mut target = Output::create(disk, to, true)?;
    let mut buffer = AlignedBuffer::zeroed(CHUNK_BYTES);
    let mut offset = 0;
    loop {
        go_on()?;
        let read = read_full(&*source, offset, &mut buffer)
            .map_err(|error| Error::io("read", from, error))?;
        target.append(&buffer[..read])?;
        offset += read as u64;
        if read < CHUNK_BYTES {
            return target.finish();
        }
    }
}
