//! The report.

use super::{Document, Spread, rows_of, short, space_amplification, write_amplification};
use crate::engines;
use crate::measure::Measurement;
use crate::row::{Row, Target};
use std::fmt::Write as _;
use std::path::Path;

/// Writes the report beside the charts that it shows.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(
    document: &Document,
    earlier: Option<&Document>,
    path: &Path,
    charts: &Path,
) -> Result<(), String> {
    let beside = path.parent().and_then(|parent| charts.strip_prefix(parent).ok());
    let charts = beside.unwrap_or(charts).display().to_string();
    super::write(path, &text(document, earlier, &charts))
}

fn text(document: &Document, earlier: Option<&Document>, charts: &str) -> String {
    let mut out = String::new();
    let rows = rows_of(document);
    head(&mut out, document, &rows, charts);
    throughput(&mut out, document, &rows);
    tail(&mut out, document, &rows);
    if let Some(earlier) = earlier {
        both_runs(&mut out, document, earlier, &rows);
    }
    latencies(&mut out, document, &rows);
    costs(&mut out, document, &rows);
    settings(&mut out);
    failures(&mut out, document);
    out
}

/// `write!` to a string does not fail.
macro_rules! say {
    ($out:expr, $($text:tt)*) => { { let _ = writeln!($out, $($text)*); } };
}

fn head(out: &mut String, document: &Document, rows: &[Row], charts: &str) {
    let machine = &document.machine;
    say!(out, "# Treering, RocksDB and fjall side by side\n");
    say!(
        out,
        "{}, {} cores, {:.0} GiB of memory, Linux {}, {}. Treering commit {}, {}; RocksDB 11.8.1 (crate `rocksdb` 0.25), fjall 3.1.",
        machine.cpu,
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        machine.file_system,
        document.commit,
        document.date
    );
    say!(
        out,
        "{} rounds, engines interleaved in each, every measurement in a process of its own; {} s for rows that are timed. Medians, with least and most.\n",
        document.rounds,
        document.secs
    );
    say!(out, "```text\n{}\n```\n", document.command);
    let judged = rows.iter().filter_map(|row| document.verdict(row)).collect::<Vec<_>>();
    let reached = judged.iter().filter(|(reached, _)| *reached).count();
    say!(out, "**{reached} of {} targets reached.**", judged.len());
    let behind = rows.iter().filter(|row| row.measures_throughput()).flat_map(|row| {
        engines::NAMES[1..].iter().filter_map(|peer| {
            let ratio = document.ratio(row.name, peer)?;
            (ratio < 1.0).then(|| format!("{} ({peer}, {ratio:.2}x)", row.name))
        })
    });
    let behind: Vec<String> = behind.collect();
    match behind.is_empty() {
        true => say!(out, "No peer is faster in any row.\n"),
        false => say!(out, "Where a peer is faster: {}.\n", behind.join(", ")),
    }
    say!(out, "![Throughput as a multiple of RocksDB's]({charts}/ratios.svg)\n");
    if !document.rounds_of("overwrite_long", "treering").is_empty() {
        say!(out, "![Latency of puts at full speed]({charts}/latency.svg)\n");
    }
}

fn cell(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { median, least, most }) => {
            format!("{} ({} to {})", short(median), short(least), short(most))
        }
        None => "-".to_owned(),
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| match ratio < 1.0 {
        true => format!("**{ratio:.2}x**"),
        false => format!("{ratio:.2}x"),
    })
}

