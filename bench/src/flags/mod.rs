//! The command line, in the syntax of gflags.
//!
//! `--name=value`, `--name value`, `-name`, and for truth values `--name` and `--noname`; `--` ends the flags. `--undefok`
//! lists names that may be unknown, `--flagfile` reads further flags from a file, one per line. A later flag overrides
//! an earlier one. Every error is one line that says what is possible.

mod foreign;
mod help;
mod settings;
mod table;

pub(crate) use help::help;
pub(crate) use settings::{Codec, Filter, Io, Settings, Tuning};
pub(crate) use table::{Flags, TABLE};

use crate::nearest::{hint, nearest};
use foreign::{AT_ONE_VALUE, WITHOUT_EFFECT};
use std::collections::BTreeSet;
use table::Kind;

/// Files may name further files; this deep and no deeper.
const FLAGFILE_DEPTH_MAX: usize = 8;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) flags: Flags,
    /// Names of the flags that were given and do something.
    pub(crate) given: BTreeSet<String>,
    /// Flags that were given and accepted without effect.
    pub(crate) without_effect: BTreeSet<String>,
    pub(crate) wants_help: bool,
    pub(crate) wants_version: bool,
}

struct Parser {
    line: CommandLine,
    undefok: BTreeSet<String>,
    /// Unknown flags, judged at the end because --undefok may come later.
    unknown: Vec<String>,
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// One line that names the flag and what is possible.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<CommandLine, String> {
    let mut parser = Parser {
        line: CommandLine {
            flags: Flags::default(),
            given: BTreeSet::new(),
            without_effect: BTreeSet::new(),
            wants_help: false,
            wants_version: false,
        },
        undefok: BTreeSet::new(),
        unknown: Vec::new(),
    };
    parser.arguments(arguments.into_iter().collect(), 0)?;
    let undefok = std::mem::take(&mut parser.undefok);
    let is_allowed = |name: &str| {
        undefok.contains(name) || name.strip_prefix("no").is_some_and(|name| undefok.contains(name))
    };
    match parser.unknown.iter().find(|name| !is_allowed(name)) {
        Some(name) => {
            let all = TABLE.iter().map(|flag| flag.name);
            let all = all.chain(WITHOUT_EFFECT.iter().map(|(name, _)| *name));
            let all = all.chain(AT_ONE_VALUE.iter().map(|(name, _, _)| *name));
            Err(format!("--{name}: unknown flag; {}", hint(nearest(name, all), "--")))
        }
        None => Ok(parser.line),
    }
}

fn kind_of(name: &str) -> Option<Kind> {
    let used = TABLE.iter().find(|flag| flag.name == name).map(|flag| flag.kind);
    let free = || WITHOUT_EFFECT.iter().find(|flag| flag.0 == name).map(|flag| flag.1);
    let fixed = || AT_ONE_VALUE.iter().find(|flag| flag.0 == name).map(|flag| flag.1);
    used.or_else(free).or_else(fixed)
}

impl Parser {
    fn arguments(&mut self, arguments: Vec<String>, depth: usize) -> Result<(), String> {
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(body) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))
            else {
                return Err(format!("{argument:?}: not a flag; flags begin with --, see --help"));
            };
            if body.is_empty() {
                break;
            }
            let (name, mut value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let kind = kind_of(name);
            let takes_next = matches!(name, "undefok" | "flagfile")
                || kind.is_some_and(|kind| kind != Kind::Bool);
            if value.is_none() && takes_next {
                value = arguments.next();
                if value.is_none() {
                    return Err(format!("--{name}: needs a value"));
                }
            }
            // An unknown flag in the form `--name value` takes its value along, so that --undefok can cover it.
            if value.is_none() && kind.is_none() && !Parser::is_known_word(name) {
                arguments.next_if(|next| !next.starts_with('-'));
            }
            self.flag(name, kind, value, depth)?;
        }
        Ok(())
    }

    fn is_known_word(name: &str) -> bool {
        matches!(name, "help" | "helpfull" | "h" | "version")
            || name.strip_prefix("no").is_some_and(|name| kind_of(name) == Some(Kind::Bool))
    }

    fn flag(
        &mut self,
        name: &str,
        kind: Option<Kind>,
        value: Option<String>,
        depth: usize,
    ) -> Result<(), String> {
        match (name, kind) {
            ("help" | "helpfull" | "h", _) => self.line.wants_help = true,
            ("version", _) => self.line.wants_version = true,
            ("undefok", _) => {
                let names = value.unwrap_or_default();
                self.undefok.extend(names.split(',').map(|name| name.trim().to_owned()));
            }
            ("flagfile", _) => self.flagfile(&value.unwrap_or_default(), depth)?,
            (_, Some(_)) => self.set(name, &value.unwrap_or_else(|| "true".to_owned()))?,
            (_, None) => match name.strip_prefix("no") {
                Some(positive) if kind_of(positive) == Some(Kind::Bool) && value.is_none() => {
                    self.set(positive, "false")?;
                }
                _ => self.unknown.push(name.to_owned()),
            },
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(result) = self.line.flags.set(name, value) {
            result.map_err(|reason| format!("--{name}={value}: {reason}"))?;
            self.line.given.insert(name.to_owned());
        } else if let Some((_, kind, only)) = AT_ONE_VALUE.iter().find(|flag| flag.0 == name) {
            if !is_same(*kind, value, only) {
                return Err(match *only {
                    "" => format!("--{name}={value}: Treering does not offer this; leave it out"),
                    only => format!("--{name}={value}: Treering offers only {only} here"),
                });
            }
        } else {
            self.line.without_effect.insert(name.to_owned());
        }
        Ok(())
    }

    fn flagfile(&mut self, path: &str, depth: usize) -> Result<(), String> {
        if depth == FLAGFILE_DEPTH_MAX {
            return Err(format!("--flagfile={path}: flag files nest deeper than {depth}"));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("--flagfile={path}: cannot be read: {error}"))?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.arguments(lines.map(str::to_owned).collect(), depth + 1)
    }
}

