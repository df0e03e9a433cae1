//! Replays the runs that made a database: which hash each key should have.

use super::{ABSENT, hash};
use crate::engine::Failure;
use crate::flags::Settings;
use crate::generate::mersenne::Mersenne64;
use crate::generate::mixgraph::{MixOperation, MixStream};
use crate::generate::stream::{DeleteStream, KeyOrder, ReadDraws, ReadWriteStream, WriteStream};
use crate::generate::value::{ValueBuffer, ValuePlace, ValueStream};
use crate::list::{Effect, Form, Item, Name, Sizes};
use crate::workload;
use std::sync::Arc;

/// Most runs that write, after the last fill.
const WRITING_RUNS_MAX: usize = u16::MAX as usize - 1;
/// How many writes the search for a prefix goes on without coming nearer: a writer may write a small database over and
/// over, and only its last round counts.
const SEARCH_WRITES: u64 = 1 << 28;
/// How far past the nearest state the search goes, in keys that differ more.
const SEARCH_DIFFERENCES: u64 = 10_000;

/// One run of one benchmark: its threads' seeds follow from the threads that ran before.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static Name,
    pub(crate) sizes: Sizes,
    /// Threads that were started before, in the process of this run.
    pub(crate) first_thread: u64,
    /// The database was emptied before this run.
    pub(crate) is_fresh: bool,
    /// Keys that each thread wrote; empty if it follows from the flags, or if nobody knows.
    pub(crate) written: Vec<u64>,
    /// Nobody knows how far it came.
    pub(crate) is_cut: bool,
}

/// The runs of a process whose list was `items`.
pub(crate) fn plan(settings: &Settings, items: &[Item]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut first_thread = 0;
    for item in items.iter().filter(|item| item.name.form != Form::Command) {
        let sizes = Sizes::of(&settings.flags, item.name);
        for i in 0..item.warmups + item.repeats {
            runs.push(Run {
                name: item.name,
                sizes,
                first_thread,
                is_fresh: i == 0 && item.name.effect == Effect::Fills,
                written: item.written.clone(),
                is_cut: item.is_cut,
            });
            first_thread += sizes.threads as u64;
        }
    }
    runs
}

/// What one thread of a run writes.
enum Writes {
    Fill(WriteStream),
    Delete(DeleteStream),
    ReadWrite(ReadWriteStream),
    Mix(MixStream),
}

impl Writes {
    /// The next operation that writes, and how many operations it took; a place of `None` is a delete.
    fn next(&mut self) -> (u64, Option<ValuePlace>, u64) {
        match self {
            Writes::Fill(stream) => {
                let (number, place) = stream.next();
                (number, Some(place), 1)
            }
            Writes::Delete(stream) => (stream.next(), None, 1),
            Writes::ReadWrite(stream) => {
                let mut steps = 0;
                loop {
                    steps += 1;
                    if let (number, Some(place)) = stream.next() {
                        return (number, Some(place), steps);
                    }
                }
            }
            Writes::Mix(stream) => {
                let mut steps = 0;
                loop {
                    steps += 1;
                    if let MixOperation::Put { number, value } = stream.next() {
                        return (number, Some(value), steps);
                    }
                }
            }
        }
    }
}

/// How many operations a thread makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Amount {
    /// So many writes.
    Writes(u64),
    /// So many operations, of which some write.
    Operations(u64),
    /// Nobody knows.
    Open,
}

impl Run {
    /// True if the number of writes does not follow from the flags and is not known otherwise.
    pub(crate) fn is_open(&self, settings: &Settings) -> bool {
        let open = |thread| self.amount(settings, thread) == Amount::Open;
        self.writes_anything() && (0..self.writers()).any(open)
    }

    fn writes_anything(&self) -> bool {
        matches!(self.name.effect, Effect::Fills | Effect::Writes)
    }

    /// Threads that write.
    pub(crate) fn writers(&self) -> usize {
        if self.name.form == Form::ThreadsAndOne { 1 } else { self.sizes.threads }
    }

    fn amount(&self, settings: &Settings, thread: usize) -> Amount {
        if self.is_cut { Amount::Open } else { self.amount_to_end(settings, thread) }
    }

    /// The operations of a thread that was not cut off.
    fn amount_to_end(&self, settings: &Settings, thread: usize) -> Amount {
        if let Some(written) = self.written.get(thread) {
            return Amount::Writes(*written);
        }
        let flags = &settings.flags;
        let sizes = &self.sizes;
        let whole_batches = |count: u64| count / sizes.entries_per_batch * sizes.entries_per_batch;
        let is_timed = flags.duration > 0;
        match self.name.name {
            _ if sizes.num == 0 => Amount::Writes(0),
            "fillseq" | "fillbatch" | "filluniquerandom" => {
                Amount::Writes(whole_batches(sizes.writes))
            }
            "deleteseq" => Amount::Writes(whole_batches(sizes.deletes)),
            _ if is_timed => Amount::Open,
            "deleterandom" => Amount::Writes(whole_batches(sizes.deletes)),
            "readwhilewriting" | "seekrandomwhilewriting" => Amount::Open,
            "updaterandom" => Amount::Writes(sizes.read_writes),
            "readrandomwriterandom" => Amount::Operations(sizes.read_writes),
            "mixgraph" => Amount::Operations(sizes.reads),
            _ => Amount::Writes(whole_batches(sizes.writes)),
        }
    }