fn throughput(out: &mut String, document: &Document, rows: &[Row]) {
    say!(out, "## Operations per second\n");
    say!(out, "| row | Treering | RocksDB | fjall | to RocksDB | to fjall | target | reached |");
    say!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in rows.iter().filter(|row| !row.is_device()) {
        let of = |engine| cell(document.throughput(row.name, engine));
        let to = |peer| times(document.ratio(row.name, peer).filter(|_| row.measures_throughput()));
        let (target, reached) = match (row.target, document.verdict(row)) {
            (Target::Tail, _) => ("see below".to_owned(), ""),
            (_, Some((reached, text))) => (text, if reached { "yes" } else { "**no**" }),
            _ => ("-".to_owned(), "-"),
        };
        say!(
            out,
            "| {} | {} | {} | {} | {} | {} | {target} | {reached} |",
            row.name,
            of("treering"),
            of("rocksdb"),
            of("fjall"),
            to("rocksdb"),
            to("fjall")
        );
    }
    say!(out, "\nThe device alone, without an engine:\n");
    say!(out, "| row | operations per second | p50 | p99 |");
    say!(out, "| --- | --- | --- | --- |");
    for row in rows.iter().filter(|row| row.is_device()) {
        let p = |figure: fn(&Measurement) -> f64| {
            document.spread(row.name, "device", figure).map_or(0.0, |spread| spread.median)
        };
        say!(
            out,
            "| {} | {} | {:.0} us | {:.0} us |",
            row.name,
            cell(document.throughput(row.name, "device")),
            p(|m| m.latency.p50 as f64 / 1e3),
            p(|m| m.latency.p99 as f64 / 1e3)
        );
    }
    say!(
        out,
        "\nRows: `fill*` and `overwrite` count keys (5 M, defaults 1 M), the log is on and not synced; `read*` and `seek*` are timed over data \
         filled in random order with repetition (63 % of the keys drawn exist), cached rows after one scan of everything; `multireadrandom` counts keys; \
         `seekrandom_N` makes a cursor, seeks and takes N nexts; `overwrite_100k_per_s` is the same load for every engine, timed from the moment when a put was due, so the latencies below are what counts; \
         `readwhilewriting` counts the reads of one thread beside one that overwrites without limit; \
         `cold_*` have 10 M keys of 400 bytes, 64 MiB of cache and direct reads. Point reads count the keys that a filter or the cache answers \
         without a read of the device, for every engine, so they can be more than the device alone gives.\n"
    );
}

fn tail(out: &mut String, document: &Document, rows: &[Row]) {
    let Some(row) = rows.iter().find(|row| row.target == Target::Tail) else { return };
    let Some(figures) = document.tail(row.name) else { return };
    say!(out, "## Overwriting at full speed\n");
    let secs = document.spread(row.name, "treering", |m| m.secs).map_or(0.0, |secs| secs.median);
    say!(
        out,
        "All keys are there, then puts of random keys without pause for {secs:.0} s; every put is timed. Rounds: {}. \
         Each engine writes as fast as it can, so the faster one asks more of the device and of the machine below it.\n",
        document.rounds_of(row.name, "treering").len()
    );
    say!(out, "| | Treering | RocksDB | ratio | target | reached |");
    say!(out, "| --- | --- | --- | --- | --- | --- |");
    for (what, reached, ours, peer, unit) in figures {
        let is_latency = matches!(what, "p99.9" | "longest put");
        let target = if is_latency { "a third" } else { "no higher" };
        let reached = if reached { "yes" } else { "**no**" };
        say!(
            out,
            "| {what} | {ours:.2} {unit} | {peer:.2} {unit} | {:.2} | {target} | {reached} |",
            ours / peer
        );
    }
    say!(out, "");
}

/// Whether the targets hold in two runs made at different times.
fn both_runs(out: &mut String, document: &Document, earlier: &Document, rows: &[Row]) {
    say!(out, "## And at another time\n");
    say!(
        out,
        "A run of commit {}, {}, {}, {} cores, as far as it went.\n",
        earlier.commit,
        earlier.date,
        earlier.machine.cpu,
        earlier.machine.cores
    );
    say!(out, "| row | to RocksDB then | to RocksDB now | target | reached in both |");
    say!(out, "| --- | --- | --- | --- | --- |");
    for row in rows {
        let (Some(then), Some(now)) = (earlier.verdict(row), document.verdict(row)) else {
            continue;
        };
        let both = if then.0 && now.0 { "yes" } else { "**no**" };
        let of = |document: &Document| match row.target {
            Target::ShareOf(other, _) => {
                let share = document.share(row.name, other).unwrap_or_default();
                format!("{:.0} % of {other}", share * 100.0)
            }
            _ => times(document.ratio(row.name, "rocksdb")),
        };
        let target = match row.target {
            Target::Ratio(least) => format!("at least {least:.1}x"),
            Target::ShareOf(_, least) => format!("at least {:.0} %", least * 100.0),
            Target::Tail | Target::None => "latency, space, memory".to_owned(),
        };
        say!(out, "| {} | {} | {} | {target} | {both} |", row.name, of(earlier), of(document));
    }
    say!(out, "");
}

