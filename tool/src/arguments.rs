//! The command line.

use crate::key_text;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Looks into, checks and repairs Treering databases that are closed.
///
/// Keys are printed, and may be given, with \xNN for bytes that are not printable. The exit code is 0 where all is well, 1 where damage
/// was found, 2 where the question could not be answered.
#[derive(Debug, Parser)]
#[command(name = "treering-tool", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Print JSON: one document, or one object a line where entries or records are listed
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every edit of a manifest, and the keyspaces, levels and tables that they add up to
    Manifest {
        /// A database directory (then the manifest that CURRENT names), or a file MANIFEST-n
        #[arg(value_name = "DIR|FILE")]
        target: PathBuf,
    },
    /// Print the records of the write-ahead log, and where and why it ends
    Wal(Wal),
    /// Print what a table says of itself; dump or verify its entries
    Table(Table),
    /// Verify files of any kind, recognised by their names; exit code 1 if one is damaged
    Verify {
        /// Tables, manifests, segments of the log, RING, CURRENT
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Check a whole closed database without changing it; exit code 1 if it is damaged
    ///
    /// Goes from CURRENT to the manifest to every byte of every table and through the log, and lists stray files. Refuses a
    /// database that is open.
    Check {
        /// The database directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Rebuild CURRENT and the manifest of a database that has lost them, from its tables and its log
    ///
    /// Nothing is destroyed: the old CURRENT and manifests, damaged tables and what else cannot stay are kept in a new
    /// directory lost-N inside of the database. Of a manifest that can be read in part, what it says is used; without any, keyspaces but
    /// "default" are named recovered-ID and their options are guessed from their tables. The log is replayed by the next open.
    ///
    /// What no file says any more, nobody can know: where old inputs of a compaction stand beside its outputs and no manifest tells
    /// them apart, an entry that was deleted or overwritten may come back. The plan says where that may be.
    Repair(Repair),
    /// Print how many tables, bytes, entries and tombstones each level holds, and how well they compress and filter
    Stats {
        /// The database directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the entries of a keyspace, in the order of their keys
    ///
    /// The database is opened read-only: nothing is changed, and what the log holds is shown too.
    Scan(Scan),
}

/// Arguments of `wal`.
#[derive(Args, Debug)]
pub(crate) struct Wal {
    /// A database directory, or a file of its log (then the records that begin in it)
    #[arg(value_name = "DIR|FILE")]
    pub(crate) target: PathBuf,
    /// Print each operation of each record
    #[arg(long)]
    pub(crate) operations: bool,
    /// Print the values of the operations, too
    #[arg(long, requires = "operations")]
    pub(crate) values: bool,
}

/// Arguments of `table`.
#[derive(Args, Debug)]
pub(crate) struct Table {
    /// A table, n.sst
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Dump all entries: key, sequence number, kind, value length
    #[arg(long)]
    pub(crate) entries: bool,
    /// Read every block, and check checksums, order, index, filter and counts
    #[arg(long)]
    pub(crate) verify: bool,
}

/// Arguments of `repair`.
#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// The database directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `scan`.
#[derive(Args, Debug)]
pub(crate) struct Scan {
    /// The database directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Which keyspace
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) keyspace: String,
    /// The first key to print
    #[arg(long, value_name = "KEY", value_parser = key_text::parse)]
    pub(crate) from: Option<key_text::Key>,
    /// The first key not to print
    #[arg(long, value_name = "KEY", value_parser = key_text::parse)]
    pub(crate) to: Option<key_text::Key>,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY", value_parser = key_text::parse, conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<key_text::Key>,
    /// Entries to print at most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print no values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Print how many entries there are and nothing else
    #[arg(long, conflicts_with_all = ["hex", "raw", "keys_only"])]
    pub(crate) count: bool,
    /// Print keys and values as hexadecimal digits
    #[arg(long, conflicts_with = "raw")]
    pub(crate) hex: bool,
    /// Print keys and values as they are: key, tab, value, line feed
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}
