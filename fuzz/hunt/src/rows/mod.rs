//! Floor 2: the rows. One file a row, named after what it does.

mod every_bit;
mod io_error;
mod kill;
mod long_worlds;
mod lying_sync;
mod metamorphic;
mod model;
mod power_cut;
mod ring_contract;
mod small_worlds;
mod soak;
mod threads;
mod wrong_place;

use crate::drive::{Case, Failure, Row, Tally};
use crate::world::{CHILD, begin};
use std::process::ExitCode;

/// The scoreboard.
pub const ROWS: &[Row] = &[
    small_worlds::ROW,
    long_worlds::ROW,
    power_cut::ROW,
    kill::ROW,
    io_error::ROW,
    lying_sync::ROW,
    every_bit::ROW,
    wrong_place::ROW,
    model::ROW,
    metamorphic::ROW,
    threads::ROW,
    ring_contract::ROW,
    soak::ROW,
];

/// A row that always fails: if it is not red, nothing that is green means anything.
pub const CANARY: Row = Row {
    number: 0,
    name: "canary",
    promise: "this row must be red",
    unit: "lies",
    ci_cases: 1,
    nightly: 1,
    parallel: false,
    run: canary,
};

fn canary(_: u64, tally: &mut Tally) -> Result<Case, Failure> {
    tally.checked(1);
    tally.fired("lie", 1);
    Err("the canary sings: the alarm works".to_owned())
}

/// The row with this number or name.
pub fn find(word: &str) -> Option<&'static Row> {
    let number = word.parse::<u8>().ok();
    std::iter::once(&CANARY).chain(ROWS).find(|row| Some(row.number) == number || row.name == word)
}

/// Does the work of a child of a row, if these are the words of one: the program calls it before anything else.
pub fn child(words: &[String]) -> Option<ExitCode> {
    let [first, task, words @ ..] = words else { return None };
    if first != CHILD {
        return None;
    }
    begin();
    match task.as_str() {
        kill::TASK => Some(kill::child(words)),
        soak::TASK => Some(soak::child(words)),
        soak::KILLED_TASK => Some(soak::killed(words)),
        power_cut::TASK => Some(power_cut::child(words)),
        _ => None,
    }
}
