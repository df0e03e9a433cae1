//! Writes the seeds of every target: `cargo run -p treering-fuzz-targets --bin seeds -- fuzz/corpus`.
//!
//! Each becomes `DIRECTORY/TARGET/seed-NN`; files of other names stay.

use std::error::Error;
use std::path::Path;
use treering_fuzz_targets::TARGETS;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    for target in TARGETS {
        let place = Path::new(&directory).join(target.name);
        std::fs::create_dir_all(&place)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(place.join(format!("seed-{number:02}")), seed)?;
        }
        let bytes: usize = seeds.iter().map(Vec::len).sum();
        println!("{:12} {:3} seeds {bytes:8} bytes", target.name, seeds.len());
    }
    Ok(())
}
