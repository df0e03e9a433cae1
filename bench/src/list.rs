//! The benchmarks: their names, what they need, and the list of `--benchmarks` with its modifiers.

use crate::flags::Flags;
use crate::nearest::{hint, nearest};

/// What a benchmark does to the database before or while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Wants an empty database.
    Fills,
    /// Writes to the one that is there.
    Writes,
    /// Reads only, or does not touch the database.
    Reads,
}

/// How a benchmark runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// `--threads` threads.
    Threads,
    /// `--threads` threads and one more, number 0, in the background.
    ThreadsAndOne,
    /// One thread whatever --threads says.
    One,
    /// At once, without threads and without a result line.
    Command,
}

impl Name {
    /// True if the database is not touched.
    pub(crate) fn is_compute(&self) -> bool {
        matches!(self.name, "crc32c" | "compress" | "uncompress")
    }
}

/// A benchmark that is offered.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) form: Form,
    pub(crate) help: &'static str,
}

macro_rules! names {
    ($($name:literal $effect:ident $form:ident $help:literal;)*) => {
        /// All benchmarks that are offered.
        pub(crate) const NAMES: &[Name] = &[$(Name {
            name: $name, effect: Effect::$effect, form: Form::$form, help: $help,
        },)*];
    };
}

names! {
    "fillseq" Fills Threads "Write --num keys in order into an empty database";
    "fillrandom" Fills Threads "Write --num random keys into an empty database";
    "filluniquerandom" Fills One "Write every key once in random order into an empty database";
    "fillbatch" Fills Threads "As fillseq, in batches of 1000";
    "fillsync" Fills Threads "As fillrandom over --num/1000 keys, each write synced";
    "fill100K" Fills Threads "As fillrandom over --num/1000 keys, with values of 100,000 bytes";
    "overwrite" Writes Threads "Write --num random keys into the database that is there";
    "readseq" Reads Threads "Read --reads keys in order";
    "readreverse" Reads Threads "Read --reads keys in reverse order";
    "readrandom" Reads Threads "Get --reads random keys";
    "readmissing" Reads Threads "Get --reads random keys that do not exist (one byte longer)";
    "readtocache" Reads One "Read all keys in order with one thread";
    "multireadrandom" Reads Threads "Get random keys, --batch_size at once";
    "seekrandom" Reads Threads "Seek to --reads random keys, a new iterator each, --seek_nexts steps";
    "newiterator" Reads Threads "Make --reads iterators";
    "deleteseq" Writes Threads "Delete --deletes keys in order";
    "deleterandom" Writes Threads "Delete --deletes random keys";
    "readwhilewriting" Writes ThreadsAndOne "readrandom, and one more thread that writes random keys";
    "readwhilescanning" Reads ThreadsAndOne "readrandom, and one more thread that scans the database";
    "seekrandomwhilewriting" Writes ThreadsAndOne "seekrandom, and one more thread that writes random keys";
    "readrandomwriterandom" Writes Threads "Gets and puts of random keys, --readwritepercent gets of a hundred";
    "updaterandom" Writes Threads "Get and then put random keys";
    "mixgraph" Writes Threads "Gets, puts and scans over hot and cold keys; see the Mixgraph flags";
    "compact" Reads Threads "Compact the whole database";
    "flush" Reads Command "Flush the memtables";
    "waitforcompaction" Reads Command "Wait until no compaction is due";
    "stats" Reads Command "Print the engine's statistics";
    "levelstats" Reads Command "Print tables and bytes of each level";
    "memstats" Reads Command "Print what holds memory";
    "resetstats" Reads Command "Set the engine's statistics to zero";
    "verify" Reads Command "Read everything, with checksums, and check every key and value against the flags that made them";
    "crc32c" Reads Threads "Checksum 5 GB in pieces of --block_size";
    "compress" Reads Threads "Compress 1 GB in pieces of --block_size";
    "uncompress" Reads Threads "Uncompress 1 GB in pieces of --block_size";
}

