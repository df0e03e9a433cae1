//! report.csv: operations per second while a benchmark runs, written by a thread of its own.

use crate::report::thread_stats::SharedCount;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Makes the file with its header line.
///
/// # Errors
/// One line that names the file.
pub(crate) fn create(path: &Path) -> Result<File, String> {
    let fail = |error| format!("--report_file={}: {error}", path.display());
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(b"secs_elapsed,interval_qps\n").map_err(fail)?;
    Ok(file)
}

/// Writes a line every `interval` until the other end of `stop` is dropped.
pub(crate) fn report(
    mut file: File,
    interval: Duration,
    counts: &[SharedCount],
    stop: &Receiver<()>,
) {
    let start = Instant::now();
    let mut before = 0;
    while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let total: u64 = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum();
        let seconds = start.elapsed().as_secs_f64().round();
        if let Err(error) = writeln!(file, "{seconds},{}", total - before) {
            eprintln!("cannot write the report file: {error}; it ends here");
            break;
        }
        before = total;
    }
}
