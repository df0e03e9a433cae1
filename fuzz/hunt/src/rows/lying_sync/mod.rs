//! Row 6: a sync fails once, the next one says Ok, and then the power goes.
//!
//! Linux drops dirty pages whose writeback failed: the second fsync succeeds and the data is gone, while readers still see it
//! in the page cache until somebody needs the memory. So whoever tries again acknowledges what the device does not have; and
//! whoever opens the files again must not build on what it reads there without writing it anew.
//!
//! Most cases are simulated; one in [`KERNEL_ONE_IN`] makes a real kernel do it, on a file system whose device is
//! smaller than it says. That takes root and a loop device; where they are missing the case is a simulated one.

mod kernel;
mod simulated;
mod thin_disk;

use crate::drive::{Case, Failure, Row, Tally};

pub(super) const ROW: Row = Row {
    number: 6,
    name: "lying-sync",
    promise: "a failed sync is never tried again; nothing acknowledged is lost when the power goes afterwards",
    unit: "cases",
    ci_cases: 600,
    nightly: 5_000,
    parallel: true,
    run,
};

const KERNEL_ONE_IN: u64 = 100;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    if seed % KERNEL_ONE_IN == KERNEL_ONE_IN / 2 {
        if thin_disk::is_possible() {
            return kernel::run(seed, tally).map(|()| Case::Done);
        }
        tally.note("kernel_skipped", 1);
    }
    simulated::run(seed, tally).map(|()| Case::Done)
}
