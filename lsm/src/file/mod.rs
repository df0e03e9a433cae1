//! Floor 4: readers and writers of the files of a database.

pub mod bounds;
pub mod change_file;
pub mod copy;
pub mod manifest;
pub mod name;
pub mod table_cursor;
pub mod table_reader;
pub mod table_writer;
pub mod wal;
