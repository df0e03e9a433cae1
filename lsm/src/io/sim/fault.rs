//! What can be made to go wrong with a call of the simulated disk, and when.

use std::path::Path;
use std::sync::Arc;

/// The kinds of calls that are counted, traced and made to fail.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Call {
    /// `Disk::create_directory`.
    CreateDirectory = 1,
    /// `Disk::list`.
    List = 2,
    /// `Disk::open`.
    Open = 3,
    /// `Disk::remove`.
    Remove = 4,
    /// `Disk::rename`; its path is the source.
    Rename = 5,
    /// `Disk::sync_directory`.
    SyncDirectory = 6,
    /// `Disk::lock`.
    Lock = 7,
    /// `Disk::map_shared`.
    Map = 8,
    /// `Disk::free_bytes`.
    FreeBytes = 9,
    /// `File::read_at`, or a transfer of a queued read.
    Read = 10,
    /// `File::write_at`, or a transfer of a queued write.
    Write = 11,
    /// `File::write_at` with `durable`.
    WriteDurable = 12,
    /// `File::sync_data`.
    Sync = 13,
    /// `File::size`.
    Size = 14,
    /// `File::set_size`.
    SetSize = 15,
}

/// One way for a call to go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The call fails with this errno. A write that fails with EIO may have written a part; a sync that fails loses
    /// its hold on what it should have synced. EINTR is met by trying again, inside, as the real bodies do.
    Error(i32),
    /// A read or write transfers about half of what was asked (whole alignment units of a direct file).
    Short,
    /// One bit of the bytes read or written is wrong, and nobody says so.
    Flip,
}

impl From<i32> for Fault {
    fn from(errno: i32) -> Fault {
        Fault::Error(errno)
    }
}

type Matcher = Arc<dyn Fn(Call, &Path) -> bool + Send + Sync>;

enum When {
    At(u64),
    Matching(Matcher),
}

struct Rule {
    when: When,
    fault: Fault,
    once: bool,
}

/// The armed faults; the first rule that matches and applies wins.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    pub(super) fn at(&mut self, index: u64, fault: Fault, once: bool) {
        self.rules.push(Rule { when: When::At(index), fault, once });
    }

    pub(super) fn matching(&mut self, matcher: Matcher, fault: Fault, once: bool) {
        self.rules.push(Rule { when: When::Matching(matcher), fault, once });
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault of this call, if `applies` to it; a rule for one call is used up by it.
    pub(super) fn take(
        &mut self,
        index: u64,
        call: Call,
        path: &Path,
        applies: impl Fn(Fault) -> bool,
    ) -> Option<Fault> {
        let position = self.rules.iter().position(|rule| {
            let hit = match &rule.when {
                When::At(at) if rule.once => *at == index,
                When::At(at) => *at <= index,
                When::Matching(matcher) => matcher(call, path),
            };
            hit && applies(rule.fault)
        })?;
        let fault = self.rules[position].fault;
        if self.rules[position].once {
            self.rules.remove(position);
        }
        Some(fault)
    }
}
