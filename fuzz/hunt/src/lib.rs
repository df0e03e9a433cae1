//! The reliability scoreboard as one program: each row is a promise of the engine and a way to break it.
//!
//! Floors, from the bottom: `drive` (cases, budgets, lines, kept seeds), `world` (small databases and what is known about
//! them), `rows` (one file a row), `results` and `report` (what was run, kept and told), and the program.

pub mod drive;
pub mod report;
pub mod results;
pub mod rows;
pub mod world;