/// One element of the list.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: &'static Name,
    /// Runs that count.
    pub(crate) repeats: u32,
    /// Runs before them that do not.
    pub(crate) warmups: u32,
    /// Only in --verify_benchmarks: keys that each writing thread wrote, where the flags do not say.
    pub(crate) written: Vec<u64>,
    /// Only in --verify_benchmarks: the process ended in the middle.
    pub(crate) is_cut: bool,
}

/// Bytes of the values of fill100K.
pub(crate) const FILL_100K_BYTES: usize = 100_000;
/// Most repeats and warm-ups.
const RUNS_MAX: u32 = 1000;

/// Reads a list such as `fillseq,readrandom[X5-W2]`.
///
/// # Errors
/// One line that names the benchmark and what is possible.
pub(crate) fn parse(list: &str) -> Result<Vec<Item>, String> {
    items(list).map(|item| parse_item(item, false)).collect()
}

/// Reads the list of an earlier run, in which `readwhilewriting[N123]` says how many keys were written and `fillseq[N?]`
/// that the process ended in the middle; a semicolon begins the list of a further process.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_earlier(lists: &str) -> Result<Vec<Vec<Item>>, String> {
    let parse = |list| items(list).map(|item| parse_item(item, true)).collect();
    lists.split(';').map(parse).collect()
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parse_item(item: &str, is_earlier: bool) -> Result<Item, String> {
    let wrong = |reason: String| format!("benchmark {item:?}: {reason}");
    let (name, modifiers) = match item.split_once('[') {
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(modifiers) => (name, modifiers),
            None => return Err(wrong("modifiers end with ]".to_owned())),
        },
        None => (item, ""),
    };
    let Some(found) = NAMES.iter().find(|candidate| candidate.name == name) else {
        let suggestion = nearest(name, NAMES.iter().map(|name| name.name));
        return Err(wrong(format!("not offered; {}", hint(suggestion, ""))));
    };
    let mut parsed =
        Item { name: found, repeats: 1, warmups: 0, written: Vec::new(), is_cut: false };
    for modifier in modifiers.split('-').filter(|modifier| !modifier.is_empty()) {
        let (letter, digits) = modifier.split_at(modifier.chars().next().map_or(0, char::len_utf8));
        if is_earlier && modifier == "N?" {
            parsed.is_cut = true;
            continue;
        }
        if let ("N", true) = (letter, is_earlier) {
            let counts: Result<Vec<u64>, _> = digits.split('+').map(str::parse).collect();
            let reason =
                || wrong(format!("modifier {modifier:?} is not of the form N12, N12+34 or N?"));
            parsed.written = counts.map_err(|_| reason())?;
            continue;
        }
        let count = digits.parse().ok().filter(|count| (1..=RUNS_MAX).contains(count));
        match (letter, count) {
            ("X", Some(count)) => parsed.repeats = count,
            ("W", Some(count)) => parsed.warmups = count,
            _ => {
                let possible = format!("X1 to X{RUNS_MAX} and W1 to W{RUNS_MAX} are");
                return Err(wrong(format!("modifier {modifier:?} is not offered; {possible}")));
            }
        }
    }
    Ok(parsed)
}

/// The sizes of one benchmark, as the flags and its name give them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bound of the key numbers that fills draw.
    pub(crate) num: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) deletes: u64,
    pub(crate) read_writes: u64,
    pub(crate) entries_per_batch: u64,
    pub(crate) key_size: usize,
    /// Overrides the flags' size of values.
    pub(crate) value_size: Option<usize>,
    /// Every write is synced.
    pub(crate) sync: bool,
    /// Threads, background ones included.
    pub(crate) threads: usize,
}

