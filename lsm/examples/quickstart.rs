//! The ten lines that an embedder starts from: `cargo run -p treering-lsm --example quickstart`.

use treering_lsm::{Db, Options, ReadOptions, Result};

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "treering-quickstart".to_owned());
    let db = Db::open(&directory, Options::default())?;
    db.put(b"tree/oak", b"600 years")?;
    db.put(b"tree/yew", b"2000 years")?;
    if let Some(age) = db.get(b"tree/oak")? {
        println!("an oak lives {}", String::from_utf8_lossy(&age));
    }
    for entry in db.default_keyspace().prefix(b"tree/", &ReadOptions::default())? {
        let (key, value) = entry?;
        println!("{} = {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }
    db.close()
}
