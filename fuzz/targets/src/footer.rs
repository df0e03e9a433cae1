//! The footer of a table.
//!
//! ```text
//! input:  mode u8 │ offset of the footer u32 │ footer        odd modes repair the checksum
//! ```
//!
//! Promise: any bytes are refused, named as newer, or become a footer whose parts lie inside the file and which, encoded again,
//! says the same. Memory: none.

use crate::input::Input;
use crate::{Target, repair};
use treering_lsm::base::limits::FORMAT_VERSION;
use treering_lsm::format::footer::{FOOTER_BYTES, Footer, FooterError, TABLE_BYTES_MAX};

pub(crate) const TARGET: Target = Target {
    name: "footer",
    promise: "any bytes are refused or become a footer whose parts lie inside the file, and which says the same encoded again",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let offset = u64::from(input.u32()) % (TABLE_BYTES_MAX - FOOTER_BYTES as u64);
    let mut bytes = input.rest().to_vec();
    if !mode.is_multiple_of(2) {
        repair::footer(&mut bytes, offset);
    }
    match Footer::decode(&bytes, offset) {
        Ok(footer) => {
            for part in [&footer.filter, &footer.index, &footer.properties] {
                assert!(footer.tail_offset <= part.start && part.start <= part.end);
                assert!(part.end <= offset);
            }
            assert!(footer.data_end <= footer.tail_offset);
            assert_eq!(Footer::decode(&footer.encode(offset), offset), Ok(footer));
        }
        Err(FooterError::Newer(version)) => assert!(version > FORMAT_VERSION),
        Err(FooterError::Damaged(detail)) => assert!(!detail.is_empty()),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (offset, partitioned) in [(6100u32, false), (200, true), (1 << 31, false)] {
        let at = u64::from(offset);
        let footer = Footer {
            table_id: 9,
            partitioned,
            filter: at - 100..at - 100,
            index: at - 100..at - 60,
            properties: at - 60..at,
            data_end: at - 150,
            tail_offset: at - 128,
        };
        for mode in [0, 1] {
            seeds.push([&[mode][..], &offset.to_le_bytes(), &footer.encode(at)].concat());
        }
    }
    seeds
}
