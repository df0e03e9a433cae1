//! The kept corpus on stable: every input that ever mattered, and a fixed number of mutations around them.
//!
//! A fuzzer that runs for hours is no part of a test run; what it has found is.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use treering_fuzz_targets::{TARGETS, Target, mutate};

/// One allocation above this is taken for a length that was believed.
const ALLOCATION_BYTES_MAX: usize = 256 << 20;
/// Mutations of each target: a few seconds for all of them.
const MUTATIONS: u64 = 400;

/// The system's allocator, with a bound.
struct Bounded;

// SAFETY: hands everything on to the system's allocator, or gives up.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert_bounded(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        assert_bounded(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        assert_bounded(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// An allocator may not unwind: the process ends here, and the target and input are in the output above.
fn assert_bounded(bytes: usize) {
    if bytes > ALLOCATION_BYTES_MAX {
        eprintln!("one allocation of {bytes} bytes, at most {ALLOCATION_BYTES_MAX} expected");
        std::process::abort();
    }
}

/// Names and bytes of the kept inputs of a target, in order.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
    let mut inputs: Vec<_> = std::fs::read_dir(&place)
        .unwrap_or_else(|error| panic!("{}: {error}", place.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

/// What was found once is never found again.
#[test]
fn every_kept_input_keeps_its_targets_promise() {
    let mut total = 0;
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (name, input) in &inputs {
            // The last line before a failure names the input.
            println!("{} {name}", target.name);
            (target.run)(input);
        }
        total += inputs.len();
        println!("{:12} {} inputs", target.name, inputs.len());
    }
    println!("{total} inputs of {} targets", TARGETS.len());
}

/// Damage around what is kept is an answer or a typed error; the same mutations each time.
#[test]
fn mutations_of_the_kept_inputs_keep_the_promise() {
    for (number, target) in TARGETS.iter().enumerate() {
        let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
        for round in 0..MUTATIONS {
            let seed = (number as u64) << 32 | round;
            println!("{} seed {seed}", target.name);
            (target.run)(&mutate(seed, &corpus));
        }
    }
}

/// The seeds are what the engine writes: a change of a format that nobody meant shows here.
#[test]
fn seeds_are_the_same_each_time_and_keep_the_promise() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() > 2, "{}", target.name);
        assert_eq!(seeds, (target.seeds)(), "{}", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}
