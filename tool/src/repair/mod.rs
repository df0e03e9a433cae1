//! `repair`: not here yet; it refuses.
use crate::arguments::Repair;
use crate::failure::{Failure, Verdict};
use std::io::Write;
pub(crate) fn run(arguments: &Repair, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let _ = (arguments, json, out);
    Failure::refused("repair is not in this version yet")
}
