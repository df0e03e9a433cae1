//! A time series: readings of many sensors, kept for a while by a time to live, with whole sensors removed by range deletes.
//!
//! ```text
//! sensor/   time in milliseconds, big-endian  →  reading     one keyspace, newest at the end of each sensor
//! ```
//!
//! Run with `cargo run --release -p treering-lsm --example time_series [DIRECTORY]`.

use std::time::Duration;
use treering_lsm::{Db, Keyspace, KeyspaceOptions, Options, ReadOptions, Result};

const SENSORS: u64 = 50;
const READINGS: u64 = 2000;

fn key(sensor: &str, millis: u64) -> Vec<u8> {
    [sensor.as_bytes(), b"/", &millis.to_be_bytes()].concat()
}

/// The readings of a sensor between two times, the newest first.
fn readings(
    series: &Keyspace,
    sensor: &str,
    from: u64,
    to: u64,
) -> Result<impl Iterator<Item = Result<f64>>> {
    let range =
        series.range(&key(sensor, from)[..]..&key(sensor, to)[..], &ReadOptions::default())?;
    Ok(range.rev().map(|entry| {
        let (_, value) = entry?;
        Ok(value[..].try_into().map_or(f64::NAN, f64::from_be_bytes))
    }))
}

fn keyspace(db: &Db) -> Result<Keyspace> {
    let mut options = KeyspaceOptions::default();
    // Readings go by themselves after a week, table by table. No job looks for old ones.
    options.ttl = Some(Duration::from_secs(7 * 24 * 3600));
    db.open_or_create_keyspace("series", options)
}

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(std::path::PathBuf::from);
    let unnamed = format!("treering-time-series-{}", std::process::id());
    let directory = given.clone().unwrap_or_else(|| std::env::temp_dir().join(unnamed));
    let db = Db::open(&directory, Options::default())?;
    let series = keyspace(&db)?;

    for minute in 0..READINGS {
        for sensor in 0..SENSORS {
            let value = 20.0 + (minute as f64 / 60.0 + sensor as f64).sin();
            let key = key(&format!("sensor-{sensor:02}"), minute * 60_000);
            series.put(&key, &value.to_be_bytes())?;
        }
    }
    println!("{} readings of {SENSORS} sensors", SENSORS * READINGS);

    // The last hour of one sensor.
    let to = READINGS * 60_000;
    let hour: Vec<f64> =
        readings(&series, "sensor-07", to - 3_600_000, to)?.collect::<Result<_>>()?;
    let mean = hour.iter().sum::<f64>() / hour.len() as f64;
    println!("sensor-07: {} readings in its last hour, {mean:.2} on average", hour.len());
    assert_eq!(hour.len(), 60);

    // A sensor is taken down: one small write, however many readings it has.
    series.delete_range(&key("sensor-07", 0)[..]..&key("sensor-08", 0)[..])?;
    assert_eq!(readings(&series, "sensor-07", 0, to)?.count(), 0);
    // Nobody wants the first day of the others: a range for each, and the first 1440 readings of every sensor are gone.
    for sensor in 0..SENSORS {
        let sensor = format!("sensor-{sensor:02}");
        series.delete_range(&key(&sensor, 0)[..]..&key(&sensor, 24 * 3_600_000)[..])?;
    }
    let left = series.range(.., &ReadOptions::default())?.count() as u64;
    println!("{left} readings are left");
    assert_eq!(left, (SENSORS - 1) * (READINGS - 24 * 60));

    db.compact()?;
    println!(
        "{} of them in tables, and {} range deletes to apply",
        series.estimate(..)?.entries,
        {
            let stats = db.stats();
            stats.keyspaces.iter().map(|keyspace| keyspace.range_deletes).sum::<usize>()
        }
    );
    drop(series);
    db.close()?;
    match given {
        Some(_) => Ok(()),
        None => Db::destroy(&directory),
    }
}