fn latencies(out: &mut String, document: &Document, rows: &[Row]) {
    say!(out, "## Latency\n");
    say!(
        out,
        "Microseconds, medians over the rounds. In rows of fast operations one of 16 is timed; in cold, synced, steady and long rows all are. A multi_get is one operation here.\n"
    );
    say!(out, "| row | engine | p50 | p99 | p99.9 | p99.99 | longest |");
    say!(out, "| --- | --- | --- | --- | --- | --- | --- |");
    for row in rows.iter().filter(|row| !row.is_device()) {
        for engine in engines::NAMES {
            let p = |figure: fn(&Measurement) -> u64| {
                let spread = document.spread(row.name, engine, |m| figure(m) as f64 / 1e3);
                spread.map_or("-".to_owned(), |spread| short(spread.median))
            };
            let rounds = document.rounds_of(row.name, engine);
            if rounds.iter().any(|round| round.latency.max > 0) {
                say!(
                    out,
                    "| {} | {engine} | {} | {} | {} | {} | {} |",
                    row.name,
                    p(|m| m.latency.p50),
                    p(|m| m.latency.p99),
                    p(|m| m.latency.p999),
                    p(|m| m.latency.p9999),
                    p(|m| m.latency.max)
                );
            }
        }
    }
    say!(out, "");
}

fn costs(out: &mut String, document: &Document, rows: &[Row]) {
    say!(out, "## What it costs\n");
    say!(
        out,
        "CPU seconds of all threads per million operations; bytes written to storage per byte of keys and values while the row ran (the long row: until compaction was done); \
         bytes of files per byte of live keys and values; peak resident memory of the process.\n"
    );
    say!(out, "| row | engine | CPU s per M | write amp. | space amp. | peak MiB |");
    say!(out, "| --- | --- | --- | --- | --- | --- |");
    for row in rows.iter().filter(|row| !row.is_device()) {
        for engine in engines::NAMES {
            let of = |figure: fn(&Measurement) -> f64| {
                document.spread(row.name, engine, figure).map_or(0.0, |spread| spread.median)
            };
            let Some(first) = document.rounds_of(row.name, engine).first() else { continue };
            let optional = |there: bool, value: f64| match there {
                true => format!("{value:.2}"),
                false => "-".to_owned(),
            };
            say!(
                out,
                "| {} | {engine} | {:.2} | {} | {} | {:.0} |",
                row.name,
                of(|m| m.cpu_secs * 1e6 / m.ops.max(1) as f64),
                optional(first.user_bytes > 0, of(write_amplification)),
                optional(first.disk_bytes > 0, of(space_amplification)),
                of(|m| m.rss_bytes as f64 / 1048576.0)
            );
        }
    }
    say!(out, "");
}

fn settings(out: &mut String) {
    say!(out, "## Settings\n");
    say!(out, "| | Treering | RocksDB | fjall |");
    say!(out, "| --- | --- | --- | --- |");
    let all = engines::NAMES.map(engines::settings);
    for (line, (what, ours)) in all[0].iter().enumerate() {
        let of = |engine: usize| all[engine].get(line).map_or("-", |(_, text)| text);
        say!(out, "| {what} | {ours} | {} | {} |", of(1), of(2));
    }
    say!(
        out,
        "\nRocksDB is built as its crate builds it: -O3 for generic x86-64, without link-time optimisation across C++ and Rust. Treering finds the CPU's features at run time. \
         Values are taken where each engine pins them (Treering and RocksDB) or gives a reference-counted slice (fjall); first and last byte of every key and value are read.\n"
    );
}

fn failures(out: &mut String, document: &Document) {
    if document.failures.is_empty() {
        return;
    }
    say!(out, "## What did not come to an end\n");
    for (row, engines) in &document.failures {
        for (engine, error) in engines {
            say!(out, "- {row}, {engine}: {}", error.replace('|', "\\|"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::canned;

    #[test]
    fn the_report_shows_medians_ratios_and_failures() {
        let text = text(&canned(), Some(&canned()), "charts");
        assert!(text.contains(
            "| fillrandom | 2.00 K (1.00 K to 3.00 K) | 200 (100 to 300) | - | 10.00x | - | at least 2.5x | yes |"
        ), "{text}");
        assert!(text.contains("| p99.9 | 1.00 us | 1.00 us | 1.00 | a third | **no** |"), "{text}");
        assert!(text.contains("| fillrandom | 10.00x | 10.00x | at least 2.5x | yes |"), "{text}");
        assert!(text.contains("- fillrandom, fjall: it \\| fell over"));
        assert!(text.contains("**1 of 2 targets reached.**"));
    }
}
