//! Local time in the two forms that RocksDB prints.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

fn now() -> libc::tm {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seconds = seconds as libc::time_t;
    // SAFETY: a tm of zeros is valid, and localtime_r writes only to the one it is given.
    unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut time);
        time
    }
}

/// `Fri Nov 20 12:23:12 2026`, as ctime prints it.
pub(crate) fn date() -> String {
    let time = now();
    let name =
        |names: &[&'static str], index: i32| names.get(index as usize).copied().unwrap_or("");
    format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        name(&DAYS, time.tm_wday),
        name(&MONTHS, time.tm_mon),
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec,
        time.tm_year + 1900
    )
}

/// `2026/11/20-12:23:12 `, the stamp of an interval line, with its trailing space.
pub(crate) fn stamp() -> String {
    let time = now();
    format!(
        "{:04}/{:02}/{:02}-{:02}:{:02}:{:02} ",
        time.tm_year + 1900,
        time.tm_mon + 1,
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec
    )
}
