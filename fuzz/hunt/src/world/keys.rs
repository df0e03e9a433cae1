//! Keys and values: some of every shape that an ordering, a prefix or a length could go wrong with.

use crate::drive::Chance;
use std::io::Write as _;
use treering_lsm::limits::KEY_BYTES_MAX;

/// Keys that a quarter of all draws take.
const HOT: u64 = 40;

/// Draws keys and values.
#[derive(Clone, Debug)]
pub struct Keys {
    /// How many different keys there are, about.
    count: u64,
    /// Usual bytes of a value, at most.
    value_bytes: u64,
    /// Values drawn so far: no two are equal but the short ones.
    serial: u64,
}

impl Keys {
    /// `count` keys, about, with values of mostly up to `value_bytes` bytes.
    pub fn new(count: u64, value_bytes: u64) -> Keys {
        Keys { count, value_bytes, serial: 0 }
    }

    /// Puts a key into `key`.
    pub fn draw(&self, chance: &mut Chance, key: &mut Vec<u8>) {
        key.clear();
        let number = if chance.one_in(4) { chance.below(HOT) } else { chance.below(self.count) };
        let draw = chance.draw();
        match number % 8 {
            _ if draw.is_multiple_of(8192) => longest(number % 4, key),
            _ if draw % 512 == 1 => long(number % 64, key),
            0..=2 => text(key, format_args!("user{number:08}")),
            3 => key.extend_from_slice(&number.to_be_bytes()),
            4 => text(key, format_args!("{number}")),
            5 => text(
                key,
                format_args!("tenant/{:04}/a-rather-long-common-path/{number}", number % 7),
            ),
            6 => key.push(number as u8),
            _ => high(number, key),
        }
    }

    /// A prefix of some keys, but rarely of all of them.
    pub fn prefix(&self, chance: &mut Chance, prefix: &mut Vec<u8>) {
        self.draw(chance, prefix);
        let cut = 1 + chance.below(3) as usize;
        prefix.truncate(prefix.len().saturating_sub(cut));
    }

    /// A range, from a first key to before an end, which is empty where there is none: mostly over a few neighbours.
    pub fn range(&self, chance: &mut Chance) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.draw(chance, &mut start);
        match chance.below(64) {
            0 => {}
            1 => std::mem::swap(&mut start, &mut end),
            2 | 3 => {
                self.draw(chance, &mut end);
                if end < start {
                    std::mem::swap(&mut start, &mut end);
                }
            }
            _ => {
                end.clone_from(&start);
                end.truncate(start.len().saturating_sub(chance.below(2) as usize).max(1));
                let last = end.last_mut().expect("a key has a byte");
                *last = last.saturating_add(1 + chance.below(6) as u8);
            }
        }
        // The first key alone: a range must not end before it begins.
        if end <= start && !end.is_empty() {
            end.clone_from(&start);
            end.push(0);
        }
        (start, end)
    }

    /// A value; no two long ones are equal.
    pub fn value(&mut self, chance: &mut Chance) -> Vec<u8> {
        self.serial += 1;
        let draw = chance.draw();
        let length = match draw % 4096 {
            0 => 1 + chance.below(40_000),
            1..=60 => 0,
            _ => 1 + (draw >> 32) % self.value_bytes,
        };
        let mut value = self.serial.to_le_bytes().to_vec();
        // Half of it compresses well.
        while (value.len() as u64) < length {
            value.extend_from_slice(&draw.rotate_left(value.len() as u32).to_le_bytes());
            value.extend_from_slice(b"ringring");
        }
        value.truncate(length as usize);
        value
    }
}

fn text(key: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    key.write_fmt(text).expect("a vector takes everything");
}

/// Runs of the highest and lowest byte: where a successor of a key or prefix is hard to find.
fn high(number: u64, key: &mut Vec<u8>) {
    for shift in 0..1 + number % 9 {
        key.push([0x00, b'a', 0xfe, 0xff][(number >> (shift * 2)) as usize % 4]);
    }
}

fn long(number: u64, key: &mut Vec<u8>) {
    key.resize(100 + number as usize * 60, b'l');
    key.extend_from_slice(&number.to_be_bytes());
}

fn longest(number: u64, key: &mut Vec<u8>) {
    key.resize(KEY_BYTES_MAX - 1, b'm');
    key.push(number as u8);
}