    fn stream(&self, settings: &Settings, buffer: &Arc<ValueBuffer>, thread: usize) -> Writes {
        let flags = &settings.flags;
        let seed = settings.seed.wrapping_add(self.first_thread + 1 + thread as u64);
        let random = Mersenne64::new(seed);
        let size = workload::value_size(settings, &self.sizes);
        let values = ValueStream::new(Arc::clone(buffer), size, seed);
        let num = flags.num as u64;
        let entries = self.sizes.entries_per_batch;
        match self.name.name {
            "deleteseq" => Writes::Delete(DeleteStream::new(random, None, entries)),
            "deleterandom" => Writes::Delete(DeleteStream::new(random, Some(num), entries)),
            "readrandomwriterandom" => {
                let percent = flags.readwritepercent as u64;
                Writes::ReadWrite(ReadWriteStream::new(random, num, values, percent))
            }
            "mixgraph" => {
                let draws = ReadDraws::new(random, num, flags.read_random_exp_range);
                Writes::Mix(MixStream::new(draws, values, settings.mix()))
            }
            "updaterandom" | "readwhilewriting" | "seekrandomwhilewriting" => {
                Writes::Fill(WriteStream::new(random, KeyOrder::Random(num), values, 1))
            }
            name => {
                let order = workload::order(name, self.sizes.num, settings.seed);
                Writes::Fill(WriteStream::new(random, order, values, entries))
            }
        }
    }

    fn buffer(&self, settings: &Settings) -> Arc<ValueBuffer> {
        let size = workload::value_size(settings, &self.sizes);
        ValueBuffer::new(settings.flags.compression_ratio, size.max())
    }
}

/// What every key should hold.
pub(super) struct Expected {
    num: usize,
    /// Hash of the last write of each thread to each key: thread after thread.
    hashes: Vec<u32>,
    /// The run of that write, from 1; empty if one thread wrote alone.
    runs: Vec<u16>,
}

impl Expected {
    fn new(num: usize, threads: usize) -> Expected {
        let runs = if threads > 1 { vec![0; num * threads] } else { Vec::new() };
        Expected { num, hashes: vec![ABSENT; num * threads], runs }
    }

    fn set(&mut self, number: u64, thread: usize, run: u16, hash: u32) {
        let i = thread * self.num + number as usize;
        self.hashes[i] = hash;
        if let Some(of_run) = self.runs.get_mut(i) {
            *of_run = run;
        }
    }

    /// True if `hash` is what the key may hold: the last write of any thread of the last run that wrote it.
    pub(super) fn allows(&self, number: u64, hash: u32) -> bool {
        let at = |thread: usize| thread * self.num + number as usize;
        if self.runs.is_empty() {
            return self.hashes[at(0)] == hash;
        }
        let threads = 0..self.hashes.len() / self.num;
        let last = threads.clone().map(|thread| self.runs[at(thread)]).max().unwrap_or(0);
        threads
            .filter(|thread| self.runs[at(*thread)] == last)
            .any(|thread| self.hashes[at(thread)] == hash)
    }
}

/// The runs since the last fill.
pub(super) struct Replay<'a> {
    settings: &'a Settings,
    runs: Vec<&'a Run>,
}