impl Sizes {
    /// Sizes of benchmark `name`. RocksDB 7.8 divides the keys of fillsync and fill100K by 1000 but not the writes, and so
    /// does this: fillsync makes --num (or --writes) writes.
    pub(crate) fn of(flags: &Flags, name: &Name) -> Sizes {
        let num = flags.num as u64;
        let or_num = |count: i64| if count < 0 { num } else { count as u64 };
        let read_writes = match (flags.reads, flags.writes) {
            (..0, ..0) => num,
            (reads, writes) => reads.max(writes) as u64,
        };
        let mut sizes = Sizes {
            num,
            reads: or_num(flags.reads),
            writes: or_num(flags.writes),
            deletes: or_num(flags.deletes),
            read_writes,
            entries_per_batch: flags.batch_size as u64,
            key_size: flags.key_size as usize,
            value_size: None,
            sync: flags.sync,
            threads: flags.threads as usize,
        };
        match name.name {
            "fillbatch" => sizes.entries_per_batch = 1000,
            "fillsync" => {
                sizes.num /= 1000;
                sizes.sync = true;
            }
            "fill100K" => {
                sizes.num /= 1000;
                sizes.value_size = Some(FILL_100K_BYTES);
            }
            "readmissing" => sizes.key_size += 1,
            "readtocache" => sizes.reads = num,
            _ => {}
        }
        match name.form {
            Form::Threads | Form::Command => {}
            Form::ThreadsAndOne => sizes.threads += 1,
            Form::One => sizes.threads = 1,
        }
        if sizes.writes == 0 {
            sizes.writes = sizes.num;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_read_in_any_order() {
        let items =
            parse("fillseq,readrandom[X5], overwrite[W2],seekrandom[X3-W1],flush[W1-X3],").unwrap();
        let runs: Vec<(&str, u32, u32)> =
            items.iter().map(|item| (item.name.name, item.repeats, item.warmups)).collect();
        assert_eq!(
            runs,
            [
                ("fillseq", 1, 0),
                ("readrandom", 5, 0),
                ("overwrite", 1, 2),
                ("seekrandom", 3, 1),
                ("flush", 3, 1)
            ]
        );
    }

    #[test]
    fn a_wrong_item_is_one_line_with_what_is_possible() {
        let error = |list| parse(list).unwrap_err();
        assert_eq!(error("fillsec"), "benchmark \"fillsec\": not offered; did you mean fillseq?");
        assert_eq!(
            error("fillseekseq"),
            "benchmark \"fillseekseq\": not offered; did you mean fillseq?"
        );
        assert!(error("fillseq[X5").contains("end with ]"));
        for list in ["fillseq[Y5]", "fillseq[X0]", "fillseq[X]", "fillseq[é]", "fillseq[X9999]"] {
            assert!(error(list).contains("is not offered; X1 to X1000"), "{list}");
        }
    }

    #[test]
    fn counts_are_for_earlier_runs_only() {
        let lists = parse_earlier("fillrandom,readwhilewriting[N123];overwrite[N4+5]").unwrap();
        assert_eq!(lists.len(), 2);
        assert_eq!(lists[0][1].written, [123]);
        assert_eq!(lists[1][0].written, [4, 5]);
        assert!(parse("overwrite[N4]").is_err());
        assert!(parse_earlier("overwrite[Nx]").unwrap_err().contains("form N12"));
    }

    #[test]
    fn fillsync_divides_the_keys_and_not_the_writes() {
        let flags = Flags { num: 5000, ..Flags::default() };
        let sizes = |name: &str| Sizes::of(&flags, NAMES.iter().find(|n| n.name == name).unwrap());
        assert_eq!((sizes("fillsync").num, sizes("fillsync").writes), (5, 5000));
        assert_eq!(sizes("fill100K").value_size, Some(100_000));
        assert_eq!(sizes("fillbatch").entries_per_batch, 1000);
        assert_eq!(sizes("readmissing").key_size, 17);
        assert_eq!(sizes("readwhilewriting").threads, 2);
    }
}
