//! Chance of a case: everything random in it follows from its seed.

use treering_lsm::base::random::Random;

/// A seeded generator with the draws that rows need.
#[derive(Clone, Debug)]
pub struct Chance {
    random: Random,
}

impl Chance {
    /// The same seed gives the same draws for ever. Seeds that follow each other give unrelated ones.
    pub fn new(seed: u64) -> Chance {
        let mut random = Random::new(seed ^ 0x7472_6565_7269_6e67);
        let start = random.next_u64();
        Chance { random: Random::new(start) }
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.random.one_in(n)
    }

    /// One of `items`, which are not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