impl<'a> Replay<'a> {
    /// Chooses the runs that count.
    ///
    /// # Errors
    /// They cannot be replayed, and why.
    pub(super) fn new(settings: &'a Settings, runs: &'a [Run]) -> Result<Replay<'a>, Failure> {
        let format = settings.key_format(settings.flags.key_size as usize);
        if !format.is_invertible() {
            return Err("keys are too short to tell their numbers; raise --key_size".to_owned());
        }
        let first = runs.iter().rposition(|run| run.is_fresh).unwrap_or(0);
        let runs: Vec<&Run> = runs[first..].iter().filter(|run| run.writes_anything()).collect();
        if runs.len() > WRITING_RUNS_MAX {
            return Err(format!("more than {WRITING_RUNS_MAX} runs wrote since the last fill"));
        }
        let mix = settings.mix();
        let is_unbound = mix.key_dist.iter().all(|parameter| *parameter != 0.0)
            && mix.keyrange_dist.iter().all(|parameter| *parameter == 0.0);
        if is_unbound && mix.put_ratio > 0.0 && runs.iter().any(|run| run.name.name == "mixgraph") {
            return Err(
                "mixgraph with --key_dist_a and without key ranges writes keys outside of --num"
                    .to_owned(),
            );
        }
        for run in &runs {
            let count = match run.name.name {
                "fillseq" | "fillbatch" | "filluniquerandom" => run.sizes.writes,
                "deleteseq" => run.sizes.deletes,
                _ => 0,
            };
            // Which also bounds the shuffle of filluniquerandom, as --num was checked against it there.
            if count > settings.flags.num as u64 {
                return Err(format!("{} went past --num, which cannot be replayed", run.name.name));
            }
        }
        let replay = Replay { settings, runs };
        replay.check_open_runs()?;
        Ok(replay)
    }

    /// Only the last run may be open, and only if one thread of it writes.
    fn check_open_runs(&self) -> Result<(), Failure> {
        let last = self.runs.len().saturating_sub(1);
        for (i, run) in self.runs.iter().enumerate() {
            let is_open = self.is_open(run);
            if is_open && (i < last || run.writers() > 1) {
                let name = run.name.name;
                return Err(format!(
                    "how many writes {name} made is not known; give it as {name}[N123], as the run itself printed it"
                ));
            }
        }
        Ok(())
    }

    fn is_open(&self, run: &Run) -> bool {
        run.is_open(self.settings)
    }

    /// The last run, if the number of its writes is not known.
    pub(super) fn open_run(&self) -> Option<&'a Run> {
        self.runs.last().copied().filter(|run| self.is_open(run))
    }

    /// The state after all runs but an open one.
    pub(super) fn expected(&self) -> Expected {
        let threads = self.runs.iter().map(|run| run.writers()).max().unwrap_or(1);
        let mut expected = Expected::new(self.settings.flags.num as usize, threads);
        for (i, run) in self.runs.iter().enumerate().filter(|(_, run)| !self.is_open(run)) {
            let buffer = run.buffer(self.settings);
            for thread in 0..run.writers() {
                let amount = run.amount(self.settings, thread);
                let mut stream = run.stream(self.settings, &buffer, thread);
                let (mut writes, mut operations) = (0, 0);
                loop {
                    let is_over = match amount {
                        Amount::Writes(count) => writes == count,
                        Amount::Operations(count) => {
                            operations == count || !can_write(self.settings, run)
                        }
                        Amount::Open => true,
                    };
                    if is_over {
                        break;
                    }
                    let (number, place, steps) = stream.next();
                    writes += 1;
                    operations += steps;
                    if matches!(amount, Amount::Operations(count) if operations > count) {
                        break;
                    }
                    let hash = place.map_or(ABSENT, |place| hash(buffer.at(place)));
                    expected.set(number, thread, i as u16 + 1, hash);
                }
            }
        }
        expected
    }

    /// Of the states after 0, 1, 2, ... writes of `run`, the one nearest to `actual`: how many writes, and how many keys
    /// still differ. Each write changes one key, so the differences are counted along.
    pub(super) fn nearest_prefix(&self, run: &Run, actual: &[u32]) -> (u64, u64) {
        let mut expected = self.expected();
        let agrees =
            |expected: &Expected, number: u64| expected.allows(number, actual[number as usize]);
        let mut wrong = (0..actual.len() as u64).filter(|n| !agrees(&expected, *n)).count() as u64;
        let (mut best, mut writes) = ((0, wrong), 0u64);
        let buffer = run.buffer(self.settings);
        let mut stream = run.stream(self.settings, &buffer, 0);
        let run_number = self.runs.len() as u16;
        // Past the true end nearly every write makes one more key differ, so the search ends soon after it.
        let writes_max = match run.amount_to_end(self.settings, 0) {
            Amount::Writes(count) => count,
            Amount::Operations(_) if !can_write(self.settings, run) => 0,
            Amount::Operations(_) | Amount::Open => u64::MAX,
        };
        while best.1 > 0
            && writes < writes_max
            && writes - best.0 < SEARCH_WRITES
            && wrong <= best.1 + SEARCH_DIFFERENCES
        {
            let (number, place, _) = stream.next();
            wrong -= u64::from(!agrees(&expected, number));
            let hash = place.map_or(ABSENT, |place| hash(buffer.at(place)));
            expected.set(number, 0, run_number, hash);
            wrong += u64::from(!agrees(&expected, number));
            writes += 1;
            if wrong < best.1 {
                best = (writes, wrong);
            }
        }
        best
    }
}

/// False if a mixed run makes no writes at all, so that waiting for one would not end.
fn can_write(settings: &Settings, run: &Run) -> bool {
    match run.name.name {
        "readrandomwriterandom" => settings.flags.readwritepercent < 100,
        "mixgraph" => settings.flags.mix_put_ratio > 0.0,
        _ => true,
    }
}
