#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| (treering_fuzz_targets::target("changes").expect("in the table").run)(
    data
));
