//! Changes inputs as storage, mistakes and fuzzers do, from a seed: for runs without libFuzzer. No coverage guides it, so what it
//! finds it finds near the corpus.

use treering_lsm::base::random::Random;

/// Mutations of one input at most.
const STEPS_MAX: u64 = 8;
/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 1 << 20;

/// Integers at which code that counts changes its mind.
const INTERESTING: [u64; 22] = [
    0,
    1,
    7,
    8,
    15,
    16,
    17,
    63,
    64,
    127,
    128,
    255,
    256,
    4095,
    4096,
    32767,
    32768,
    65535,
    65536,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];

/// A changed copy of an input of `corpus`, by `seed` alone; without a corpus, noise.
pub fn mutate(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let pick = |random: &mut Random| match corpus.len() {
        0 => &[][..],
        count => &corpus[random.below(count as u64) as usize][..],
    };
    let mut bytes = pick(&mut random).to_vec();
    for _ in 0..=random.below(STEPS_MAX) {
        step(&mut bytes, pick(&mut random), &mut random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn step(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        let length = random.below(64);
        bytes.extend((0..length).map(|_| random.next_u64() as u8));
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    let range = at..at + span(bytes.len() - at, random);
    match random.below(10) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next_u64() as u8,
        3 => {
            let number = number(bytes.len(), random);
            let width = range.len().min(8);
            bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        4 => {
            let (number, width) = (number(bytes.len(), random), 1 << random.below(4));
            bytes.splice(at..at, number.to_le_bytes()[..width].iter().copied());
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(range)),
        7 => {
            let copy = bytes[range].to_vec();
            let to = random.below(bytes.len() as u64 + 1) as usize;
            bytes.splice(to..to, copy);
        }
        8 => bytes[range].fill(random.below(2) as u8 * 0xff),
        _ if other.is_empty() => {}
        _ => {
            let from = random.below(other.len() as u64) as usize;
            let taken = &other[from..from + span(other.len() - from, random)];
            let replaced = if random.one_in(2) { at..at } else { range };
            bytes.splice(replaced, taken.iter().copied());
        }
    }
}

/// A length of 1 to `max`, which is not 0; mostly a short one.
fn span(max: usize, random: &mut Random) -> usize {
    let bound = if random.one_in(4) { max } else { max.min(16) };
    1 + random.below(bound as u64) as usize
}

fn number(length: usize, random: &mut Random) -> u64 {
    let base = match random.below(4) {
        0 => length as u64,
        _ => INTERESTING[random.below(INTERESTING.len() as u64) as usize],
    };
    base.wrapping_add(random.below(3)).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure is replayed from its seed.
    #[test]
    fn a_seed_gives_the_same_input_again_and_other_seeds_give_others() {
        let corpus = vec![b"one input".to_vec(), vec![7; 300]];
        let all: Vec<_> = (0..1000).map(|seed| mutate(seed, &corpus)).collect();
        let again: Vec<_> = (0..1000).map(|seed| mutate(seed, &corpus)).collect();
        assert_eq!(all, again);
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert!(distinct.len() > 800, "{} of 1000", distinct.len());
        assert!(all.iter().filter(|input| corpus.contains(input)).count() < 100);
        mutate(3, &[]);
    }
}