/// True if both texts are the same value of a kind: `0` and `false`, `1` and `1.0`.
fn is_same(kind: Kind, text: &str, other: &str) -> bool {
    use table::FlagValue;
    let truth = |text: &str| <bool as FlagValue>::parse(text).ok();
    let number = |text: &str| <f64 as FlagValue>::parse(text).ok();
    match kind {
        Kind::Bool => truth(text).is_some() && truth(text) == truth(other),
        Kind::Integer | Kind::Float => number(text).is_some() && number(text) == number(other),
        Kind::Text => text == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<CommandLine, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_form_of_gflags_means_the_same() {
        for line in ["--num=5", "-num=5", "--num 5", "-num 5", "--num=7 --num=0x5"] {
            assert_eq!(parsed(line).unwrap().flags.num, 5, "{line}");
        }
        for line in ["--sync", "-sync", "--sync=1", "--sync=true", "--nosync --sync=yes"] {
            assert!(parsed(line).unwrap().flags.sync, "{line}");
        }
        assert!(!parsed("--nosync").unwrap().flags.sync);
        assert!(!parsed("--noprogress_reports").unwrap().flags.progress_reports);
        assert_eq!(parsed("--reads -1").unwrap().flags.reads, -1);
        assert_eq!(parsed("--num=5 -- --num=6").unwrap().flags.num, 5);
        assert!(parsed("--help").unwrap().wants_help);
    }

    #[test]
    fn an_unknown_flag_is_one_line_with_the_nearest_name() {
        let error = parsed("--bloom_bit=10").unwrap_err();
        assert_eq!(error, "--bloom_bit: unknown flag; did you mean --bloom_bits?");
        let error = parsed("--zzzzqqq=10").unwrap_err();
        assert_eq!(error, "--zzzzqqq: unknown flag; see --help");
        assert!(parsed("10").unwrap_err().contains("not a flag"));
    }

    #[test]
    fn undefok_covers_names_before_and_after_it() {
        assert!(parsed("--shiny=1 --undefok=shiny,other --noother").is_ok());
        assert!(parsed("--undefok shiny --shiny 7 --num=3").is_ok_and(|line| line.flags.num == 3));
        assert!(parsed("--undefok=shiny --other").is_err());
    }

    #[test]
    fn flags_that_would_change_the_measurement_are_refused_at_other_values() {
        assert!(
            parsed("--compaction_style=0 --noenable_blob_files --inplace_update_support=0").is_ok()
        );
        let error = parsed("--compaction_style=1").unwrap_err();
        assert_eq!(error, "--compaction_style=1: Treering offers only 0 here");
        assert!(parsed("--use_uint64_comparator").is_err());
        let line =
            parsed("--cache_numshardbits=6 --memtablerep=skip_list --open_files -1").unwrap();
        let names: Vec<&str> = line.without_effect.iter().map(String::as_str).collect();
        assert_eq!(names, ["cache_numshardbits", "memtablerep", "open_files"]);
    }

    #[test]
    fn a_wrong_value_names_the_flag_and_the_reason() {
        assert_eq!(parsed("--num=many").unwrap_err(), "--num=many: not an integer");
        assert_eq!(parsed("--num").unwrap_err(), "--num: needs a value");
        assert!(parsed("--sync=maybe").unwrap_err().contains("not a truth value"));
    }

    #[test]
    fn a_flag_file_that_names_itself_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flags");
        std::fs::write(&path, format!("# loop\n--num=9\n--flagfile={}\n", path.display())).unwrap();
        let line = format!("--flagfile={}", path.display());
        assert!(parse([line.clone()]).unwrap_err().contains("nest deeper"));
        std::fs::write(&path, "--num=9\n\n--sync\n").unwrap();
        assert!(parse([line]).is_ok_and(|line| line.flags.num == 9 && line.flags.sync));
    }
}
