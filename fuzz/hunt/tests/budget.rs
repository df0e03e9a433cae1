//! Small budgets of the rows, for every change: the same code as the long hunts.

use treering_hunt::drive::{Budget, Verdict, kept, run};
use treering_hunt::rows::{CANARY, ROWS, find};
use treering_hunt::world::set_program;

fn small(name: &str) {
    set_program(env!("CARGO_BIN_EXE_hunt"));
    let row = find(name).expect("a row of this name");
    let budget = Budget { seed: 1, cases: Some(row.ci_cases), ..Budget::default() };
    let line = run(row, &budget, &());
    println!("{line}");
    if line.verdict == Verdict::Impossible {
        println!("row {} was not run: this machine cannot", row.number);
        return;
    }
    assert!(line.failures.is_empty(), "{:#?}", line.failures);
    assert_eq!(line.verdict, Verdict::Good, "a run in which nothing broke has proved nothing");
}

#[test]
fn row_01_small_worlds() {
    small("small-worlds");
}

#[test]
fn row_02_long_worlds() {
    small("long-worlds");
}

#[test]
fn row_03_power_cut() {
    small("power-cut");
}

#[test]
fn row_04_kill() {
    small("kill");
}

#[test]
fn row_05_io_error() {
    small("io-error");
}

#[test]
fn row_06_lying_sync() {
    small("lying-sync");
}

#[test]
fn row_17_soak() {
    small("soak");
}

#[test]
fn row_07_every_bit() {
    small("every-bit");
}

#[test]
fn row_08_wrong_place() {
    small("wrong-place");
}

#[test]
fn row_09_model() {
    small("model");
}

#[test]
fn row_10_metamorphic() {
    small("metamorphic");
}

#[test]
fn row_12_ring_contract() {
    small("ring-contract");
}

#[test]
fn every_row_is_run_here() {
    let text = include_str!("budget.rs");
    for row in ROWS.iter().filter(|row| row.ci_cases > 0) {
        assert!(text.contains(&format!("small(\"{}\")", row.name)), "row {}", row.name);
    }
}

#[test]
fn the_canary_is_red() {
    let line = run(&CANARY, &Budget { cases: Some(1), ..Budget::default() }, &());
    assert_eq!(line.verdict, Verdict::Bad);
}

#[test]
fn a_seed_that_failed_once_never_fails_again() {
    set_program(env!("CARGO_BIN_EXE_hunt"));
    for kept in kept().expect("the directory of kept seeds is readable") {
        let row = find(&kept.row.to_string()).expect("a kept seed names a row");
        let budget = Budget { seed: kept.seed, cases: Some(1), jobs: 1, ..Budget::default() };
        let line = run(row, &budget, &());
        assert!(line.failures.is_empty(), "{:#?}", line.failures);
    }
}
