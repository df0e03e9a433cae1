//! The text of `--help`: benchmarks first, then the flags by group.

use super::foreign::{AT_ONE_VALUE, WITHOUT_EFFECT};
use super::table::{Flags, Kind, TABLE};
use crate::list::NAMES;
use std::fmt::Write;

/// Column at which help texts end.
const WIDTH: usize = 100;

/// The whole text.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "db_bench: RocksDB's benchmark for Treering. Same names, flags, keys and output lines.\n\
         \n\
         usage: db_bench [--flag=value | --flag value | --truth | --notruth]...\n\
         example: db_bench --benchmarks=fillrandom,readrandom --num=5000000 --bloom_bits=10\n\
         \n\
         Benchmarks\n",
    );
    for name in NAMES {
        entry(&mut text, name.name, name.help);
    }
    let defaults = Flags::default();
    let mut group = "";
    for flag in TABLE {
        if flag.group != group {
            group = flag.group;
            let _ = write!(text, "\n{group}\n");
        }
        let default = defaults.text(flag.name).unwrap_or_default();
        let title = match (flag.kind, default.as_str()) {
            (Kind::Bool, "false") => format!("--{}", flag.name),
            (Kind::Bool, _) => format!("--no{}", flag.name),
            (_, "") => format!("--{}=", flag.name),
            _ if flag.name == "benchmarks" => "--benchmarks=".to_owned(),
            _ => format!("--{}={default}", flag.name),
        };
        entry(&mut text, &title, flag.help);
    }
    let names = |text: &mut String, title: &str, list: Vec<&str>| {
        let _ = write!(text, "\n{title}\n");
        wrap(text, 2, 2, &list.join(" "));
    };
    let fixed: Vec<String> =
        AT_ONE_VALUE.iter().map(|(name, _, value)| format!("{name}={value}")).collect();
    names(
        &mut text,
        "Flags of RocksDB that are accepted without effect",
        WITHOUT_EFFECT.iter().map(|(name, _)| *name).collect(),
    );
    names(
        &mut text,
        "Flags of RocksDB that are accepted at this value only",
        fixed.iter().map(String::as_str).collect(),
    );
    text.push_str(
        "\nThe values shown are the defaults. Other flags are an error; --undefok=a,b allows unknown ones.\n",
    );
    text
}

fn entry(text: &mut String, title: &str, help: &str) {
    const COLUMN: usize = 36;
    let _ = write!(text, "  {title}");
    let used = title.len() + 2;
    if used + 1 > COLUMN {
        text.push('\n');
        wrap(text, COLUMN, COLUMN, help);
    } else {
        let _ = write!(text, "{:1$}", "", COLUMN - used);
        wrap(text, 0, COLUMN, help);
    }
}

/// Appends `words`, broken into lines; the first begins with `first` spaces, the others with `rest`.
fn wrap(text: &mut String, first: usize, rest: usize, words: &str) {
    let _ = write!(text, "{:1$}", "", first);
    let mut column = rest;
    for (i, word) in words.split(' ').enumerate() {
        if i > 0 && column + 1 + word.len() > WIDTH {
            let _ = write!(text, "\n{:1$}", "", rest);
            column = rest;
        } else if i > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    #[test]
    fn help_names_every_flag_and_stays_readable() {
        let text = super::help();
        for flag in super::TABLE {
            assert!(text.contains(flag.name), "{}", flag.name);
        }
        let longest = text.lines().map(str::len).max();
        assert!(longest <= Some(super::WIDTH + 2), "{longest:?}");
    }
}
