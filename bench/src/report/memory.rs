//! Peak memory of the process, held against the one memory knob.

/// Peak resident bytes of this process, from /proc; `None` where there is no such file.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// The line at the end of a run.
pub(crate) fn line(memory_limit: u64) -> String {
    const MB: f64 = 1048576.0;
    let limit = memory_limit as f64;
    match peak_resident_bytes() {
        Some(peak) => format!(
            "Peak memory: {:.1} MB resident, memory limit {:.1} MB, {:.1} percent of the limit",
            peak as f64 / MB,
            limit / MB,
            100.0 * peak as f64 / limit
        ),
        None => format!("Peak memory: not known here, memory limit {:.1} MB", limit / MB),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_at_least_what_a_test_needs() {
        assert!(super::peak_resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(super::line(1 << 30).contains("memory limit 1024.0 MB"));
    }
}
