//! Learning the prefix of a skiplist, and building its index anew under another one.
//!
//! Called when a leaf is full, and seldom does anything: once for the first leaf, and each time that a sixteenth of the entries have
//! left the prefix. The rebuilt index has leaves of 64 entries on the heap; the old one stays as it is for the readers that are in it.

use crate::base::key;
use crate::base::random::Random;
use crate::base::sync::fine::AtomicUsize;
use crate::mem::arena::Applier;
use crate::mem::entry::EntryUnit;
use crate::mem::leaf::{HALF, LEAF_SLOTS, Leaf, SKIP_PREFIX};
use crate::mem::prefix::Prefix;
use crate::mem::skiplist::{Position, Root, Skiplist, Writer, pair_entry, random_height};
use crate::mem::tower::{HEIGHT_MAX, Tower, TowerMemory};

impl Skiplist {
    /// Called with a full leaf: learns a prefix if none is settled, or a shorter one if too many keys have left it. Answers the
    /// new root if the index was rebuilt.
    #[cold]
    pub(super) fn improve_prefix(
        &self,
        applier: &Applier<'_>,
        writer: &mut Writer,
        root: &Root,
        leaf: &Leaf,
    ) -> Option<&Root> {
        let len = self.len();
        let left_behind = writer.strangers >= HALF as u64 && writer.strangers * 16 > len;
        if writer.settled && !left_behind || len < writer.learn_at {
            return None;
        }
        let mut pairs = [0; LEAF_SLOTS];
        self.sort_leaf(leaf, LEAF_SLOTS, &mut pairs);
        let sample = pairs.map(|pair| self.entry(pair_entry(pair)).key());
        if !writer.settled && !root.prefix.bytes().is_empty() && root.prefix.serves(&sample) {
            writer.settled = true;
            return None;
        }
        let (smallest, largest) = self.ends(root);
        let ascending = leaf.sorted(LEAF_SLOTS) == LEAF_SLOTS;
        let prefix = match Prefix::learn(&sample, smallest, largest, ascending) {
            Some(prefix) => {
                writer.settled = true;
                prefix
            }
            None if left_behind => {
                let shared = key::common_prefix(smallest, largest);
                Prefix::new(&root.prefix.bytes()[..shared.min(root.prefix.bytes().len())])
            }
            None => {
                writer.learn_at = len * 2;
                return None;
            }
        };
        (prefix != root.prefix).then(|| self.rebuild(applier, writer, root, prefix))
    }

    /// Smallest and largest key.
    fn ends<'a>(&'a self, root: &'a Root) -> (&'a [u8], &'a [u8]) {
        let keys =
            |leaf: &'a Leaf| leaf.entries(leaf.count()).iter().map(|&unit| self.entry(unit).key());
        let smallest = keys(self.first(root).leaf).min().unwrap_or_default();
        (smallest, keys(self.last(root).leaf).max().unwrap_or_default())
    }

    /// Builds the index anew under `prefix`: leaves of 64, so that nothing is owed for their splits yet.
    fn rebuild(
        &self,
        applier: &Applier<'_>,
        writer: &mut Writer,
        old: &Root,
        prefix: Prefix,
    ) -> &Root {
        let mut build =
            Builder { memory: &mut writer.memory, height: 1, tails: None, slots: Vec::new() };
        let mut strangers = 0;
        let mut pairs = [0; LEAF_SLOTS];
        let mut tower = Some(old.first);
        while let Some(at) = tower {
            let Position { leaf, next, .. } = self.at(at);
            let count = leaf.count();
            self.sort_leaf(leaf, count, &mut pairs);
            for &pair in &pairs[..count] {
                let entry = pair_entry(pair);
                let key = self.entry(entry).key();
                strangers += u64::from(!prefix.fits(key));
                build.slots.push((prefix.head(key), entry));
                if build.slots.len() == HALF {
                    build.finish_leaf(&mut writer.random);
                }
            }
            tower = next;
        }
        build.finish_leaf(&mut writer.random);
        let height = AtomicUsize::new(build.height);
        let first = build.first();
        writer.strangers = strangers;
        applier.release(std::mem::take(&mut writer.reserved));
        self.publish_root(writer, Root { prefix, first, height })
    }
}

/// Builds an index from sorted slots.
struct Builder<'w> {
    memory: &'w mut TowerMemory,
    height: usize,
    /// The first tower, and the last tower of each level.
    tails: Option<(Tower, [Tower; HEIGHT_MAX])>,
    slots: Vec<(u64, EntryUnit)>,
}

impl Builder<'_> {
    /// Ends the open leaf, if there is anything in it or it is the first.
    fn finish_leaf(&mut self, random: &mut Random) {
        let Some(&(head, entry)) = self.slots.first() else { return };
        // SAFETY: fresh memory of the list.
        let leaf = unsafe { Leaf::create(self.memory.leaf(), SKIP_PREFIX, self.slots.drain(..)) };
        let Some((_, tails)) = &mut self.tails else {
            let first = self.memory.tower(HEIGHT_MAX, 0, 0, leaf);
            self.tails = Some((first, [first; HEIGHT_MAX]));
            return;
        };
        let height = random_height(random);
        self.height = self.height.max(height);
        let tower = self.memory.tower(height, head, entry, leaf);
        for (level, tail) in tails.iter_mut().enumerate().take(height) {
            // SAFETY: the tail of a level has this level.
            unsafe { tail.link(level) }.publish(tower);
            *tail = tower;
        }
    }

    fn first(&mut self) -> Tower {
        match &self.tails {
            Some((first, _)) => *first,
            None => {
                // SAFETY: fresh memory of the list.
                let leaf = unsafe { Leaf::create(self.memory.leaf(), SKIP_PREFIX, [].into_iter()) };
                self.memory.tower(HEIGHT_MAX, 0, 0, leaf)
            }
        }
    }
}
